//! What a connection and its requests share: its ends, what it is doing, and how it is told to end.
//!
//! The connection drives it and looks at its time limits; requests turn it to what they do. Nothing here reads or writes.

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use http::Version;

use super::Entry;
use crate::hub::{Opened, Opening};
use crate::ident::RequestId;
use crate::listener::{Ends, Entrance, Way};
use crate::places::Place;

/// What a connection is doing, for its time limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    /// Nothing was asked yet, or everything asked is answered.
    Idle,
    /// A part of a head has come.
    Head,
    /// A request is being handled.
    Busy,
}

/// What a connection and its requests share.
pub struct Peer {
    /// The address of the other end, or whom it speaks for by the PROXY protocol; unspecified where it has none, having
    /// come by a Unix socket.
    pub remote: SocketAddr,
    /// The same as `ip:port`, or `unix:`.
    pub address: Rc<str>,
    /// The address it reached: `ip:port`, or `unix:` and a path.
    pub server: Rc<str>,
    /// Where it came in.
    pub entrance: Arc<Entrance>,
    /// Its place among the connections of its address.
    pub place: Cell<Place>,
    /// Requests answered on it.
    pub served: Cell<usize>,
    /// What the connection is doing, and since when (or when it last made progress).
    pub activity: Cell<(Activity, Instant)>,
    /// Since when the client has not taken what is to be sent.
    pub blocked: Cell<Option<Instant>>,
    /// Something was sent since the last head began.
    pub spoke: Cell<bool>,
    /// A request has been taken, and nothing has been sent since.
    pub owes: Cell<bool>,
    /// True once a request has been answered: the next one may take its time.
    pub answered: Cell<bool>,
    /// The stream that this connection becomes.
    pub detach: RefCell<Option<Box<Detach>>>,
    /// TCP is to ask whether the client is there, once it has been quiet for so long.
    pub probe: Cell<Option<Duration>>,
    /// The connection is to end now.
    pub expired: Cell<bool>,
    /// Wakes the connection's task.
    pub waker: RefCell<Option<Waker>>,
}

/// The address of one who has none.
const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// A connection that stops being HTTP.
pub struct Detach {
    /// Its places among the channels' readers.
    pub opened: Opened,
    /// Its place among the streams of its address and user.
    pub place: Place,
    /// How it begins.
    pub opening: Opening,
    /// The request's id.
    pub id: RequestId,
    /// For the access log.
    pub entry: Option<Box<Entry>>,
}

impl Peer {
    /// A fresh connection, from where and to where; None: by a Unix socket, which has no addresses.
    pub fn new(ends: Option<Ends>, entrance: Arc<Entrance>) -> Rc<Self> {
        let (remote, address, server) = match ends {
            Some((remote, server)) => (remote, remote.to_string(), server.to_string()),
            None => (NOWHERE, "unix:".to_owned(), entrance.address.to_string()),
        };
        Self::with((remote, address.into(), server.into()), entrance)
    }

    /// One request of an application that has the connection itself; `remote`: its client, where that is known.
    pub fn handed(remote: Option<SocketAddr>, entrance: Arc<Entrance>) -> Rc<Self> {
        let address = remote.map_or_else(|| "unix:".to_owned(), |remote| remote.to_string());
        let server = entrance.address.to_string();
        Self::with((remote.unwrap_or(NOWHERE), address.into(), server.into()), entrance)
    }

    /// One request of several on the same connection.
    pub fn stream(&self) -> Rc<Self> {
        let names = (self.remote, Rc::clone(&self.address), Rc::clone(&self.server));
        let stream = Self::with(names, Arc::clone(&self.entrance));
        // So that the last one that may be is known for it.
        stream.served.set(self.served.get());
        self.served.set(self.served.get() + 1);
        stream
    }

    fn with((remote, address, server): (SocketAddr, Rc<str>, Rc<str>), entrance: Arc<Entrance>) -> Rc<Self> {
        Rc::new(Self {
            remote,
            address,
            server,
            entrance,
            place: Cell::default(),
            served: Cell::new(0),
            activity: Cell::new((Activity::Idle, Instant::now())),
            blocked: Cell::new(None),
            spoke: Cell::new(false),
            owes: Cell::new(false),
            answered: Cell::new(false),
            detach: RefCell::new(None),
            probe: Cell::new(None),
            expired: Cell::new(false),
            waker: RefCell::new(None),
        })
    }

    /// Whether the connection is this request's alone and can be taken out of HTTP.
    pub fn may_detach(&self, version: Version) -> bool {
        version != Version::HTTP_2 && !matches!(self.entrance.way, Way::Mounted { .. })
    }

    /// Whether the connection itself is encrypted.
    pub fn is_secure(&self) -> bool {
        self.entrance.scheme() == "https"
    }

    /// Changes what the connection is doing.
    pub fn turn_to(&self, activity: Activity) {
        self.activity.set((activity, Instant::now()));
        if activity == Activity::Busy {
            self.owes.set(true);
        }
    }

    /// True while nothing is asked and everything said has left.
    pub fn is_idle(&self) -> bool {
        self.activity.get().0 == Activity::Idle && self.blocked.get().is_none() && !self.owes.get()
    }

    /// Has TCP ask whether the client is there, once it has been quiet for `idle`: for a response that may be quiet itself.
    pub fn keep_alive(&self, idle: Duration) {
        self.probe.set(Some(idle));
        self.wake();
    }

    /// Ends the connection, whatever it is doing.
    pub fn expire(&self) {
        self.expired.set(true);
        self.wake();
    }

    /// Whom to wake.
    pub fn listen(&self, waker: &Waker) {
        let mut known = self.waker.borrow_mut();
        match &mut *known {
            Some(known) => known.clone_from(waker),
            none => *none = Some(waker.clone()),
        }
    }

    /// Wakes the connection's task.
    pub fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }
}
