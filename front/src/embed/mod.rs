//! The front as a part of another application: its streams and its workers as tower services, to be mounted in axum, hyper
//! or whatever else takes them.
//!
//! The application has the listeners, TLS, HTTP and its own routes; requests for these services go to the same reactors,
//! by the same rules and limits, as those of a front on its own. Nothing here opens a socket for browsers, reads a file or an
//! environment, or handles a signal: that is the application's.
//!
//! ```no_run
//! # async fn f() -> Result<(), Box<dyn std::error::Error>> {
//! use tempest::{config::Config, embed::Front};
//! let front = Front::start(Config::from_toml("channels.public = ['news']", ".".as_ref())?).await?;
//! let (events, workers) = (front.sub(), front.work("web")?);
//! # drop((events, workers));
//! # Ok(()) }
//! ```

mod service;

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tempest_protocol::QueueName;
use tokio::sync::Mutex;

use crate::config::{Config, RedisUrl, RouteKind};
use crate::listener::Mount;
use crate::reactor::SettingsError;
use crate::server::{self, Door, Running, StartError, View};
use crate::telemetry::AccessLog;

pub use crate::connection::Answered as Body;
pub use service::{Answering, Client, Service};

/// How long a start waits for Redis. After it the front goes on without, as any front does whose Redis is away.
const PATIENCE: Duration = Duration::from_secs(2);

/// A front without listeners. Clones are the same front; it ends with the last of them and of its services.
#[derive(Clone)]
pub struct Front(Arc<Inner>);

struct Inner {
    /// None: drained.
    running: Mutex<Option<Running>>,
    config: RwLock<Arc<Config>>,
    door: Door,
    view: View,
}

/// No route of the configuration leads to this queue.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "no route of the configuration leads to the queue {0:?}: add one, whose time-outs and limits hold for it then\n\
     [[route]]\npath = \"/{0}/{{rest...}}\"\nqueue = {0:?}"
)]
pub struct NoSuchQueue(String);

impl Front {
    /// Starts the reactors, each on a thread of its own, and waits a moment for their way to Redis: `redis.url`, or
    /// `redis://127.0.0.1:6379`. What the configuration says of listeners, workers and the log is not looked at; an access log is
    /// written to standard output where `log.access` asks for one.
    ///
    /// Must be called within a tokio runtime.
    ///
    /// # Errors
    /// A key or a page that the configuration names cannot be used, or a thread cannot be made.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let config = Arc::new(config);
        let redis = config.redis.url.clone().unwrap_or_else(RedisUrl::usual);
        let access = AccessLog::start(config.log.access);
        let running = server::start(Arc::clone(&config), (Vec::new(), Duration::ZERO), redis, access)?;
        running.connected(PATIENCE).await;
        let (door, view) = (running.door(), running.view());
        let (running, config) = (Mutex::new(Some(running)), RwLock::new(config));
        Ok(Self(Arc::new(Inner { running, config, door, view })))
    }

    /// Event streams: of the channel that the rest of the path names, and of those in the query, for whoever may read them by
    /// `[channels]`. Mounted below a prefix that is taken off, as axum's `nest_service` does: `/sub/news` is `news`.
    pub fn sub(&self) -> Service {
        self.mount(Mount::Channels)
    }

    /// An event stream of these channels and no others, whatever path is asked for: the application has decided that whoever
    /// asks may read them. `Last-Event-ID`, `since` and `tell` mean what they always do.
    pub fn hold(&self, channels: impl IntoIterator<Item = impl Into<String>>) -> Service {
        self.mount(Mount::Granted(channels.into_iter().map(Into::into).collect()))
    }

    /// The workers of a queue, by the time-outs and limits of the first route that leads to it. They get the path as it comes:
    /// without the prefix where the application takes it off.
    ///
    /// # Errors
    /// No route leads to it.
    pub fn work(&self, queue: &str) -> Result<Service, NoSuchQueue> {
        let config = self.0.config.read().unwrap_or_else(PoisonError::into_inner);
        let mut queues = config.routes.iter().filter_map(|route| match &route.kind {
            RouteKind::Queue(route) => Some(&route.queue),
            _ => None,
        });
        let known = queues.find(|known| known.as_str() == queue).cloned();
        known.map(|name: QueueName| self.mount(Mount::Queue(name))).ok_or_else(|| NoSuchQueue(queue.to_owned()))
    }

    /// All routes of the configuration, as a front on its own serves them.
    pub fn routes(&self) -> Service {
        self.mount(Mount::Routes)
    }

    fn mount(&self, what: Mount) -> Service {
        Service::new(self.0.door.clone(), &what)
    }

    /// What an operator wants to know: whether it is ready, and what is counted.
    pub fn view(&self) -> View {
        self.0.view.clone()
    }

    /// Has this configuration hold for every request that begins from now on; what cannot change while the front runs (Redis,
    /// the number of reactors) stays as it was. Does nothing once it is drained.
    ///
    /// # Errors
    /// Something that it names cannot be used; nothing has changed then.
    pub async fn reload(&self, config: Config) -> Result<(), SettingsError> {
        let config = Arc::new(config);
        if let Some(running) = &mut *self.0.running.lock().await {
            running.reload(Arc::clone(&config)).await?;
            *self.0.config.write().unwrap_or_else(PoisonError::into_inner) = config;
        }
        Ok(())
    }

    /// Ends it in order: further requests are refused, streams are told to come back, and requests in flight get their
    /// answers within `front.grace`. To be awaited while the application still serves what is under way.
    pub async fn drain(&self) {
        self.0.door.close();
        if let Some(running) = self.0.running.lock().await.take() {
            running.drain().await;
        }
    }
}
