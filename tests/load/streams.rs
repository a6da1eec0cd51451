//! Idle streams: how much memory each costs, and how long one message takes to all of them.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::report::Report;
use crate::stage::Stage;

/// Streams opened.
const STREAMS: usize = 10_000;
/// Streams from one source address, far below its ports.
const PER_ADDRESS: usize = 2_500;
/// Streams being opened at the same time.
const AT_ONCE: usize = 200;
/// Bytes a stream may cost, user space alone.
const MOST_BYTES_EACH: u64 = 10 * 1024;

pub(crate) async fn measure(stage: &Stage, report: &mut Report) {
    // The first few fill what the front allocates once.
    let warm = open(stage.address(), 0..100).await;
    let before = stage.memory();
    let start = Instant::now();
    let mut streams = open(stage.address(), 100..100 + STREAMS).await;
    report.add("streams opened per second", STREAMS as f64 / start.elapsed().as_secs_f64(), "1/s");
    let each = stage.memory().saturating_sub(before) / STREAMS as u64;
    report.add("idle streams", STREAMS, "streams");
    report.add("memory of an idle stream", each, "bytes");
    report.check(each <= MOST_BYTES_EACH, "an idle stream costs at most 10 KiB");
    fan_out(stage, &mut streams, report).await;
    let after = stage.memory().saturating_sub(before) / STREAMS as u64;
    report.add("memory of a stream after messages", after, "bytes");
    drop((warm, streams));
}

async fn open(address: SocketAddr, numbers: std::ops::Range<usize>) -> Vec<TcpStream> {
    let mut streams = Vec::with_capacity(numbers.len());
    let numbers: Vec<_> = numbers.collect();
    for group in numbers.chunks(AT_ONCE) {
        let opening: Vec<_> = group.iter().map(|number| tokio::spawn(open_one(address, *number))).collect();
        for one in opening {
            streams.push(one.await.expect("no stream is refused"));
        }
    }
    streams
}

/// Opens a stream and reads up to its opening comment and reconnection time.
async fn open_one(address: SocketAddr, number: usize) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("the limit on descriptors is not reached");
    let last = u8::try_from(2 + number / PER_ADDRESS).expect("few addresses");
    socket.bind((Ipv4Addr::new(127, 0, 0, last), 0).into()).expect("every 127.x address is ours");
    let mut stream = socket.connect(address).await.expect("the front accepts");
    stream.write_all(b"GET /sub/load HTTP/1.1\r\nHost: load\r\n\r\n").await.expect("the front reads");
    until(&mut stream, b"retry: ").await;
    stream
}

/// Reads until `text` has come; it must not be cut in two by two reads, which small first packets are not.
async fn until(stream: &mut TcpStream, text: &[u8]) {
    let mut seen = Vec::with_capacity(512);
    while !seen.windows(text.len()).any(|part| part == text) {
        let count = stream.read_buf(&mut seen).await.expect("the stream goes on");
        assert!(count > 0, "a stream ended: {}", String::from_utf8_lossy(&seen));
    }
}

/// One publication to all of them, several times; the median counts.
async fn fan_out(stage: &Stage, streams: &mut [TcpStream], report: &mut Report) {
    let mut redis = stage.world.redis.connect();
    let mut times = Vec::new();
    for round in 0..5 {
        let text = format!("round {round} {}", "x".repeat(100));
        let start = Instant::now();
        redis.cmd(&["PUBLISH", "load", &text]);
        for stream in streams.iter_mut() {
            until(stream, format!("round {round}").as_bytes()).await;
        }
        times.push(start.elapsed().as_secs_f64() * 1_000.0);
    }
    times.sort_by(f64::total_cmp);
    report.add("one message to all of them, median of 5", times[2], "ms");
}
