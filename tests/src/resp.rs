//! A tiny Redis connection: one command, one reply, blocking.
//!
//! Written here so that a test can see and write exact bytes, and so that workers and front are not tested with the
//! client library they are built on.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};

use crate::wait::PATIENCE;

/// A reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// `+OK`.
    Simple(String),
    /// `-ERR …`.
    Error(String),
    /// `:1`.
    Int(i64),
    /// A string of bytes.
    Bulk(Vec<u8>),
    /// Nothing.
    Nil,
    /// Several values.
    Array(Vec<Value>),
}

impl Value {
    /// The number of an integer reply.
    #[track_caller]
    pub fn int(&self) -> i64 {
        match self {
            Self::Int(number) => *number,
            other => panic!("not an integer: {other:?}"),
        }
    }

    /// The bytes of a string reply; None: nil.
    #[track_caller]
    pub fn bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Bulk(bytes) => Some(bytes),
            Self::Simple(text) => Some(text.as_bytes()),
            Self::Nil => None,
            other => panic!("not a string: {other:?}"),
        }
    }

    /// The text of a string reply, invalid UTF-8 replaced; nil is empty.
    #[track_caller]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(self.bytes().unwrap_or_default()).into_owned()
    }

    /// The elements of an array reply; nil is empty.
    #[track_caller]
    pub fn list(&self) -> &[Value] {
        match self {
            Self::Array(list) => list,
            Self::Nil => &[],
            other => panic!("not an array: {other:?}"),
        }
    }
}

/// One connection.
#[derive(Debug)]
pub struct Resp {
    stream: BufReader<TcpStream>,
}

impl Resp {
    /// Connects to 127.0.0.1. Reads give up after [`PATIENCE`], so that a test fails instead of hanging.
    pub fn connect(port: u16) -> io::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    /// Sends one command and returns its reply; an error reply or a lost connection panics.
    #[track_caller]
    pub fn cmd<A: AsRef<[u8]>>(&mut self, args: &[A]) -> Value {
        match self.try_cmd(args) {
            Ok(Value::Error(error)) => panic!("{}: {error}", shown(args)),
            Ok(value) => value,
            Err(error) => panic!("{}: {error}", shown(args)),
        }
    }

    /// Sends one command and returns its reply, error replies included.
    pub fn try_cmd<A: AsRef<[u8]>>(&mut self, args: &[A]) -> io::Result<Value> {
        self.send(args)?;
        self.read()
    }

    /// Sends one command without waiting for its reply.
    pub fn send<A: AsRef<[u8]>>(&mut self, args: &[A]) -> io::Result<()> {
        let mut out = format!("*{}\r\n", args.len()).into_bytes();
        for arg in args {
            let arg = arg.as_ref();
            out.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
            out.extend_from_slice(arg);
            out.extend_from_slice(b"\r\n");
        }
        self.stream.get_mut().write_all(&out)
    }

    /// A handle that ends the connection from another thread: a blocked read returns.
    pub fn closer(&self) -> io::Result<Closer> {
        self.stream.get_ref().try_clone().map(Closer)
    }

    /// Reads one reply, or one message of a subscription.
    pub fn read(&mut self) -> io::Result<Value> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let (kind, rest) = line.trim_end().split_at(1);
        Ok(match kind {
            "+" => Value::Simple(rest.to_owned()),
            "-" => Value::Error(rest.to_owned()),
            ":" => Value::Int(number(rest)?),
            "$" => self.read_bulk(number(rest)?)?,
            "*" => self.read_array(number(rest)?)?,
            _ => return Err(io::Error::other(format!("not a reply: {line:?}"))),
        })
    }

    fn read_bulk(&mut self, length: i64) -> io::Result<Value> {
        let Ok(length) = usize::try_from(length) else { return Ok(Value::Nil) };
        let mut bytes = vec![0; length + 2];
        self.stream.read_exact(&mut bytes)?;
        bytes.truncate(length);
        Ok(Value::Bulk(bytes))
    }

    fn read_array(&mut self, count: i64) -> io::Result<Value> {
        if count < 0 {
            return Ok(Value::Nil);
        }
        (0..count).map(|_| self.read()).collect::<io::Result<_>>().map(Value::Array)
    }
}

/// Ends a connection from another thread.
#[derive(Debug)]
pub struct Closer(TcpStream);

impl Closer {
    /// Ends both directions; a connection that is gone already is no error.
    pub fn close(&self) {
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

fn number(text: &str) -> io::Result<i64> {
    text.parse().map_err(|_| io::Error::other(format!("not a number: {text:?}")))
}

fn shown<A: AsRef<[u8]>>(args: &[A]) -> String {
    let words: Vec<_> = args.iter().map(|arg| String::from_utf8_lossy(arg.as_ref()).into_owned()).collect();
    words.join(" ")
}
