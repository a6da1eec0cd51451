//! Clients that never finish the head of a request: a byte now and then, as many connections as they can have, and a new
//! one for each that is ended.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::child::Go;

/// Clients that connect at a time, and the time between two such groups.
const CONNECTING: usize = 50;
const BETWEEN: Duration = Duration::from_millis(10);
/// After this time those that are connected have to do.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often it is looked whether all are.
const LOOK: Duration = Duration::from_millis(10);

/// What all of them share.
#[derive(Default)]
struct Crowd {
    open: Cell<usize>,
    /// Connections that the server has ended.
    ended: Cell<usize>,
}

/// So many clients; each sends a byte every `pause_ms` milliseconds. Says how many are connected, and when asked how many
/// are then and how many connections have been ended since.
pub(super) async fn run(address: SocketAddr, clients: usize, pause_ms: u64, mut go: Go) {
    let crowd = Rc::new(Crowd::default());
    let pause = Duration::from_millis(pause_ms);
    for nth in 0..clients {
        tokio::task::spawn_local(client(address, pause, Rc::clone(&crowd)));
        if nth % CONNECTING == CONNECTING - 1 {
            sleep(BETWEEN).await;
        }
    }
    let all = async {
        while crowd.open.get() < clients {
            sleep(LOOK).await;
        }
    };
    let _ = timeout(PATIENCE, all).await;
    let connected = crowd.open.get();
    crowd.ended.set(0);
    if go.next(json!({ "connected": connected })).await {
        go.next(json!({ "open": crowd.open.get(), "ended": crowd.ended.get() })).await;
    }
}

async fn client(address: SocketAddr, pause: Duration, crowd: Rc<Crowd>) {
    let count = |cell: &Cell<usize>, more: bool| cell.set(if more { cell.get() + 1 } else { cell.get() - 1 });
    loop {
        if let Ok(stream) = TcpStream::connect(address).await {
            count(&crowd.open, true);
            let _ = drip(stream, pause).await;
            count(&crowd.open, false);
            count(&crowd.ended, true);
        } else {
            sleep(pause).await;
        }
    }
}

/// Until the server ends it.
async fn drip(mut stream: TcpStream, pause: Duration) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    stream.write_all(b"GET /hello HTTP/1.1\r\nhost: bench\r\nx-slow: ").await?;
    let mut said = [0; 512];
    let mut next = Instant::now();
    loop {
        next += pause;
        match timeout_at(next, stream.read(&mut said)).await {
            Ok(Ok(0)) => return Ok(()),
            Ok(read) => drop(read?),
            Err(_) => stream.write_all(b"s").await?,
        }
    }
}
