//! A server behind the front that a test plays: a thread for each connection, real sockets, exact bytes.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

/// A request as it came.
#[derive(Clone, Debug, Default)]
pub(super) struct Asked {
    /// `GET /path HTTP/1.1`.
    pub(super) line: String,
    /// Names in lower case.
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
    /// Which connection it came on, from 0.
    pub(super) connection: usize,
}

impl Asked {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// What a test does with a request; false: the connection is closed.
type Answer = dyn Fn(&Asked, &mut dyn Write) -> bool + Send + Sync;

/// A server until the end of the test's process.
pub(super) struct Upstream {
    pub(super) address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Upstream {
    pub(super) fn start(answer: impl Fn(&Asked, &mut dyn Write) -> bool + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("there are free ports");
        let address = listener.local_addr().expect("it is bound");
        let asked = Arc::<Mutex<Vec<Asked>>>::default();
        let (answer, kept): (Arc<Answer>, _) = (Arc::new(answer), Arc::clone(&asked));
        let count = AtomicUsize::new(0);
        thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let number = count.fetch_add(1, Ordering::SeqCst);
                let (answer, kept) = (Arc::clone(&answer), Arc::clone(&kept));
                thread::spawn(move || serve(&socket, number, &*answer, &kept));
            }
        });
        Self { address, asked }
    }

    /// One that gives each request this text.
    pub(super) fn saying(text: &'static str) -> Self {
        Self::start(move |_, out| {
            write!(out, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{text}", text.len()).is_ok()
        })
    }

    /// One request on a unix socket, answered with this text.
    pub(super) fn once_at(path: &Path, text: &'static str) {
        let listener = UnixListener::bind(path).expect("the folder is writable");
        thread::spawn(move || {
            let (socket, _) = listener.accept().expect("somebody connects");
            let mut reader = BufReader::new(&socket);
            read(&mut reader, 0).expect("a request");
            let _ = write!(&socket, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{text}", text.len());
        });
    }

    pub(super) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("no holder panics").clone()
    }
}

fn serve(socket: &TcpStream, number: usize, answer: &Answer, kept: &Mutex<Vec<Asked>>) {
    let mut reader = BufReader::new(socket);
    while let Ok(asked) = read(&mut reader, number) {
        kept.lock().expect("no holder panics").push(asked.clone());
        let mut out = socket;
        if !answer(&asked, &mut out) {
            break;
        }
    }
    let _ = socket.shutdown(Shutdown::Both);
}

fn line(reader: &mut impl BufRead) -> io::Result<String> {
    let mut text = String::new();
    if reader.read_line(&mut text)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(text.trim_end().to_owned())
}

fn read(reader: &mut impl BufRead, connection: usize) -> io::Result<Asked> {
    let mut asked = Asked { line: line(reader)?, connection, ..Asked::default() };
    loop {
        let text = line(reader)?;
        let Some((name, value)) = text.split_once(':') else { break };
        asked.headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    if asked.header("transfer-encoding").is_some() {
        loop {
            let size = usize::from_str_radix(&line(reader)?, 16).map_err(io::Error::other)?;
            let mut piece = vec![0; size + 2];
            reader.read_exact(&mut piece)?;
            asked.body.extend_from_slice(&piece[..size]);
            if size == 0 {
                break;
            }
        }
    } else if let Some(length) = asked.header("content-length") {
        asked.body = vec![0; length.parse().map_err(io::Error::other)?];
        reader.read_exact(&mut asked.body)?;
    }
    Ok(asked)
}
