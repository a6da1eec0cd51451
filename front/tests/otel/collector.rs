//! A collector: takes `POST /v1/traces` and keeps what came, decoded.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::Value;

/// A collector on a free port.
pub(crate) struct Collector {
    address: SocketAddr,
    away: Arc<AtomicBool>,
    batches: Arc<Mutex<Vec<Value>>>,
}

impl Collector {
    /// Takes spans from now on, until the process ends.
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (away, batches) = <(Arc<AtomicBool>, Arc<Mutex<Vec<Value>>>)>::default();
        let (gone, taken) = (Arc::clone(&away), Arc::clone(&batches));
        std::thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                if gone.load(Ordering::SeqCst) {
                    let _ = socket.shutdown(Shutdown::Both);
                } else {
                    taken.lock().expect("nobody panics").push(take(socket));
                }
            }
        });
        Self { address, away, batches }
    }

    /// Where it is.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Takes nothing any more.
    pub(crate) fn go_away(&self) {
        self.away.store(true, Ordering::SeqCst);
    }

    fn all(&self, of: impl Fn(&Value) -> Vec<Value>) -> Vec<Value> {
        let batches = self.batches.lock().expect("nobody panics");
        let resources = batches.iter().flat_map(|batch| list(&batch["resourceSpans"]));
        resources.flat_map(|resource| of(&resource)).collect()
    }

    /// All spans so far.
    pub(crate) fn spans(&self) -> Vec<Value> {
        self.all(|resource| list(&resource["scopeSpans"]).iter().flat_map(|scope| list(&scope["spans"])).collect())
    }

    /// Who sent them.
    pub(crate) fn resources(&self) -> Vec<Value> {
        self.all(|resource| vec![resource["resource"].clone()])
    }
}

fn list(value: &Value) -> Vec<Value> {
    value.as_array().cloned().unwrap_or_default()
}

/// One request, answered; the body, which must be JSON.
fn take(socket: TcpStream) -> Value {
    let mut reader = BufReader::new(socket);
    let mut length = 0;
    let mut head = String::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).expect("a line of the head");
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().expect("a length");
        }
        head.push_str(&line);
        if line == "\r\n" {
            break;
        }
    }
    assert!(head.starts_with("POST /v1/traces HTTP/1.1\r\n"), "{head}");
    assert!(head.to_ascii_lowercase().contains("content-type: application/json"), "{head}");
    let mut body = vec![0; length];
    reader.read_exact(&mut body).expect("the body");
    let answer = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}";
    reader.get_mut().write_all(answer).expect("it is read");
    serde_json::from_slice(&body).expect("JSON")
}
