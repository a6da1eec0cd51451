//! A TCP proxy before Redis that is honest until told otherwise: it can delay what passes, swallow it, cut connections,
//! and close one direction of them.
//!
//! Two threads a connection, one each way. It must not look at what passes.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crate::chance::Chance;

/// Bytes read at once.
const PIECE: usize = 16 * 1024;
/// How often something that is held back looks whether it may go on.
const PAUSE: Duration = Duration::from_millis(5);

/// A pair of sockets that belong together: towards the client and towards Redis.
#[derive(Debug)]
struct Pair {
    client: TcpStream,
    redis: TcpStream,
    ended: Arc<AtomicBool>,
}

#[derive(Debug, Default)]
struct Shared {
    pairs: Mutex<Vec<Pair>>,
    /// Milliseconds that each piece waits.
    delay: AtomicU64,
    /// Nothing passes, and nobody is told.
    hole: AtomicBool,
}

impl Shared {
    fn pairs(&self) -> MutexGuard<'_, Vec<Pair>> {
        let mut pairs = self.pairs.lock().unwrap_or_else(PoisonError::into_inner);
        pairs.retain(|pair| !pair.ended.load(Ordering::Relaxed));
        pairs
    }
}

/// A proxy that runs as long as this program.
#[derive(Debug)]
pub(crate) struct Proxy {
    shared: Arc<Shared>,
    port: u16,
}

impl Proxy {
    /// Starts one before the Redis on this port of 127.0.0.1.
    pub(crate) fn start(redis: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("there is a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let shared = Arc::new(Shared::default());
        let accepting = Arc::clone(&shared);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                accept(&accepting, client, redis);
            }
        });
        Self { shared, port }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Each piece of data waits this long, both ways.
    pub(crate) fn delay(&self, time: Duration) {
        self.shared.delay.store(u64::try_from(time.as_millis()).unwrap_or_default(), Ordering::Relaxed);
    }

    /// Lets nothing pass, and closes nothing: what a lost network looks like.
    pub(crate) fn hole(&self, on: bool) {
        self.shared.hole.store(on, Ordering::Relaxed);
    }

    /// Cuts one connection, both ways.
    pub(crate) fn cut(&self, chance: &mut Chance) {
        if let Some(pair) = chance.pick(&self.shared.pairs()) {
            let _ = pair.client.shutdown(Shutdown::Both);
            let _ = pair.redis.shutdown(Shutdown::Both);
        }
    }

    /// Closes one direction of one connection.
    pub(crate) fn half_close(&self, chance: &mut Chance) {
        let to_client = chance.unit() < 0.5;
        if let Some(pair) = chance.pick(&self.shared.pairs()) {
            let _ = if to_client { &pair.client } else { &pair.redis }.shutdown(Shutdown::Write);
        }
    }
}

fn accept(shared: &Arc<Shared>, client: TcpStream, redis: u16) {
    // Redis is away: the client's connection ends as it begins.
    let Ok(redis) = TcpStream::connect(("127.0.0.1", redis)) else { return };
    let (_, _) = (client.set_nodelay(true), redis.set_nodelay(true));
    let handles = || Some((client.try_clone().ok()?, redis.try_clone().ok()?));
    let (Some(for_pair), Some(there), Some(back)) = (handles(), handles(), handles()) else { return };
    let ended = Arc::new(AtomicBool::new(false));
    shared.pairs().push(Pair { client: for_pair.0, redis: for_pair.1, ended: Arc::clone(&ended) });
    for (from, to) in [(there.0, there.1), (back.1, back.0)] {
        let (shared, ended) = (Arc::clone(shared), Arc::clone(&ended));
        thread::spawn(move || {
            pass(&shared, from, to);
            ended.store(true, Ordering::Relaxed);
        });
    }
}

/// Carries one direction until it ends, and ends it on the other side.
fn pass(shared: &Shared, mut from: TcpStream, mut to: TcpStream) {
    let mut piece = vec![0; PIECE];
    while let Ok(read) = from.read(&mut piece) {
        if read == 0 {
            break;
        }
        let delay = shared.delay.load(Ordering::Relaxed);
        if delay > 0 {
            thread::sleep(Duration::from_millis(delay));
        }
        while shared.hole.load(Ordering::Relaxed) {
            thread::sleep(PAUSE);
        }
        if to.write_all(&piece[..read]).is_err() {
            let _ = from.shutdown(Shutdown::Both);
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Proxy, TcpStream, TcpStream) {
        let server = TcpListener::bind(("127.0.0.1", 0)).expect("there is a free port");
        let proxy = Proxy::start(server.local_addr().expect("it is bound").port());
        let client = TcpStream::connect(("127.0.0.1", proxy.port())).expect("it listens");
        (proxy, client, server.accept().expect("it is passed on").0)
    }

    #[test]
    fn it_passes_and_cuts() {
        let (proxy, mut client, mut server) = pair();
        let mut read = [0; 4];
        client.write_all(b"ping").expect("it is open");
        server.read_exact(&mut read).expect("it passes");
        server.write_all(b"pong").expect("it is open");
        client.read_exact(&mut read).expect("it passes back");
        assert_eq!(&read, b"pong");
        proxy.cut(&mut Chance::new(1, 1));
        assert_eq!(client.read(&mut read).unwrap_or_default(), 0);
        assert_eq!(server.read(&mut read).unwrap_or_default(), 0);
    }

    #[test]
    fn a_half_closed_connection_passes_the_other_way() {
        let (proxy, mut client, mut server) = pair();
        client.write_all(b"1").expect("it is open");
        server.read_exact(&mut [0]).expect("it passes");
        let mut chance = Chance::new(1, 1);
        while chance.clone().unit() < 0.5 {
            chance.unit();
        }
        proxy.half_close(&mut chance); // towards the server
        assert_eq!(server.read(&mut [0]).expect("an end, not an error"), 0);
        server.write_all(b"2").expect("this way it is open");
        client.read_exact(&mut [0]).expect("it passes back");
    }
}
