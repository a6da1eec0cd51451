//! Is it there, and has it loaded its data?
//!
//! One PING over the unix socket, written by hand: this is asked before anything else of Redis is needed.

use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;

/// Time for one question.
const PING_TIME: Duration = Duration::from_secs(1);

/// What a server said.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Pong {
    Ready,
    Loading,
    /// Nothing, or nothing sensible.
    Nothing,
}

pub(super) async fn ping(socket: &Path) -> Pong {
    match timeout(PING_TIME, ask(socket)).await {
        Ok(Ok(answer)) if answer.starts_with(b"+PONG") => Pong::Ready,
        Ok(Ok(answer)) if answer.starts_with(b"-LOADING") => Pong::Loading,
        _ => Pong::Nothing,
    }
}

async fn ask(socket: &Path) -> std::io::Result<Vec<u8>> {
    let mut stream = UnixStream::connect(socket).await?;
    stream.write_all(b"*1\r\n$4\r\nPING\r\n").await?;
    let mut answer = Vec::with_capacity(256);
    while !answer.ends_with(b"\r\n") && answer.len() < answer.capacity() && stream.read_buf(&mut answer).await? > 0 {}
    Ok(answer)
}
