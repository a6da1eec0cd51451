//! The connections of one reactor to one server: as many as may be, used again while they are good.
//!
//! On hyper's client connections and not its pooled client: that has no bound on how many are open, and wants bodies
//! that may cross threads. It must not know what is said on them.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::{Rc, Weak};
use std::time::Instant;

use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout_at};

use super::upload::Upload;
use crate::config::{ProxyRoute, UpstreamAddress};

/// A server and the connections to it.
pub(in super::super) struct Pool {
    pub(super) route: ProxyRoute,
    /// The youngest last.
    idle: RefCell<Vec<(SendRequest<Upload>, Instant)>>,
    places: std::sync::Arc<Semaphore>,
    /// Somebody looks after the idle ones.
    swept: Cell<bool>,
}

/// A connection in use.
pub(super) struct Line {
    pub(super) sender: SendRequest<Upload>,
    /// It has been used before.
    pub(super) reused: bool,
    pool: Rc<Pool>,
    place: OwnedSemaphorePermit,
}

/// Why there is none.
#[derive(Debug)]
pub(super) enum NoLine {
    /// All that may be are in use.
    Full,
    /// The server does not take one in time.
    Late,
    /// The server cannot be reached.
    Unreachable(io::Error),
}

impl Pool {
    pub(in super::super) fn new(route: &ProxyRoute) -> Rc<Self> {
        let places = std::sync::Arc::new(Semaphore::new(route.connections.min(Semaphore::MAX_PERMITS)));
        Rc::new(Self { route: route.clone(), idle: RefCell::default(), places, swept: Cell::new(false) })
    }

    /// A connection; `fresh`: one that has never been used. All within the route's `connect_time`.
    pub(super) async fn line(self: &Rc<Self>, fresh: bool) -> Result<Line, NoLine> {
        let until = tokio::time::Instant::now() + self.route.connect_time;
        let place = timeout_at(until, std::sync::Arc::clone(&self.places).acquire_owned()).await;
        let Ok(Ok(place)) = place else { return Err(NoLine::Full) };
        let known = if fresh { None } else { self.idle_one() };
        let (sender, reused) = match known {
            Some(sender) => (sender, true),
            None => {
                // Those that lie there count, too, once all places are taken.
                if self.idle.borrow().len() > self.places.available_permits() {
                    self.idle.borrow_mut().remove(0);
                }
                let connected = timeout_at(until, self.connect()).await.map_err(|_| NoLine::Late)?;
                (connected.map_err(NoLine::Unreachable)?, false)
            }
        };
        Ok(Line { sender, reused, pool: Rc::clone(self), place })
    }

    fn idle_one(&self) -> Option<SendRequest<Upload>> {
        let mut idle = self.idle.borrow_mut();
        loop {
            let (sender, since) = idle.pop()?;
            if sender.is_ready() && since.elapsed() < self.route.idle_time {
                return Some(sender);
            }
        }
    }

    async fn connect(&self) -> io::Result<SendRequest<Upload>> {
        match &self.route.upstream.address {
            UpstreamAddress::Tcp(host, port) => {
                let socket = TcpStream::connect((host.as_str(), *port)).await?;
                socket.set_nodelay(true)?;
                begin(socket).await
            }
            UpstreamAddress::Unix(path) => begin(UnixStream::connect(path).await?).await,
        }
    }

    fn put_back(self: &Rc<Self>, sender: SendRequest<Upload>) {
        self.idle.borrow_mut().push((sender, Instant::now()));
        if !self.swept.replace(true) {
            tokio::task::spawn_local(sweep(Rc::downgrade(self)));
        }
    }
}

async fn begin(socket: impl AsyncRead + AsyncWrite + Unpin + 'static) -> io::Result<SendRequest<Upload>> {
    let (sender, connection) = http1::handshake(TokioIo::new(socket)).await.map_err(io::Error::other)?;
    // It ends with its sender, or with the server; what is wrong is told to whoever asked.
    tokio::task::spawn_local(async move { drop(connection.await) });
    Ok(sender)
}

/// Closes connections that nobody uses any more, until there are none.
async fn sweep(pool: Weak<Pool>) {
    loop {
        let Some(idle_time) = pool.upgrade().map(|pool| pool.route.idle_time) else { return };
        sleep(idle_time).await;
        let Some(pool) = pool.upgrade() else { return };
        let mut idle = pool.idle.borrow_mut();
        idle.retain(|(sender, since)| !sender.is_closed() && since.elapsed() < idle_time);
        if idle.is_empty() {
            pool.swept.set(false);
            return;
        }
    }
}

impl Line {
    /// The answer has been read whole: the next request may have the connection, once hyper has done with it.
    pub(super) fn give_back(self) {
        let Self { mut sender, pool, place, .. } = self;
        if sender.is_ready() {
            return pool.put_back(sender);
        }
        tokio::task::spawn_local(async move {
            if sender.ready().await.is_ok() {
                pool.put_back(sender);
            }
            drop(place);
        });
    }
}
