//! Opening a connection to Redis: TCP, unix socket or TLS, then who we are and what the server is.
//!
//! Nothing here retries; whoever owns the connection does.

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use redis_protocol::resp2::types::BytesFrame;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use super::local_ms;
use super::wire::{take_reply, text_of, write_command};
use crate::config::{RedisAddress, RedisUrl};

/// Anything that a connection can run over.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Stream for T {}

/// Time for the whole of connecting and greeting.
const DIAL_TIME: Duration = Duration::from_secs(2);
/// A peer that is gone without a word is found out by the kernel after 15 s idle and three probes, 5 s apart.
const KEEPALIVE: (Duration, Duration, u32) = (Duration::from_secs(15), Duration::from_secs(5), 3);

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The way there failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// No answer in time.
    #[error("no answer within {} s", DIAL_TIME.as_secs())]
    Timeout,
    /// The server is reading its data back into memory.
    #[error("it is loading its data")]
    Loading,
    /// The server refused us; its words.
    #[error("{0}")]
    Refused(String),
}

/// What the server said of itself.
#[derive(Debug)]
pub(crate) struct Greeting {
    pub(crate) run_id: String,
    pub(crate) clock_offset: i64,
}

/// A greeted connection, with what it sent beyond the greeting.
pub(crate) struct Dialled {
    pub(crate) stream: Box<dyn Stream>,
    pub(crate) buffer: BytesMut,
    pub(crate) greeting: Greeting,
}

/// Connects, authenticates, selects the database, names the connection, and asks for the clock and the run id.
pub(crate) async fn dial(url: &RedisUrl, name: &str) -> Result<Dialled, DialError> {
    let work = async {
        let stream = open(url).await?;
        greet(stream, url, name).await
    };
    timeout(DIAL_TIME, work).await.map_err(|_| DialError::Timeout)?
}

/// Connects, and says nothing yet.
pub(crate) async fn open(url: &RedisUrl) -> io::Result<Box<dyn Stream>> {
    match &url.address {
        RedisAddress::Unix(path) => Ok(Box::new(UnixStream::connect(path).await?)),
        RedisAddress::Tcp(host, port) => {
            let tcp = TcpStream::connect((host.as_str(), *port)).await?;
            tcp.set_nodelay(true)?;
            let (idle, interval, probes) = KEEPALIVE;
            let keepalive = socket2::TcpKeepalive::new().with_time(idle).with_interval(interval).with_retries(probes);
            socket2::SockRef::from(&tcp).set_tcp_keepalive(&keepalive)?;
            if url.tls { Ok(Box::new(wrap_tls(tcp, host).await?)) } else { Ok(Box::new(tcp)) }
        }
    }
}

async fn wrap_tls(tcp: TcpStream, host: &str) -> io::Result<impl Stream + use<>> {
    let name = ServerName::try_from(host.to_owned())
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, format!("`{host}` is no name for TLS")))?;
    tokio_rustls::TlsConnector::from(crate::tls::client_config()?).connect(name, tcp).await
}

async fn greet(mut stream: Box<dyn Stream>, url: &RedisUrl, name: &str) -> Result<Dialled, DialError> {
    let mut out = BytesMut::new();
    let mut replies = 4;
    if let Some(password) = &url.password {
        let user = url.user.as_deref().unwrap_or("default");
        write_command(&mut out, &[b"AUTH", user.as_bytes(), password.expose().as_bytes()]);
        replies += 1;
    }
    if url.db != 0 {
        write_command(&mut out, &[b"SELECT", url.db.to_string().as_bytes()]);
        replies += 1;
    }
    write_command(&mut out, &[b"CLIENT", b"SETNAME", name.as_bytes()]);
    // Allowed while a server reads its data back, as all of these are: it alone says so.
    write_command(&mut out, &[b"INFO", b"persistence"]);
    write_command(&mut out, &[b"TIME"]);
    write_command(&mut out, &[b"INFO", b"server"]);
    stream.write_all(&out).await?;
    let mut buffer = BytesMut::with_capacity(8 * 1024);
    let mut last = Vec::with_capacity(replies);
    for _ in 0..replies {
        last.push(read_reply(&mut stream, &mut buffer).await?);
    }
    if text_of(&last[replies - 3]).lines().any(|line| line.trim_end() == "loading:1") {
        return Err(DialError::Loading);
    }
    let (time, info) = (&last[replies - 2], &last[replies - 1]);
    let greeting = Greeting { run_id: run_id_of(info), clock_offset: clock_offset_of(time) };
    Ok(Dialled { stream, buffer, greeting })
}

async fn read_reply(stream: &mut Box<dyn Stream>, buffer: &mut BytesMut) -> Result<BytesFrame, DialError> {
    loop {
        match take_reply(buffer)? {
            Some(BytesFrame::Error(text)) if text.starts_with("LOADING") => return Err(DialError::Loading),
            Some(BytesFrame::Error(text)) => return Err(DialError::Refused(text.to_string())),
            Some(frame) => return Ok(frame),
            None => {}
        }
        if stream.read_buf(buffer).await? == 0 {
            return Err(DialError::Io(io::ErrorKind::UnexpectedEof.into()));
        }
    }
}

/// `TIME` gives seconds and microseconds.
fn clock_offset_of(time: &BytesFrame) -> i64 {
    let BytesFrame::Array(parts) = time else { return 0 };
    let numbers: Vec<i64> = parts.iter().filter_map(|part| text_of(part).parse().ok()).collect();
    match numbers[..] {
        [seconds, micros] => seconds * 1000 + micros / 1000 - local_ms(),
        _ => 0,
    }
}

fn run_id_of(info: &BytesFrame) -> String {
    text_of(info).lines().find_map(|line| line.strip_prefix("run_id:")).unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_run_id_is_found_in_info() {
        let info = BytesFrame::BulkString("# Server\r\nredis_version:7.0.15\r\nrun_id:abc123\r\ntcp_port:1\r\n".into());
        assert_eq!(run_id_of(&info), "abc123");
    }
}
