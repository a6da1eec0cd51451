//! Channel subscriptions of one reactor, over one fred connection (RESP3).
//!
//! This side keeps the set of what is wanted and asks for all of it again after every reconnect, because only then is
//! it known when everything is there again. fred connects, reconnects, and parses. It must not know who reads.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use fred::interfaces::{ClientLike, EventInterface, PubsubInterface};
use fred::prelude::{
    Builder, Client, Config as FredConfig, ReconnectPolicy, Server, ServerConfig, TlsConnector, Value,
};
use fred::types::{Message, RespVersion};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::oneshot;
use tokio::time::{interval, timeout};

use super::Shared;
use crate::config::{RedisAddress, RedisUrl};
use crate::lifecycle::{Life, Phase};

/// Messages that fred may hold for us; beyond it the oldest are dropped and counted as lagged. fred gives each of its
/// seven event channels this many places at once: 16,384 of them cost 11 MB.
const MESSAGE_BACKLOG: usize = 16_384;
/// Channels of one SUBSCRIBE when all are asked for again.
const SUBSCRIBE_BATCH: usize = 512;
/// How often an idle connection is asked whether it lives.
const PING_EVERY: Duration = Duration::from_secs(5);
/// Time for the reply to a SUBSCRIBE or a PING.
const REPLY_TIME: Duration = Duration::from_secs(2);

/// A handle; clones share the connection.
#[derive(Clone)]
pub struct Subscriptions(Rc<Inner>);

struct Inner {
    shared: Rc<Shared>,
    /// Grows with every loss: a confirmation of an earlier connection confirms nothing.
    epoch: Cell<u64>,
    client: RefCell<Option<Client>>,
    wanted: RefCell<HashMap<String, Wanted>>,
    up: Cell<bool>,
}

#[derive(Default)]
struct Wanted {
    confirmed: bool,
    waiters: Vec<oneshot::Sender<()>>,
}

impl Subscriptions {
    pub(super) fn new(shared: Rc<Shared>) -> Self {
        Self(Rc::new(Inner {
            shared,
            epoch: Cell::new(0),
            client: RefCell::new(None),
            wanted: RefCell::new(HashMap::new()),
            up: Cell::new(false),
        }))
    }

    pub(super) fn start(&self, mut life: Life) {
        let this = self.clone();
        let answers = this.0.shared.options.answers_key.clone();
        this.0.wanted.borrow_mut().insert(answers, Wanted::default());
        tokio::task::spawn_local(async move {
            tokio::select! {
                () = this.run() => {}
                () = life.reached(Phase::Stopping) => {}
            }
            let client = this.0.client.take();
            if let Some(client) = client {
                let _ = client.quit().await;
            }
        });
    }

    /// True while everything wanted is subscribed.
    pub fn is_up(&self) -> bool {
        self.0.up.get()
    }

    /// Wants `channel`; resolves once Redis has confirmed it. Wanting again what is there resolves at once.
    pub fn subscribe(&self, channel: &str) -> oneshot::Receiver<()> {
        let (sender, receiver) = oneshot::channel();
        let mut all = self.0.wanted.borrow_mut();
        let known = all.contains_key(channel);
        let wanted = all.entry(channel.to_owned()).or_default();
        if wanted.confirmed {
            let _ = sender.send(());
            return receiver;
        }
        wanted.waiters.push(sender);
        drop(all);
        // While the connection is being made, everything wanted is asked for in one go afterwards.
        if !known && self.0.up.get() {
            self.ask(vec![channel.to_owned()]);
        }
        receiver
    }

    /// Wants `channel` no more.
    pub fn unsubscribe(&self, channel: &str) {
        let known = self.0.wanted.borrow_mut().remove(channel).is_some();
        let client = self.0.client.borrow().clone();
        if let (true, true, Some(client)) = (known, self.0.up.get(), client) {
            let channel = channel.to_owned();
            tokio::task::spawn_local(async move { client.unsubscribe(channel).await });
        }
    }

    fn ask(&self, channels: Vec<String>) {
        let this = self.clone();
        let Some(client) = self.0.client.borrow().clone() else { return };
        tokio::task::spawn_local(async move {
            // A failure ends in a reconnection, after which everything is asked for again.
            this.subscribe_now(&client, channels).await;
        });
    }

    /// Subscribes and waits until Redis has done it; false: it has not, and the connection is made anew.
    ///
    /// fred's own future is done when the command is written, and it drops Redis's confirmation. A PING behind it on
    /// the same connection is answered only after it.
    async fn subscribe_now(&self, client: &Client, channels: Vec<String>) -> bool {
        let epoch = self.0.epoch.get();
        let work = async {
            client.subscribe(channels.clone()).await?;
            client.ping::<Value>(None).await
        };
        match timeout(REPLY_TIME, work).await {
            Ok(Ok(_)) if self.0.epoch.get() == epoch => {
                self.confirm(&channels);
                self.drop_unwanted(client, channels);
                true
            }
            Ok(Ok(_)) => false,
            _ => {
                let _ = client.force_reconnection().await;
                false
            }
        }
    }

    /// Whoever wanted a channel may have left while it was being subscribed.
    fn drop_unwanted(&self, client: &Client, mut channels: Vec<String>) {
        channels.retain(|channel| !self.0.wanted.borrow().contains_key(channel));
        if !channels.is_empty() {
            let client = client.clone();
            tokio::task::spawn_local(async move { client.unsubscribe(channels).await });
        }
    }

    fn confirm(&self, channels: &[String]) {
        let mut all = self.0.wanted.borrow_mut();
        for channel in channels {
            if let Some(wanted) = all.get_mut(channel) {
                wanted.confirmed = true;
                for waiter in wanted.waiters.drain(..) {
                    let _ = waiter.send(());
                }
            }
        }
    }

    async fn run(&self) {
        let client = match build(&self.0.shared.options.url) {
            Ok(client) => client,
            Err(error) => {
                tracing::error!("no subscriptions: {error}");
                return;
            }
        };
        let mut messages = client.message_rx();
        let mut connects = client.reconnect_rx();
        let mut errors = client.error_rx();
        let mut pings = interval(PING_EVERY);
        let _connection = client.connect();
        *self.0.client.borrow_mut() = Some(client.clone());
        loop {
            tokio::select! {
                message = messages.recv() => match message {
                    Ok(message) => self.published(&message),
                    Err(RecvError::Lagged(missed)) => self.lagged(missed),
                    Err(RecvError::Closed) => return,
                },
                _ = connects.recv() => self.restore(&client),
                _ = errors.recv() => self.lost(),
                _ = pings.tick() => self.ping(&client),
            }
        }
    }

    /// Asks for everything wanted, in batches, until nothing is left unconfirmed.
    fn restore(&self, client: &Client) {
        self.lost();
        let (this, client) = (self.clone(), client.clone());
        tokio::task::spawn_local(async move {
            loop {
                let missing: Vec<String> = {
                    let all = this.0.wanted.borrow();
                    let open = all.iter().filter(|(_, wanted)| !wanted.confirmed);
                    open.take(SUBSCRIBE_BATCH).map(|(channel, _)| channel.clone()).collect()
                };
                if missing.is_empty() {
                    break;
                }
                if !this.subscribe_now(&client, missing).await {
                    return;
                }
            }
            this.0.up.set(true);
            if let Some(sink) = this.0.shared.sink() {
                sink.subscribed(true);
            }
        });
    }

    fn lost(&self) {
        self.0.epoch.set(self.0.epoch.get() + 1);
        for wanted in self.0.wanted.borrow_mut().values_mut() {
            wanted.confirmed = false;
        }
        if self.0.up.replace(false) {
            self.0.shared.metrics.redis_reconnects.inc();
            if let Some(sink) = self.0.shared.sink() {
                sink.subscribed(false);
            }
        }
    }

    fn ping(&self, client: &Client) {
        if !self.0.up.get() {
            return;
        }
        let client = client.clone();
        tokio::task::spawn_local(async move {
            let ping = client.ping::<Value>(None);
            if !matches!(timeout(REPLY_TIME, ping).await, Ok(Ok(_))) {
                let _ = client.force_reconnection().await;
            }
        });
    }

    fn published(&self, message: &Message) {
        let Some(sink) = self.0.shared.sink() else { return };
        let payload = match &message.value {
            Value::Bytes(bytes) => bytes.clone(),
            Value::String(text) => Bytes::copy_from_slice(text.as_bytes()),
            other => Bytes::from(other.as_string().unwrap_or_default()),
        };
        if *message.channel == *self.0.shared.options.answers_key {
            sink.answers(vec![payload]);
        } else {
            sink.published(&message.channel, &payload);
        }
    }

    fn lagged(&self, missed: u64) {
        if let Some(sink) = self.0.shared.sink() {
            sink.lagged(missed);
        }
    }
}

fn build(url: &RedisUrl) -> Result<Client, fred::error::Error> {
    let server = match &url.address {
        RedisAddress::Tcp(host, port) => ServerConfig::Centralized { server: Server::new(host.as_str(), *port) },
        RedisAddress::Unix(path) => ServerConfig::new_unix_socket(path.clone()),
    };
    let config = FredConfig {
        server,
        fail_fast: false,
        // RESP3: commands and messages share the connection, so it can be asked whether it lives.
        version: RespVersion::RESP3,
        username: url.user.clone(),
        password: url.password.as_ref().map(|secret| secret.expose().to_owned()),
        database: Some(url.db as u8),
        tls: if url.tls { Some(TlsConnector::default_rustls()?.into()) } else { None },
        ..FredConfig::default()
    };
    Builder::from_config(config)
        .with_performance_config(|performance| performance.broadcast_channel_capacity = MESSAGE_BACKLOG)
        .with_connection_config(|connection| {
            // A command that was under way when the connection broke is asked for again by `restore`, not by fred.
            connection.max_command_attempts = 1;
            connection.connection_timeout = REPLY_TIME;
        })
        .set_policy(ReconnectPolicy::new_exponential(0, 10, 1000, 2))
        .build()
}
