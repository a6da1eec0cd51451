//! `tempest reload`: a run reads its configuration anew, and says what became of it.
//!
//! It is asked over its admin listener, of `tempest up` and of `tempest front` alike.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::CommandError;
use crate::admin::{RELOAD, Report};
use crate::config::Whereabouts;
use crate::up::state;

/// How long the run may take: it may be in the middle of a rolling restart.
const PATIENCE: Duration = Duration::from_secs(60);
/// Bytes of its answer.
const MOST: u64 = 1024 * 1024;

/// Asks the run: that whose admin listener was named, else the latest run of `tempest up` with this file, else the one
/// whose admin listener is the usual one. Gives what changed, a line each.
///
/// # Errors
/// There is no such run, or it refuses: what is wrong, a line each.
pub fn reload(whereabouts: &Whereabouts) -> Result<String, CommandError> {
    let address = find(whereabouts)?;
    let report = ask(address).map_err(|error| CommandError::Message(format!("no answer from {address}: {error}")))?;
    if !report.reloaded {
        let why = report.problems.join("\n");
        return Err(CommandError::Message(format!("refused, and what held before still does\n{why}")));
    }
    let what = match report.changes.len() {
        0 => "reloaded; nothing has changed".to_owned(),
        1 => "reloaded; one setting has changed".to_owned(),
        count => format!("reloaded; {count} settings have changed"),
    };
    Ok([vec![what], report.changes].concat().join("\n"))
}

fn find(Whereabouts { file, admin, usual_admin }: &Whereabouts) -> Result<SocketAddr, CommandError> {
    if let Some(address) = admin {
        return Ok(*address);
    }
    let is_it =
        |run: &state::Run| file.as_deref().is_none_or(|file| run.file.as_deref() == Some(&*state::absolute(file)));
    if let Some(run) = state::runs().into_iter().find(is_it) {
        let address = run.admin.as_deref().and_then(|text| text.parse().ok());
        let none = || CommandError::Message(format!("it has no admin listener: use `kill -HUP {}`", run.pid));
        return address.ok_or_else(none);
    }
    match usual_admin {
        Some(address) if address.port() != 0 => Ok(*address),
        _ => Err(CommandError::Message(
            "no run of this configuration is known here: name its admin listener (--admin), or use kill -HUP"
                .to_owned(),
        )),
    }
}

/// One request on a connection of its own.
fn ask(address: SocketAddr) -> std::io::Result<Report> {
    let mut socket = TcpStream::connect_timeout(&address, PATIENCE)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_write_timeout(Some(PATIENCE))?;
    let head = format!("POST {RELOAD} HTTP/1.1\r\nhost: {address}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    socket.write_all(head.as_bytes())?;
    let mut answer = String::new();
    socket.take(MOST).read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    serde_json::from_str(body).map_err(|_| {
        let line = head.lines().next().unwrap_or_default();
        std::io::Error::other(format!("this is no admin listener of a run that can be reloaded ({line:?})"))
    })
}
