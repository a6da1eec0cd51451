//! A reload as one reactor sees it: other settings hold from the next request on.
//!
//! Every part that keeps something of the configuration has an `apply` that is called here, and the rest is in the
//! context, which is made anew. A request that has begun keeps its context; a stream keeps its place. It must not fail:
//! whatever may be wrong with settings has been found out before they come here.

use std::rc::Rc;
use std::sync::Arc;

use super::{Reactor, until_the_end};
use crate::auth::{Auth, AuthError};
use crate::broker::Broker;
use crate::config::Config;
use crate::http::{Context, PageError, Pages, Router};
use crate::lifecycle::Life;
use crate::queue::{Holds, Keeper};
use crate::registry::say_history;
use crate::session::{self, Sessions};
use crate::telemetry::{AccessLog, Metrics, Traces};

/// What a reload may change; the reactors of a process share it.
#[derive(Clone)]
pub struct Settings {
    /// The configuration.
    pub config: Arc<Config>,
    /// Who may read and publish.
    pub auth: Arc<Auth>,
    /// What seals the cookies of sessions, where there are any.
    pub session_keys: Option<Arc<session::Keys>>,
    /// Pages for failures.
    pub pages: Arc<Pages>,
    /// The access log.
    pub access: AccessLog,
}

/// Something that a configuration names cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// A key of tokens.
    #[error("{0}")]
    Auth(#[from] AuthError),
    /// There is nothing to seal sessions' cookies with.
    #[error("{0}")]
    Session(#[from] session::KeyError),
    /// A page for failures.
    #[error("{0}")]
    Pages(#[from] PageError),
}

impl Settings {
    /// Opens what the configuration names: blocks, since it reads files. Must be called within a runtime; what `before` has
    /// fetched from elsewhere stays until it is fetched anew.
    ///
    /// # Errors
    /// The first that cannot be used.
    pub fn open(
        config: Arc<Config>,
        before: Option<&Self>,
        access: AccessLog,
        metrics: &Arc<Metrics>,
    ) -> Result<Self, SettingsError> {
        let auth = Auth::open(&config, before.map(|before| &*before.auth), metrics)?;
        let session_keys = config.session.as_ref().map(session::Keys::open).transpose()?.map(Arc::new);
        let pages = Arc::new(Pages::open(&config.errors)?);
        Ok(Self { auth: Arc::new(auth.keep()), session_keys, pages, access, config })
    }
}

impl Reactor {
    /// Has these settings hold.
    pub(super) fn apply(&self, settings: &Settings, life: &Life) {
        let Settings { config, auth, access, .. } = settings.clone();
        let before = self.current.get();
        let Context { dispatch, hub, publishing, metrics, places, body_memory, spans, .. } = &*before;
        let (keys, channels) = (&config.redis.keys, Rc::new(config.channels.clone()));
        dispatch.apply(config.limits.clone(), Holds { keys: keys.clone(), channels: Rc::clone(&channels) });
        publishing.apply(channels.count_time);
        hub.apply(channels);
        let (router, queues) =
            Router::new(&config.routes, keys, config.limits.queue_depth, &dispatch.queues(), metrics);
        let router = router.with_around(&config, &settings.pages);
        queues.iter().for_each(|queue| dispatch.add_queue(queue));
        for keeper in Keeper::all(dispatch) {
            until_the_end(life, keeper.keep());
        }
        if self.index == 0 {
            // Before anybody can read a channel by its new rule.
            say_history(&self.broker, &config);
        }
        self.current.set(Context {
            router,
            auth,
            access,
            sessions: sessions(settings, &self.broker, metrics),
            traces: Traces::new(&config.telemetry),
            spans: spans.clone(),
            dispatch: Rc::clone(dispatch),
            hub: Rc::clone(hub),
            publishing: Rc::clone(publishing),
            metrics: Arc::clone(metrics),
            places: Arc::clone(places),
            body_memory: Arc::clone(body_memory),
            life: life.clone(),
            config,
        });
    }
}

/// A reactor's sessions, where there are any.
pub(super) fn sessions(settings: &Settings, broker: &Rc<Broker>, metrics: &Arc<Metrics>) -> Option<Sessions> {
    let Settings { config, session_keys, .. } = settings;
    let (settings, sealing) = config.session.clone().zip(session_keys.clone())?;
    Some(Sessions::new(settings, sealing, (Rc::clone(broker), config.redis.keys.clone()), Arc::clone(metrics)))
}
