//! Slow clients beside fast ones. Only the fast ones are measured: what the slow ones do to them is the question.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use super::child::Go;
use super::requests::{Tally, patient_client};

/// Bytes of a slow client's request body, which it also reads as the answer.
const BODY: usize = 64 * 1024;
/// Bytes that are sent one a second; the rest goes at once.
const DRIPPED: usize = 4;
/// Bytes that a slow client reads a second.
const READ: usize = 1024;
/// A small buffer in the kernel, so that what is not read stays with the server.
const RECEIVE_BUFFER: u32 = 4096;
/// Slow clients that connect at a time.
const CONNECTING: usize = 50;

pub(super) async fn run(address: SocketAddr, slow: usize, fast: usize, run_ms: u64, mut go: Go) {
    let connected = Rc::new(Cell::new(0_usize));
    for nth in 0..slow {
        let connected = Rc::clone(&connected);
        tokio::task::spawn_local(async move {
            loop {
                let _ = slow_client(address, &connected).await;
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
        if nth % CONNECTING == CONNECTING - 1 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    // The first bodies are complete and being answered by then.
    tokio::time::sleep(Duration::from_secs(DRIPPED as u64 + 2)).await;
    let tally = Rc::new(Tally::default());
    let end = Rc::new(Cell::new(false));
    if !go.next(json!({ "connected": connected.get() })).await {
        return;
    }
    let tasks: Vec<_> = (0..fast)
        .map(|nth| tokio::task::spawn_local(patient_client(address, nth, Rc::clone(&tally), Rc::clone(&end))))
        .collect();
    let ending = async {
        tokio::time::sleep(Duration::from_millis(run_ms)).await;
        end.set(true);
        for task in tasks {
            let _ = task.await;
        }
    };
    // Measuring lasts a little longer than the clients, so that the unfinished are in it.
    let (result, ()) = tokio::join!(tally.measure(run_ms + 200), ending);
    go.next(result).await;
}

/// One request of a slow client. Its end, early or not, is no concern here.
async fn slow_client(address: SocketAddr, connected: &Cell<usize>) -> std::io::Result<()> {
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
    let mut stream: TcpStream = socket.connect(address).await?;
    stream.set_nodelay(true)?;
    connected.set(connected.get() + 1);
    let head = format!("POST /echo?n=00000000 HTTP/1.1\r\nhost: bench\r\ncontent-length: {BODY}\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(&[b's'; BODY - DRIPPED]).await?;
    for _ in 0..DRIPPED {
        tokio::time::sleep(Duration::from_secs(1)).await;
        stream.write_all(b"s").await?;
    }
    let mut buffer = [0; READ];
    while stream.read(&mut buffer).await? > 0 {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    Ok(())
}
