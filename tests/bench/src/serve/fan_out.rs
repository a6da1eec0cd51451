//! Streams with as little as tokio allows: a task and a place in a broadcast channel for each reader, framed once, what
//! waits joined into one write. One channel; no ids, no heartbeats, no limits. Whatever a front does more is what it costs.

use std::io::IoSlice;
use std::net::SocketAddr;
use std::path::PathBuf;

use bytes::{Buf, Bytes, BytesMut};
use memchr::memmem;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::runtime::Builder;
use tokio::sync::broadcast::{self, Receiver, Sender, error::TryRecvError};

/// Messages kept for who is behind.
const KEPT: usize = 1024;
/// Messages joined into one write, at most.
const JOIN: usize = 64;
const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-store\r\n\
                      transfer-encoding: chunked\r\n\r\n3\r\n:\n\n\r\n";

/// Serves a channel of the Redis at `socket` on so many threads, which share all tasks.
pub(super) fn serve(address: SocketAddr, threads: usize, socket: PathBuf, channel: String) {
    let mut builder = Builder::new_multi_thread();
    let runtime = builder.worker_threads(threads).enable_all().build().expect("a runtime can be made");
    let (sender, _) = broadcast::channel(KEPT);
    runtime.block_on(async {
        let listener = TcpListener::bind(address).await.expect("the address is free");
        tokio::spawn(subscribe(socket, channel, sender.clone()));
        // Accepting on a worker thread, not on the one that only blocks here.
        let _ = tokio::spawn(accept(listener, sender)).await;
    });
}

async fn accept(listener: TcpListener, sender: Sender<Bytes>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let _ = stream.set_nodelay(true);
        tokio::spawn(greet(stream, sender.clone()));
    }
}

/// Reads the head in a task of its own: what it needs is not kept by the stream.
async fn greet(mut stream: TcpStream, sender: Sender<Bytes>) {
    let mut head = Vec::with_capacity(512);
    while memmem::find(&head, b"\r\n\r\n").is_none() {
        match stream.read_buf(&mut head).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
    }
    let receiver = sender.subscribe();
    if stream.write_all(HEAD).await.is_ok() {
        tokio::spawn(stream_to(stream, receiver));
    }
}

async fn stream_to(mut stream: TcpStream, mut receiver: Receiver<Bytes>) {
    loop {
        let first = tokio::select! {
            biased;
            message = receiver.recv() => message,
            () = gone(&stream) => return,
        };
        let Ok(first) = first else { return };
        let wrote = match receiver.try_recv() {
            Err(_) => stream.write_all(&first).await,
            Ok(second) => {
                let mut waiting = vec![first, second];
                while waiting.len() < JOIN {
                    match receiver.try_recv() {
                        Ok(next) => waiting.push(next),
                        Err(TryRecvError::Lagged(_)) => return,
                        Err(_) => break,
                    }
                }
                write_joined(&mut stream, &mut waiting).await
            }
        };
        if wrote.is_err() {
            return;
        }
    }
}

/// Waits until the reader has left: without that, streams that nobody reads would be kept until the next message.
async fn gone(stream: &TcpStream) {
    let mut scrap = [0; 64];
    while stream.readable().await.is_ok() {
        match stream.try_read(&mut scrap) {
            Ok(0) => return,
            Err(error) if error.kind() != std::io::ErrorKind::WouldBlock => return,
            _ => {}
        }
    }
}

async fn write_joined(stream: &mut TcpStream, waiting: &mut [Bytes]) -> std::io::Result<()> {
    let mut rest = waiting;
    while !rest.is_empty() {
        let slices: Vec<_> = rest.iter().map(|bytes| IoSlice::new(bytes)).collect();
        let mut written = stream.write_vectored(&slices).await?;
        while let Some(first) = rest.first_mut() {
            if written < first.len() {
                first.advance(written);
                break;
            }
            written -= first.len();
            rest = &mut rest[1..];
        }
    }
    Ok(())
}

/// Reads what Redis pushes: of a message seven lines, of which the last is it; of the subscription six.
async fn subscribe(socket: PathBuf, channel: String, sender: Sender<Bytes>) {
    let mut redis = UnixStream::connect(socket).await.expect("Redis is there");
    let command = format!("*2\r\n$9\r\nSUBSCRIBE\r\n${}\r\n{channel}\r\n", channel.len());
    redis.write_all(command.as_bytes()).await.expect("Redis takes a command");
    let mut buffer = BytesMut::with_capacity(64 * 1024);
    let mut nth = 0;
    while redis.read_buf(&mut buffer).await.expect("Redis stays") > 0 {
        while let Some(end) = memmem::find(&buffer, b"\r\n") {
            let line = buffer.split_to(end + 2);
            nth = match nth {
                5 if line.starts_with(b":") => 0,
                6 => {
                    let event = format!("data: {}\n\n", String::from_utf8_lossy(&line[..end]));
                    // Nobody may be reading.
                    let _ = sender.send(format!("{:x}\r\n{event}\r\n", event.len()).into());
                    0
                }
                earlier => earlier + 1,
            };
        }
    }
}
