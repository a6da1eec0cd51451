//! Streams that are opened and held: read for as long as they last, or never read.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;

use serde::{Deserialize, Serialize};
use serde_json::json;
use socket2::SockRef;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::{Notify, Semaphore};

use super::Sources;
use super::child::{Busy, Go};
use super::streams::{self, ASK_AGAIN, OPENING, PATIENCE};

/// Of a client that does not read: a small buffer in the kernel, so that it is soon full.
const RECEIVE_BUFFER: u32 = 4096;
/// Of such a client, too: a segment as on Ethernet. By the one of the loopback interface, 64 KiB, the kernel would give the
/// server megabytes of buffer for each, which no network does.
const SEGMENT: u32 = 1460;
/// Bytes read at a time.
const READ: usize = 512;

/// What is held.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Hold {
    /// The server.
    pub(crate) address: SocketAddr,
    /// The path of a stream, with its query.
    pub(crate) path: String,
    /// Streams.
    pub(crate) count: usize,
    /// The addresses that clients connect from.
    pub(crate) sources: Sources,
    /// False: nothing is read behind the head.
    pub(crate) reads: bool,
}

#[derive(Debug, Default)]
struct State {
    opened: Cell<usize>,
    closed: Cell<usize>,
    kept: RefCell<Vec<TcpStream>>,
    error: RefCell<Option<String>>,
    changed: Notify,
}

/// Opens all at the first word, and says at the next how many have been closed by then.
pub(super) async fn run(hold: Hold, mut go: Go) {
    if !go.next(json!({})).await {
        return;
    }
    let (state, hold) = (Rc::new(State::default()), Rc::new(hold));
    let opening = Rc::new(Semaphore::new(OPENING));
    let busy = Busy::start();
    for nth in 0..hold.count {
        let (state, hold, opening) = (Rc::clone(&state), Rc::clone(&hold), Rc::clone(&opening));
        tokio::task::spawn_local(async move {
            if let Err(error) = one(&hold, nth, &opening, &state).await {
                state.error.borrow_mut().get_or_insert(error);
            }
            state.changed.notify_one();
        });
    }
    let all = async {
        while state.error.borrow().is_none() && state.opened.get() < hold.count {
            state.changed.notified().await;
        }
    };
    let ended = tokio::time::timeout(PATIENCE, all).await;
    let (seconds, load) = busy.end();
    if let Some(error) = state.error.take() {
        return go.fail(format!("a stream: {error}")).await;
    }
    if ended.is_err() {
        return go.fail(format!("{} of {} streams open within {PATIENCE:?}", state.opened.get(), hold.count)).await;
    }
    if go.next(json!({ "seconds": seconds, "load": load })).await {
        go.next(json!({ "closed": state.closed.get() })).await;
    }
}

async fn one(hold: &Hold, nth: usize, opening: &Semaphore, state: &State) -> Result<(), String> {
    let permit = opening.acquire().await.map_err(|error| error.to_string())?;
    let mut stream = loop {
        let mut stream = connect(hold, nth).await.map_err(|error| error.to_string())?;
        match streams::request(&mut stream, hold.address, &hold.path).await? {
            (200, _) => break stream,
            (500.., _) => tokio::time::sleep(ASK_AGAIN).await,
            (status, _) => return Err(format!("status {status}")),
        }
    };
    drop(permit);
    state.opened.set(state.opened.get() + 1);
    state.changed.notify_one();
    if !hold.reads {
        state.kept.borrow_mut().push(stream);
        return Ok(());
    }
    let mut buffer = [0; READ];
    while stream.read(&mut buffer).await.is_ok_and(|count| count > 0) {}
    state.closed.set(state.closed.get() + 1);
    Ok(())
}

async fn connect(hold: &Hold, nth: usize) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    if !hold.reads {
        socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
        SockRef::from(&socket).set_tcp_mss(SEGMENT)?;
    }
    socket.bind(SocketAddr::from((hold.sources.of(nth), 0)))?;
    socket.connect(hold.address).await
}
