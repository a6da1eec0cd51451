//! An HTTP/1.1 client over a plain socket: writes exactly the bytes a test gives and reads exactly what comes.
//!
//! It checks nothing and adds nothing, so hostile input can be sent; sending and reading are separate, so a test can
//! play the worker in between, in one thread.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::tls::{Tls, Trust};
use crate::wait::PATIENCE;

/// A response as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// `HTTP/1.1`.
    pub version: String,
    /// The status code.
    pub status: u16,
    /// Names in lower case, values as they came (bytes above 0x7f as Latin-1), in order.
    pub headers: Vec<(String, String)>,
    /// The body, transfer coding removed.
    pub body: Vec<u8>,
    /// False: the connection ended before the body did.
    pub complete: bool,
}

impl Response {
    /// The first value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// All values of a header.
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str()).collect()
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// What comes next of a chunked body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Chunk {
    /// A chunk's bytes.
    Data(Vec<u8>),
    /// The last chunk came.
    End,
    /// The connection ended before.
    Cut,
}

/// With TLS or without.
#[derive(Debug)]
enum Stream {
    Plain(TcpStream),
    Tls(Box<Tls>),
}

impl Stream {
    fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(tls) => &tls.sock,
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(buffer),
            Self::Tls(tls) => tls.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.write(bytes),
            Self::Tls(tls) => tls.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(socket) => socket.flush(),
            Self::Tls(tls) => tls.flush(),
        }
    }
}

/// One connection.
#[derive(Debug)]
pub struct Http {
    stream: BufReader<Stream>,
    local: SocketAddr,
    remote: SocketAddr,
}

impl Http {
    /// Connects. Reads give up after [`PATIENCE`].
    pub fn connect(address: SocketAddr) -> Self {
        Self::try_connect(address).unwrap_or_else(|error| panic!("cannot connect to {address}: {error}"))
    }

    /// The same, with the error in hand.
    pub fn try_connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let local = stream.local_addr()?;
        open_by_us().push(Open { local, remote: address, socket: stream.try_clone()? });
        Ok(Self { stream: BufReader::new(Stream::Plain(stream)), local, remote: address })
    }

    /// Connects by TLS and asks for a certificate of `name`; any is taken that is `trusted`.
    #[track_caller]
    pub fn connect_tls(address: SocketAddr, name: &str, trusted: &Trust) -> Self {
        Self::try_connect_tls(address, name, trusted).unwrap_or_else(|error| panic!("no TLS at {address}: {error}"))
    }

    /// The same, with the error in hand.
    pub fn try_connect_tls(address: SocketAddr, name: &str, trusted: &Trust) -> io::Result<Self> {
        let mut http = Self::try_connect(address)?;
        let plain = http.stream.get_ref().socket().try_clone()?;
        http.stream = BufReader::new(Stream::Tls(Box::new(trusted.greet(plain, name)?)));
        Ok(http)
    }

    /// True where the session of TLS is one of before.
    pub fn tls_is_resumed(&self) -> bool {
        match self.stream.get_ref() {
            Stream::Plain(_) => false,
            Stream::Tls(tls) => tls.conn.handshake_kind() == Some(rustls::HandshakeKind::Resumed),
        }
    }

    /// The certificate that was shown.
    pub fn tls_certificate(&self) -> Option<Vec<u8>> {
        match self.stream.get_ref() {
            Stream::Plain(_) => None,
            Stream::Tls(tls) => Some(tls.conn.peer_certificates()?.first()?.to_vec()),
        }
    }

    /// Writes these bytes; a front that has closed already is no error, its response tells.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.stream.get_mut().write_all(bytes.as_ref());
    }

    /// Writes these bytes and says whether the other side took them.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes.as_ref())
    }

    /// Writes a request with `Host: test`, the given header lines (each without its line end) and, where it is not
    /// empty, a body with its length.
    pub fn request(&mut self, method: &str, target: &str, headers: &[&str], body: &[u8]) {
        let mut out = format!("{method} {target} HTTP/1.1\r\nHost: test\r\n").into_bytes();
        for line in headers {
            out.extend_from_slice(line.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        if !body.is_empty() {
            out.extend_from_slice(format!("Content-Length: {}\r\n", body.len()).as_bytes());
        }
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(body);
        self.send(out);
    }

    /// GET and its response.
    #[track_caller]
    pub fn get(&mut self, target: &str) -> Response {
        self.request("GET", target, &[], b"");
        self.response()
    }

    /// Ends our direction; the other stays open.
    pub fn shutdown_write(&mut self) {
        let _ = self.stream.get_ref().socket().shutdown(Shutdown::Write);
    }

    /// The address of this end.
    pub fn local_address(&self) -> SocketAddr {
        self.local
    }

    /// Reads a whole response to a request whose response may carry a body.
    #[track_caller]
    pub fn response(&mut self) -> Response {
        self.try_response(false).expect("a response")
    }

    /// Reads a whole response to HEAD.
    #[track_caller]
    pub fn head_response(&mut self) -> Response {
        self.try_response(true).expect("a response")
    }

    /// Reads a whole response; an error: none came.
    pub fn try_response(&mut self, to_head: bool) -> io::Result<Response> {
        let mut response = self.read_head()?;
        if to_head || matches!(response.status, 100..=199 | 204 | 304) {
            return Ok(response);
        }
        if is_chunked(&response) {
            loop {
                match self.chunk() {
                    Chunk::Data(bytes) => response.body.extend_from_slice(&bytes),
                    Chunk::End => return Ok(response),
                    Chunk::Cut => break response.complete = false,
                }
            }
        } else if let Some(length) = response.header("content-length") {
            let length = length.parse::<u64>().map_err(io::Error::other)?;
            (&mut self.stream).take(length).read_to_end(&mut response.body)?;
            response.complete = response.body.len() as u64 == length;
        } else {
            self.stream.read_to_end(&mut response.body)?;
        }
        Ok(response)
    }

    /// Reads a response's head and leaves its body.
    pub fn read_head(&mut self) -> io::Result<Response> {
        let first = self.line()?;
        let mut words = first.splitn(3, ' ');
        let version = words.next().unwrap_or_default().to_owned();
        let status = words.next().and_then(|word| word.parse().ok());
        let status = status.ok_or_else(|| io::Error::other(format!("not a status line: {first:?}")))?;
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(Response { version, status, headers, body: Vec::new(), complete: true });
            }
            let (name, value) =
                line.split_once(':').ok_or_else(|| io::Error::other(format!("not a header: {line:?}")))?;
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }

    /// Reads the next chunk of a chunked body; nothing at all within [`PATIENCE`] panics.
    #[track_caller]
    pub fn chunk(&mut self) -> Chunk {
        match self.read_chunk() {
            Ok(chunk) => chunk,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => panic!("waited {PATIENCE:?} for a chunk"),
            Err(_) => Chunk::Cut,
        }
    }

    /// The same, with a read that timed out told apart from the end.
    pub(crate) fn read_chunk(&mut self) -> io::Result<Chunk> {
        // Only the wait for a chunk to begin may time out and be tried again: nothing is consumed until then.
        if self.stream.fill_buf()?.is_empty() {
            return Ok(Chunk::Cut);
        }
        let line = self.line()?;
        let size = usize::from_str_radix(line.split(';').next().unwrap_or_default().trim(), 16);
        let size = size.map_err(|_| io::Error::other(format!("not the size of a chunk: {line:?}")))?;
        let mut bytes = vec![0; size + 2];
        self.stream.read_exact(&mut bytes)?;
        bytes.truncate(size);
        Ok(if size == 0 { Chunk::End } else { Chunk::Data(bytes) })
    }

    /// One line without its end, as Latin-1.
    pub fn line(&mut self) -> io::Result<String> {
        let mut bytes = Vec::new();
        self.stream.read_until(b'\n', &mut bytes)?;
        if bytes.pop() != Some(b'\n') {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
        Ok(bytes.into_iter().map(char::from).collect())
    }

    /// Everything until the other side closes. A reset ends it as well.
    pub fn rest(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let _ = self.stream.read_to_end(&mut bytes);
        bytes
    }

    /// True where the other side closes (or resets) within `time` without sending anything more.
    pub fn closes_within(&mut self, time: Duration) -> bool {
        self.set_read_timeout(time);
        let closed = match self.stream.fill_buf() {
            Ok(bytes) => bytes.is_empty(),
            Err(error) => !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut),
        };
        self.set_read_timeout(PATIENCE);
        closed
    }

    /// True where something to read, or the end, comes within `time`.
    pub fn readable_within(&mut self, time: Duration) -> bool {
        self.set_read_timeout(time);
        let come = self.stream.fill_buf().is_ok();
        self.set_read_timeout(PATIENCE);
        come
    }

    /// How long reads wait.
    pub fn set_read_timeout(&mut self, time: Duration) {
        self.stream.get_ref().socket().set_read_timeout(Some(time)).expect("the time is not zero");
    }
}

impl Drop for Http {
    fn drop(&mut self) {
        // Two connections may share their local port as long as they lead to different places.
        open_by_us().retain(|open| (open.local, open.remote) != (self.local, self.remote));
    }
}

/// A connection that this process holds open.
struct Open {
    local: SocketAddr,
    remote: SocketAddr,
    socket: TcpStream,
}

static OPEN: Mutex<Vec<Open>> = Mutex::new(Vec::new());

fn open_by_us() -> MutexGuard<'static, Vec<Open>> {
    OPEN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Connections that this process holds open to `address`.
pub(crate) fn ours_open(address: SocketAddr) -> usize {
    open_by_us().iter().filter(|open| open.remote == address).count()
}

/// Ends the connections that a test still holds to `address`, so that a front that drains need not wait for them.
pub(crate) fn close_ours(address: SocketAddr) {
    for open in open_by_us().iter().filter(|open| open.remote == address) {
        let _ = open.socket.shutdown(Shutdown::Both);
    }
}

impl Read for Http {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.read(buffer)
    }
}

fn is_chunked(response: &Response) -> bool {
    response.all("transfer-encoding").iter().any(|value| value.to_ascii_lowercase().contains("chunked"))
}

/// The sockets in `/proc/net/tcp` that are open between a client and the server at `address`, seen from the server.
pub(crate) fn open_connections(address: SocketAddr) -> usize {
    let SocketAddr::V4(address) = address else { return 0 };
    let local = format!("{:08X}:{:04X}", u32::from_le_bytes(Ipv4Addr::octets(address.ip())), address.port());
    let table = std::fs::read_to_string("/proc/net/tcp").expect("/proc is there");
    let rows = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    // 01 is ESTABLISHED, 08 CLOSE_WAIT: the client has closed and the server has not.
    rows.filter(|row| row.get(1) == Some(&local.as_str()) && matches!(row.get(3), Some(&"01" | &"08"))).count()
}
