//! Publishes messages in order, as a program beside the server would: over one connection that is kept.

use std::path::Path;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::mpsc;

use super::response;
use crate::peers::Publish;

/// Where messages are handed in; they are published one after another.
pub(super) type Sender = mpsc::UnboundedSender<String>;

/// Starts publishing what is sent. An error goes to `failed`, once.
pub(super) fn start(publish: Publish, failed: impl FnOnce(String) + 'static) -> Sender {
    let (sender, receiver) = mpsc::unbounded_channel();
    tokio::task::spawn_local(async move {
        let result = match &publish {
            Publish::Redis { socket, channels } => redis(socket, channels, receiver).await,
            Publish::Post { .. } => post(&publish, receiver).await,
        };
        if let Err(error) = result {
            failed(format!("publishing: {error}"));
        }
    });
    sender
}

/// Messages handed to Redis in one write, at most.
const TOGETHER: usize = 64;

/// Hands on together what waits, as a program with several messages to publish does, and waits for the replies before
/// it takes more.
async fn redis(
    socket: &Path,
    channels: &[String],
    mut messages: mpsc::UnboundedReceiver<String>,
) -> Result<(), String> {
    let mut stream = UnixStream::connect(socket).await.map_err(|error| error.to_string())?;
    let (mut waiting, mut replies) = (Vec::new(), Vec::new());
    while messages.recv_many(&mut waiting, TOGETHER).await > 0 {
        let commands = waiting.iter().flat_map(|message| channels.iter().map(move |channel| publish(channel, message)));
        let commands: String = commands.collect();
        stream.write_all(commands.as_bytes()).await.map_err(|error| error.to_string())?;
        replies.clear();
        while replies.iter().filter(|byte| **byte == b'\n').count() < channels.len() * waiting.len() {
            if stream.read_buf(&mut replies).await.map_err(|error| error.to_string())? == 0 {
                return Err("Redis closed the connection".into());
            }
        }
        waiting.clear();
        if let Some(refused) = replies.split(|byte| *byte == b'\n').find(|line| line.first() == Some(&b'-')) {
            return Err(String::from_utf8_lossy(refused).into_owned());
        }
    }
    Ok(())
}

fn publish(channel: &str, message: &str) -> String {
    format!("*3\r\n$7\r\nPUBLISH\r\n${}\r\n{channel}\r\n${}\r\n{message}\r\n", channel.len(), message.len())
}

async fn post(publish: &Publish, mut messages: mpsc::UnboundedReceiver<String>) -> Result<(), String> {
    let Publish::Post { address, path, headers, before, after } = publish else { return Ok(()) };
    let mut open: Option<TcpStream> = None;
    let mut buffer = Vec::new();
    while let Some(message) = messages.recv().await {
        let length = before.len() + message.len() + after.len();
        let mut request = format!("POST {path} HTTP/1.1\r\nhost: {address}\r\ncontent-length: {length}\r\n");
        for header in headers {
            request += header;
            request += "\r\n";
        }
        request += "\r\n";
        request += before;
        request += &message;
        request += after;
        let reused = open.is_some();
        let mut result = attempt(&mut open, *address, &request, &mut buffer).await;
        // A connection that was closed while it was idle: nothing was published, once more on a new one.
        if reused && result.is_err() && buffer.is_empty() {
            open = None;
            result = attempt(&mut open, *address, &request, &mut buffer).await;
        }
        result?;
    }
    Ok(())
}

async fn attempt(
    open: &mut Option<TcpStream>,
    address: std::net::SocketAddr,
    request: &str,
    buffer: &mut Vec<u8>,
) -> Result<(), String> {
    buffer.clear();
    let stream = match open {
        Some(stream) => stream,
        None => {
            let stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
            let _ = stream.set_nodelay(true);
            open.insert(stream)
        }
    };
    stream.write_all(request.as_bytes()).await.map_err(|error| error.to_string())?;
    loop {
        let count = stream.read_buf(buffer).await.map_err(|error| error.to_string())?;
        let Some(head) = response::head(buffer)? else {
            if count == 0 {
                return Err("closed without an answer".into());
            }
            continue;
        };
        if !(200..300).contains(&head.status) {
            return Err(format!("status {}: {}", head.status, String::from_utf8_lossy(&buffer[head.length..])));
        }
        if count == 0 || response::is_whole(head, buffer) {
            if count == 0 || head.close {
                *open = None;
            }
            return Ok(());
        }
    }
}
