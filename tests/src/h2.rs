//! HTTP/2 by hand: frames are written as a test gives them and read as they come, so a client can be as hostile as it
//! likes. Heads are sent as literals, and of those that come only the status is read.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};

use crate::tls::{Tls, Trust};
use crate::wait::PATIENCE;

/// What every connection begins with.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Kinds of frames (RFC 9113, section 6).
pub const DATA: u8 = 0;
/// The head of a request or response.
pub const HEADERS: u8 = 1;
/// Advice that nobody follows.
pub const PRIORITY: u8 = 2;
/// The end of a stream before its end.
pub const RESET: u8 = 3;
/// Settings of a side.
pub const SETTINGS: u8 = 4;
/// A question whether the other is there.
pub const PING: u8 = 6;
/// The end of a connection.
pub const GO_AWAY: u8 = 7;
/// More room.
pub const WINDOW_UPDATE: u8 = 8;
/// The rest of a head.
pub const CONTINUATION: u8 = 9;
/// Flag: the last frame of a stream.
pub const END_STREAM: u8 = 1;
/// Flag: the last frame of a head.
pub const END_HEADERS: u8 = 4;
/// Flag of settings and pings: an answer.
pub const ACK: u8 = 1;

/// A frame as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Its kind.
    pub kind: u8,
    /// Its flags.
    pub flags: u8,
    /// Its stream; 0: the connection.
    pub stream: u32,
    /// What is in it.
    pub payload: Vec<u8>,
}

impl Frame {
    /// The bytes on the wire.
    pub fn bytes(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).expect("frames are short").to_be_bytes();
        let mut bytes = vec![length[1], length[2], length[3], kind, flags];
        bytes.extend_from_slice(&stream.to_be_bytes());
        bytes.extend_from_slice(payload);
        bytes
    }

    /// The status of a response's head.
    pub fn status(&self) -> u16 {
        // The static table has these; any other is a literal whose name is the eighth entry.
        const INDEXED: [u16; 7] = [200, 204, 206, 304, 400, 404, 500];
        // The encoder may say first how much it remembers.
        let said = self.payload.iter().take_while(|byte| **byte & 0xe0 == 0x20).count();
        match &self.payload[said..] {
            [first @ 0x88..=0x8e, ..] => INDEXED[usize::from(first - 0x88)],
            [0x48 | 0x08, length, digits @ ..] if length & 0x80 == 0 => {
                let digits = String::from_utf8_lossy(&digits[..usize::from(*length)]).into_owned();
                digits.parse().expect("a status is a number")
            }
            [0x48 | 0x08, _, digits @ ..] => huffman_status(digits),
            other => panic!("no status: {other:?}"),
        }
    }

    /// Why a GOAWAY or a reset came.
    pub fn reason(&self) -> u32 {
        let at = if self.kind == GO_AWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().expect("four bytes"))
    }
}

/// Three digits in the code of RFC 7541, appendix B: five bits for 0 to 2, six for the others.
fn huffman_status(bytes: &[u8]) -> u16 {
    let bits = bytes.iter().take(3).fold(0u32, |bits, byte| bits << 8 | u32::from(*byte));
    let mut at = 24;
    (0..3).fold(0, |status, _| {
        let five = bits >> (at - 5) & 31;
        let (digit, length) = if five < 3 { (five, 5) } else { ((bits >> (at - 6) & 63) - 0x19 + 3, 6) };
        at -= length;
        status * 10 + u16::try_from(digit).expect("a digit")
    })
}

/// A head as literals that nobody is to remember. Names and values are at most 126 bytes each.
pub fn literals(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).ok().filter(|length| *length < 127).expect("a short text"));
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

/// The head of a request.
pub fn head(method: &str, path: &str) -> Vec<u8> {
    literals(&[(":method", method), (":scheme", "http"), (":path", path), (":authority", "test")])
}

/// One connection.
pub struct H2 {
    socket: Socket,
    read: Vec<u8>,
    kept: VecDeque<Frame>,
}

enum Socket {
    Plain(TcpStream),
    Tls(Box<Tls>),
}

impl H2 {
    /// Connects, without a word.
    #[track_caller]
    pub fn silent(address: SocketAddr) -> Self {
        let socket = TcpStream::connect_timeout(&address, PATIENCE).expect("somebody listens");
        socket.set_nodelay(true).expect("a socket of TCP");
        socket.set_read_timeout(Some(PATIENCE)).expect("a time");
        socket.set_write_timeout(Some(PATIENCE)).expect("a time");
        Self { socket: Socket::Plain(socket), read: Vec::new(), kept: VecDeque::new() }
    }

    /// Connects and greets.
    #[track_caller]
    pub fn connect(address: SocketAddr) -> Self {
        Self::silent(address).greeted()
    }

    /// Connects by TLS and greets.
    #[track_caller]
    pub fn connect_tls(address: SocketAddr, name: &str, trusted: &Trust) -> Self {
        let mut connection = Self::silent(address);
        let Socket::Plain(socket) = connection.socket else { panic!("it was made of TCP") };
        connection.socket = Socket::Tls(Box::new(trusted.greet(socket, name).expect("a greeting")));
        connection.greeted()
    }

    fn greeted(mut self) -> Self {
        self.send(PREFACE);
        // Nothing is to be remembered of heads: each stands for itself.
        self.frame(SETTINGS, 0, 0, &[0, 1, 0, 0, 0, 0]);
        self
    }

    /// Writes bytes; a front that has closed already is no error, what it has said tells.
    pub fn send(&mut self, bytes: &[u8]) {
        let _ = self.try_send(bytes);
    }

    /// The same, with the error in hand.
    ///
    /// # Errors
    /// The front has closed, or takes nothing.
    pub fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.socket {
            Socket::Plain(socket) => socket.write_all(bytes),
            Socket::Tls(tls) => tls.write_all(bytes),
        }
    }

    /// Writes a frame.
    pub fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.send(&Frame::bytes(kind, flags, stream, payload));
    }

    /// Asks for something without a body.
    pub fn request(&mut self, stream: u32, method: &str, path: &str) {
        self.frame(HEADERS, END_STREAM | END_HEADERS, stream, &head(method, path));
    }

    /// The next frame, or why there is none.
    ///
    /// # Errors
    /// The end of the connection, or nothing within [`PATIENCE`] (`WouldBlock`).
    pub fn try_next(&mut self) -> io::Result<Frame> {
        if let Some(kept) = self.kept.pop_front() {
            return Ok(kept);
        }
        loop {
            if let Some([a, b, c, kind, flags, s, t, u, v]) = self.read.first_chunk::<9>().copied() {
                let length = u32::from_be_bytes([0, a, b, c]) as usize;
                if self.read.len() >= 9 + length {
                    let payload = self.read[9..9 + length].to_vec();
                    self.read.drain(..9 + length);
                    return Ok(Frame { kind, flags, stream: u32::from_be_bytes([s, t, u, v]), payload });
                }
            }
            let mut bytes = [0; 16 * 1024];
            let read = match &mut self.socket {
                Socket::Plain(socket) => socket.read(&mut bytes)?,
                Socket::Tls(tls) => tls.read(&mut bytes)?,
            };
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.read.extend_from_slice(&bytes[..read]);
        }
    }

    /// The next frame of a kind; others are passed over.
    #[track_caller]
    pub fn next(&mut self, kind: u8) -> Frame {
        loop {
            let frame = self.try_next().unwrap_or_else(|error| panic!("no frame of kind {kind}: {error}"));
            if frame.kind == kind {
                return frame;
            }
        }
    }

    /// The next frame of a stream; others are kept for later.
    #[track_caller]
    pub fn next_of(&mut self, stream: u32) -> Frame {
        if let Some(at) = self.kept.iter().position(|frame| frame.stream == stream) {
            return self.kept.remove(at).expect("it is there");
        }
        let kept = std::mem::take(&mut self.kept);
        let mut passed = Vec::new();
        let found = loop {
            match self.try_next() {
                Ok(frame) if frame.stream == stream => break frame,
                Ok(frame) => passed.push(frame),
                Err(error) => panic!("no frame of stream {stream}: {error}; others: {passed:?}"),
            }
        };
        self.kept = kept.into_iter().chain(passed).collect();
        found
    }

    /// The status of a response and all of its body.
    #[track_caller]
    pub fn response(&mut self, stream: u32) -> (u16, String) {
        let head = self.next_of(stream);
        assert_eq!(head.kind, HEADERS, "{head:?}");
        let status = head.status();
        let (mut body, mut last) = (Vec::new(), head.flags & END_STREAM != 0);
        while !last {
            let frame = self.next_of(stream);
            assert_eq!(frame.kind, DATA, "{frame:?}");
            last = frame.flags & END_STREAM != 0;
            body.extend_from_slice(&frame.payload);
        }
        (status, String::from_utf8_lossy(&body).into_owned())
    }

    /// The data of a stream until a text is in it.
    #[track_caller]
    pub fn data_until(&mut self, stream: u32, text: &str) -> String {
        let mut all = String::new();
        while !all.contains(text) {
            let frame = self.next_of(stream);
            assert!(matches!(frame.kind, DATA | HEADERS), "{frame:?} after {all:?}");
            if frame.kind == DATA {
                all.push_str(&String::from_utf8_lossy(&frame.payload));
            }
        }
        all
    }

    /// Reads to the end of the connection; gives the reason of the last GOAWAY.
    #[track_caller]
    pub fn until_end(&mut self) -> Option<u32> {
        let mut reason = None;
        loop {
            match self.try_next() {
                Ok(frame) if frame.kind == GO_AWAY => reason = Some(frame.reason()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => panic!("the connection was not ended"),
                Err(_) => return reason,
            }
        }
    }
}
