//! Waits for what an open port does not show: that all workers are up, that the parts of a server have found each
//! other. Measuring that begins before would find everybody at one worker, or nobody at home.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use tempest_tests::{Log, wait_until};

/// How long one answer may take; what is lost between parts that have not met yet is asked for again.
const ANSWER: Duration = Duration::from_secs(1);

/// Waits for `count` lines with `text`.
#[track_caller]
pub(super) fn lines(log: &Log, text: &str, count: usize) {
    let mut seen = 0;
    log.wait(&format!("{count} lines with {text:?}"), |line| {
        seen += usize::from(line.contains(text));
        (seen == count).then_some(())
    });
}

/// Waits until a GET is answered with 200.
#[track_caller]
pub(super) fn answers(address: SocketAddr, path: &str) {
    wait_until(&format!("an answer from http://{address}{path}"), || status_line(address, path).is_some_and(is_ok));
}

fn status_line(address: SocketAddr, path: &str) -> Option<[u8; 12]> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(ANSWER)).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {address}\r\naccept: */*\r\n\r\n").ok()?;
    let mut line = [0; 12];
    stream.read_exact(&mut line).ok()?;
    Some(line)
}

fn is_ok(line: [u8; 12]) -> bool {
    line.ends_with(b" 200")
}
