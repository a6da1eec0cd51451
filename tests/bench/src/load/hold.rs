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

use super::child::{Busy, Go};
use super::client::{Client, Io};
use super::streams::{self, ASK_AGAIN, PATIENCE};
use super::{Sources, several};
use crate::peers::{By, Speaks};

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
    /// How it is spoken to.
    pub(crate) by: By,
    /// The path of a stream, with its query.
    pub(crate) path: String,
    /// Streams.
    pub(crate) count: usize,
    /// The addresses that clients connect from.
    pub(crate) sources: Sources,
    /// Connections that are being opened at a time.
    pub(crate) at_a_time: usize,
    /// False: nothing is read behind the head.
    pub(crate) reads: bool,
}

struct State {
    hold: Hold,
    client: Client,
    opening: Semaphore,
    opened: Cell<usize>,
    closed: Cell<usize>,
    kept: RefCell<Vec<Box<dyn Io>>>,
    error: RefCell<Option<String>>,
    changed: Notify,
}

/// Opens all at the first word, and says at the next how many have been closed by then.
pub(super) async fn run(hold: Hold, mut go: Go) {
    let client = match Client::new(&hold.by) {
        Ok(client) => client,
        Err(error) => return go.fail(error).await,
    };
    if !go.next(json!({})).await {
        return;
    }
    let (count, opening) = (hold.count, Semaphore::new(hold.at_a_time));
    let each = if let By::Tls(_, Speaks::Http2(each)) = hold.by { each } else { 1 };
    let state = Rc::new(State {
        hold,
        client,
        opening,
        opened: Cell::new(0),
        closed: Cell::new(0),
        kept: RefCell::default(),
        error: RefCell::default(),
        changed: Notify::new(),
    });
    let busy = Busy::start();
    for nth in 0..count.div_ceil(each) {
        let state = Rc::clone(&state);
        tokio::task::spawn_local(async move {
            let done = match state.hold.by {
                By::Tls(_, Speaks::Http2(_)) => some(&state, nth, each.min(count - nth * each)).await,
                _ => one(&state, nth).await,
            };
            if let Err(error) = done {
                state.error.borrow_mut().get_or_insert(error);
            }
            state.changed.notify_one();
        });
    }
    let all = async {
        while state.error.borrow().is_none() && state.opened.get() < count {
            state.changed.notified().await;
        }
    };
    let ended = tokio::time::timeout(PATIENCE, all).await;
    let (seconds, load) = busy.end();
    if let Some(error) = state.error.take() {
        return go.fail(format!("a stream: {error}")).await;
    }
    if ended.is_err() {
        return go.fail(format!("{} of {count} streams open within {PATIENCE:?}", state.opened.get())).await;
    }
    if go.next(json!({ "seconds": seconds, "load": load })).await {
        go.next(json!({ "closed": state.closed.get() })).await;
    }
}

/// One stream over a connection of its own.
async fn one(state: &State, nth: usize) -> Result<(), String> {
    let permit = state.opening.acquire().await.map_err(|error| error.to_string())?;
    let mut stream = loop {
        let mut stream = connect(state, nth).await.map_err(|error| error.to_string())?;
        match streams::request(&mut stream, state.hold.address, &state.hold.path).await? {
            (200, _) => break stream,
            (500.., _) => tokio::time::sleep(ASK_AGAIN).await,
            (status, _) => return Err(format!("status {status}")),
        }
    };
    drop(permit);
    state.opened(1);
    if !state.hold.reads {
        state.kept.borrow_mut().push(stream);
        return Ok(());
    }
    let mut buffer = [0; READ];
    while stream.read(&mut buffer).await.is_ok_and(|count| count > 0) {}
    state.closed.set(state.closed.get() + 1);
    Ok(())
}

/// Several over one.
async fn some(state: &Rc<State>, nth: usize, count: usize) -> Result<(), String> {
    let permit = state.opening.acquire().await.map_err(|error| error.to_string())?;
    let io = connect(state, nth).await.map_err(|error| error.to_string())?;
    let streams = several::open(io, &state.hold.path, count).await?;
    drop(permit);
    state.opened(count);
    for stream in streams {
        let state = Rc::clone(state);
        tokio::task::spawn_local(async move {
            several::read(stream).await;
            state.closed.set(state.closed.get() + 1);
        });
    }
    Ok(())
}

impl State {
    fn opened(&self, count: usize) {
        self.opened.set(self.opened.get() + count);
        self.changed.notify_one();
    }
}

async fn connect(state: &State, nth: usize) -> std::io::Result<Box<dyn Io>> {
    let socket = TcpSocket::new_v4()?;
    if !state.hold.reads {
        socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
        SockRef::from(&socket).set_tcp_mss(SEGMENT)?;
    }
    socket.bind(SocketAddr::from((state.hold.sources.of(nth), 0)))?;
    let socket: TcpStream = socket.connect(state.hold.address).await?;
    state.client.greet(socket).await
}
