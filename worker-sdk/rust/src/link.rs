//! A connection that comes back: it dials for ever, with jittered waits.
//!
//! The owner keeps what it has not been answered yet and decides what a loss means for it; this module must not
//! resend anything.

use std::pin::Pin;
use std::sync::Arc;

use tokio::time::{Instant, sleep, timeout};

use crate::Address;
use crate::backoff::Backoff;
use crate::connection::{CONNECT_TIMEOUT, Connection, ConnectionError, Pipeline, Reply};
use crate::scripts::{self, Loaded, Unable};

/// Where to dial, and under which name.
#[derive(Clone, Debug)]
pub(crate) struct Dialer {
    pub(crate) address: Arc<Address>,
    /// Name for `CLIENT LIST`.
    pub(crate) name: String,
    /// The connection is for claims, or speaks of them: it needs the scripts.
    pub(crate) scripts: bool,
}

pub(crate) struct Link {
    dialer: Dialer,
    state: State,
    /// When a reply is overdue; None: none is due.
    reply_by: Option<Instant>,
    /// What the connection was told of the scripts, where it asked.
    loaded: Option<Result<Loaded, Unable>>,
}

type Dialed = (Connection, Option<Result<Loaded, Unable>>);

enum State {
    Up(Box<Connection>),
    Dialing(Pin<Box<dyn Future<Output = Dialed> + Send>>),
}

/// What happened on a link.
#[derive(Debug)]
pub(crate) enum LinkEvent {
    Connected,
    Reply(Reply),
    /// The connection is gone, and with it every reply that was due. Dialling has begun.
    Lost(ConnectionError),
}

impl Link {
    pub(crate) fn new(dialer: Dialer) -> Self {
        let state = State::Dialing(Box::pin(dial(dialer.clone())));
        Self { dialer, state, reply_by: None, loaded: None }
    }

    /// The connection, while there is one.
    pub(crate) fn up(&mut self) -> Option<&mut Connection> {
        match &mut self.state {
            State::Up(connection) => Some(connection),
            State::Dialing(_) => None,
        }
    }

    /// The scripts as the connection of now has them; None: there is none, or it did not ask.
    pub(crate) fn loaded(&self) -> Option<&Result<Loaded, Unable>> {
        self.loaded.as_ref().filter(|_| self.is_up())
    }

    /// The outgoing buffer and the scripts, while there is a connection.
    pub(crate) fn out(&mut self) -> Option<(&mut Pipeline, Option<&Result<Loaded, Unable>>)> {
        match &mut self.state {
            State::Up(connection) => Some((&mut connection.out, self.loaded.as_ref())),
            State::Dialing(_) => None,
        }
    }

    /// Connections from now on do without the scripts.
    pub(crate) fn forget_scripts(&mut self) {
        self.dialer.scripts = false;
        self.loaded = None;
    }

    /// Gives the connection up and dials again: what it knows of Redis is not true any more.
    pub(crate) fn renew(&mut self, command: &'static str, error: String) -> LinkEvent {
        self.lost(ConnectionError::Refused { command, error })
    }

    pub(crate) fn is_up(&self) -> bool {
        matches!(self.state, State::Up(_))
    }

    /// The next thing to happen. May be dropped while it waits.
    pub(crate) async fn event(&mut self) -> LinkEvent {
        match &mut self.state {
            State::Up(connection) => match connection.reply().await {
                Ok(reply) => LinkEvent::Reply(reply),
                Err(error) => self.lost(error),
            },
            State::Dialing(dialing) => {
                let (connection, loaded) = dialing.await;
                self.state = State::Up(Box::new(connection));
                self.loaded = loaded;
                LinkEvent::Connected
            }
        }
    }

    /// A reply that is there already.
    pub(crate) fn buffered(&mut self) -> Option<LinkEvent> {
        match self.up()?.buffered_reply() {
            Ok(reply) => reply.map(LinkEvent::Reply),
            Err(error) => Some(self.lost(error)),
        }
    }

    /// Writes what waits in the connection's pipeline.
    pub(crate) async fn flush(&mut self) -> Option<LinkEvent> {
        let written = self.up()?.flush().await;
        written.err().map(|error| self.lost(error))
    }

    /// Says until when the next reply has to come; None: none is due.
    pub(crate) fn expect_reply_by(&mut self, at: Option<Instant>) {
        self.reply_by = at;
    }

    /// To be called now and then: gives up a connection whose reply is overdue. Keepalive alone does not help
    /// against a peer whose kernel answers and whose Redis does not.
    pub(crate) fn check_overdue(&mut self) -> Option<LinkEvent> {
        let overdue = self.reply_by.is_some_and(|at| at <= Instant::now());
        (overdue && self.is_up()).then(|| self.lost(ConnectionError::Overdue))
    }

    fn lost(&mut self, error: ConnectionError) -> LinkEvent {
        self.state = State::Dialing(Box::pin(dial(self.dialer.clone())));
        self.reply_by = None;
        self.loaded = None;
        LinkEvent::Lost(error)
    }
}

async fn dial(dialer: Dialer) -> Dialed {
    let mut backoff = Backoff::new();
    let mut said = String::new();
    loop {
        let error = match open(&dialer).await {
            Ok(dialed) => return dialed,
            Err(error) => error.to_string(),
        };
        // One line a reason, not one a try: this may go on for hours.
        if error != said {
            tracing::warn!(redis = %dialer.address, connection = dialer.name, %error, "no connection to Redis; trying again until there is one");
            said = error;
        }
        sleep(backoff.wait()).await;
    }
}

async fn open(dialer: &Dialer) -> Result<Dialed, ConnectionError> {
    let mut connection = Connection::open(&dialer.address, &dialer.name).await?;
    if !dialer.scripts {
        return Ok((connection, None));
    }
    let loading = timeout(CONNECT_TIMEOUT, scripts::load(&mut connection));
    let mut loaded = loading.await.unwrap_or(Err(ConnectionError::Timeout(CONNECT_TIMEOUT)))?;
    if connection.client_id() == 0 {
        loaded = Err("Redis does not tell the ids of connections (CLIENT ID)".into());
    }
    Ok((connection, Some(loaded)))
}
