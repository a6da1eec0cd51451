//! Attacks that HTTP/2 is known for, each with frames by hand at a real front: the connection is ended and says why, it
//! is counted, others are served meanwhile, and memory does not grow.

use tempest_tests::h2::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, Frame, H2, HEADERS, PING, PRIORITY, RESET, SETTINGS,
    WINDOW_UPDATE, head,
};
use tempest_tests::{World, wait_until};

/// The error code that says «too much» (RFC 9113, section 7), and the one for a broken protocol's frame sizes and so on.
const ENHANCE_YOUR_CALM: u32 = 11;

/// What one attacker sends and what comes of it.
struct Attack {
    name: &'static str,
    /// Sent again and again until the front has had enough.
    bytes: Vec<u8>,
    /// Sent before.
    first: Vec<u8>,
    /// Why the connection ends, as it is counted; of several it depends on how it is cut into packets.
    reasons: &'static [&'static str],
}

fn attack(name: &'static str, reasons: &'static [&'static str], bytes: Vec<u8>) -> Attack {
    Attack { name, bytes, first: Vec::new(), reasons }
}

fn attacks() -> Vec<Attack> {
    let begun = Frame::bytes(HEADERS, END_HEADERS, 1, &head("POST", "/"));
    vec![
        attack("pings", &["control_frames"], Frame::bytes(PING, 0, 0, b"12345678")),
        attack("answers to pings that were not sent", &["control_frames"], Frame::bytes(PING, ACK, 0, b"12345678")),
        attack("settings", &["control_frames"], Frame::bytes(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100])),
        attack("priorities", &["control_frames"], Frame::bytes(PRIORITY, 0, 1, &[0, 0, 0, 0, 1])),
        attack("frames of unknown kinds", &["control_frames"], Frame::bytes(0xbb, 0, 0, b"x")),
        Attack {
            first: begun.clone(),
            ..attack("empty data", &["control_frames", "excess"], Frame::bytes(DATA, 0, 1, b""))
        },
        Attack {
            first: begun,
            ..attack("windows of one byte", &["control_frames"], Frame::bytes(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1]))
        },
        Attack {
            first: Frame::bytes(HEADERS, END_STREAM, 1, &head("GET", "/")),
            ..attack("a head without end", &["excess"], Frame::bytes(CONTINUATION, 0, 1, b"\x00\x01x\x01y"))
        },
        Attack {
            first: Frame::bytes(HEADERS, END_STREAM, 1, &head("GET", "/")),
            ..attack("a head without end and without fields", &["excess"], Frame::bytes(CONTINUATION, 0, 1, b""))
        },
    ]
}

/// Sends until the front closes, at most 200,000 times; gives the reason that it said.
fn play(world: &World, attack: &Attack) -> Option<u32> {
    let mut h2 = H2::connect(world.front.address());
    h2.send(&attack.first);
    let many = attack.bytes.repeat(100);
    for _ in 0..2000 {
        if h2.try_send(&many).is_err() {
            break;
        }
    }
    h2.until_end()
}

#[test]
fn each_attack_ends_its_connection_and_nobody_elses() {
    let mut world = World::start();
    let mut neighbour = H2::connect(world.front.address());
    neighbour.request(1, "GET", "/sub/news");
    neighbour.data_until(1, ": tempest");
    for attack in attacks() {
        let count =
            |reason: &&str| world.count("tempest_http2_connections_ended_total", &[&format!("reason=\"{reason}\"")]);
        let ended = || attack.reasons.iter().map(count).sum::<i64>();
        let before = ended();
        let said = play(&world, &attack);
        assert!(said.is_none_or(|said| said == ENHANCE_YOUR_CALM), "{}: {said:?}", attack.name);
        wait_until(attack.name, || ended() == before + 1);
        world.redis.cmd(&["PUBLISH", "news", attack.name]);
        neighbour.data_until(1, attack.name);
        assert_eq!(world.http().get("/sub/").status, 400, "others are served");
    }
    drop(neighbour);
    world.finish();
}

#[test]
fn memory_does_not_grow_by_attacks() {
    let world = World::start();
    let all = attacks();
    for attack in &all {
        play(&world, attack);
    }
    let before = world.front.process.rss_bytes();
    for attack in (0..3).flat_map(|_| &all) {
        play(&world, attack);
    }
    let grown = world.front.process.rss_bytes().saturating_sub(before);
    assert!(grown < 8_000_000, "memory grew by {grown} bytes");
    world.finish();
}

#[test]
fn requests_that_are_cancelled_at_once_end_the_connection() {
    let mut world = World::builder().set("limits.h2_resets = 20").start();
    // All in one packet: h2 sees them cancelled before anybody has taken them.
    let mut h2 = H2::connect(world.front.address());
    let pair = |stream: u32| {
        let reset = Frame::bytes(RESET, 0, stream, &8u32.to_be_bytes());
        [Frame::bytes(HEADERS, END_STREAM | END_HEADERS, stream, &head("GET", "/")), reset].concat()
    };
    h2.send(&(0..200).flat_map(|n| pair(2 * n + 1)).collect::<Vec<u8>>());
    assert!(h2.until_end().is_none_or(|said| said == ENHANCE_YOUR_CALM));
    let ended = |world: &World, reason| world.count("tempest_http2_connections_ended_total", &[reason]);
    wait_until("the end to be counted", || ended(&world, "resets") + ended(&world, "excess") == 1);
    // One after another, each begun before it is cancelled: a job and its withdrawal each time.
    let before = ended(&world, "resets");
    let mut h2 = H2::connect(world.front.address());
    let mut begun = 0;
    for n in 0..100u32 {
        h2.request(2 * n + 1, "GET", "/");
        h2.frame(PING, 0, 0, &u64::from(n).to_be_bytes());
        let answered = std::iter::from_fn(|| h2.try_next().ok()).any(|frame| frame.kind == PING && frame.flags == ACK);
        if !answered {
            break;
        }
        begun = n + 1;
        h2.frame(RESET, 0, 2 * n + 1, &8u32.to_be_bytes());
    }
    assert!((20..=22).contains(&begun), "{begun} requests were begun");
    wait_until("the end to be counted", || ended(&world, "resets") == before + 1);
    wait_until("all jobs to be withdrawn", || world.redis.llen("tempest:web") == 0);
    assert_eq!(world.http().get("/sub/").status, 400, "others are served");
    drop(h2);
    world.finish();
}

/// One field of 4,000 bytes that is remembered, and then named again by one byte each: the list of fields that these
/// 16 KB stand for has 64 MB.
#[test]
fn a_head_that_unfolds_to_megabytes_is_refused() {
    let world = World::start();
    let mut bomb = vec![0x40, 1, b'a'];
    // 3,500 in the code of RFC 7541, section 5.1, with seven bits in the first byte.
    let rest = 3500 - 127;
    bomb.extend_from_slice(&[127, 0x80 | (rest % 128) as u8, (rest / 128) as u8]);
    bomb.extend_from_slice(&[b'x'; 3500]);
    bomb.extend_from_slice(&[0x80 | 62; 12_000]);
    let before = world.front.process.rss_bytes();
    for _ in 0..20 {
        let mut h2 = H2::connect(world.front.address());
        h2.frame(HEADERS, END_STREAM | END_HEADERS, 1, &[head("GET", "/"), bomb.clone()].concat());
        loop {
            match h2.try_next() {
                Ok(frame) if frame.kind == HEADERS => break assert_eq!(frame.status(), 431),
                Ok(_) => {}
                Err(error) => {
                    assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock, "neither refused nor ended");
                    break;
                }
            }
        }
    }
    let grown = world.front.process.rss_bytes().saturating_sub(before);
    assert!(grown < 8_000_000, "memory grew by {grown} bytes");
    assert_eq!(world.http().get("/sub/").status, 400, "others are served");
    world.finish();
}
