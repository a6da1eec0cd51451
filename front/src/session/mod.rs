//! Sessions: what a front remembers of a client from one request to the next, for workers to read and change.
//!
//! A session is a JSON object, kept in an encrypted cookie or in Redis. It is opened when a request comes, carried by the
//! job, and closed with what the answer says of it. A cookie that is no good is no session and a count, never an error.
//! Cookies cannot do two things: patches of requests that run at the same time (the last answer wins), and an end that
//! other copies of the cookie hear of. It must not know routes or responses.

mod flat;
mod id;
mod keys;
mod seal;
mod store;

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderValue};
use serde_json::Value;
use tempest_protocol::{Session as Members, SessionChange, write_session};

use crate::broker::Broker;
use crate::config::{SecureCookie, SessionStore, Sessions as Settings};
use crate::error::Failure;
use crate::telemetry::{Metrics, SessionFault as Fault, SessionOutcome as Outcome};

use id::Id;
pub use keys::{KeyError, Keys};
use store::{Changed, Kept, Store};

/// Between what a cookie is good until and what it holds. Each store has its own, so that neither takes the other's.
const IN_COOKIE: char = '.';
const IN_REDIS: char = ':';

/// The sessions of one reactor.
pub struct Sessions {
    settings: Settings,
    keys: Arc<Keys>,
    /// None: they are in cookies.
    store: Option<Store>,
    metrics: Arc<Metrics>,
}

/// The session of one request.
#[derive(Debug)]
pub struct Session {
    members: Members,
    text: String,
    place: Place,
    /// When its cookie ends, in seconds since 1970; 0: it has none.
    expires: u64,
}

/// Where it comes from.
#[derive(Debug)]
enum Place {
    /// From nowhere: it is empty.
    Fresh,
    Cookie,
    Redis(Id),
    /// Its name is barred: it is empty, and stays so.
    Barred,
}

impl Session {
    fn fresh() -> Self {
        Self { members: Members::new(), text: "{}".to_owned(), place: Place::Fresh, expires: 0 }
    }

    fn of(members: Members, place: Place, expires: u64) -> Self {
        let mut text = Vec::new();
        write_session(&mut text, &members);
        // Written from texts, so it is one.
        let text = String::from_utf8(text).unwrap_or_default();
        Self { members, text, place, expires }
    }

    /// As JSON on one line.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// True where the client has none.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// One of its members.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.members.get(name)
    }

    /// When it ends unless it is used again.
    pub fn ends(&self) -> Instant {
        Instant::now() + Duration::from_secs(self.expires.saturating_sub(seal::now()))
    }
}

impl Sessions {
    /// Those of a configuration; `names` spells the keys of Redis.
    pub fn new(
        settings: Settings,
        keys: Arc<Keys>,
        (broker, names): (Rc<Broker>, tempest_protocol::Keys),
        metrics: Arc<Metrics>,
    ) -> Self {
        let (lifetime, max_bytes) = (settings.lifetime, settings.max_bytes);
        let store = match settings.store {
            SessionStore::Cookie => None,
            SessionStore::Redis => Some(Store { broker, keys: names, lifetime, max_bytes }),
        };
        Self { settings, keys, store, metrics }
    }

    /// The settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Opens the session of a request.
    ///
    /// # Errors
    /// It is in Redis, and Redis does not say.
    pub async fn open(&self, headers: &HeaderMap) -> Result<Session, Failure> {
        let mark = if self.store.is_some() { IN_REDIS } else { IN_COOKIE };
        let opened = match seal::find(headers, &self.settings.cookie, &self.keys, mark) {
            Ok(Some(opened)) => opened,
            Ok(None) => return Ok(Session::fresh()),
            Err(fault) => return Ok(self.refused(fault, Place::Fresh)),
        };
        let Some(store) = &self.store else {
            return Ok(match serde_json::from_str(&opened.text) {
                Ok(members) => Session { members, text: opened.text, place: Place::Cookie, expires: opened.expires },
                Err(_) => self.refused(Fault::Unreadable, Place::Fresh),
            });
        };
        let Some(id) = Id::read(&opened.text) else { return Ok(self.refused(Fault::Unreadable, Place::Fresh)) };
        Ok(match store.read(&id).await.map_err(|_| Failure::SessionAway)? {
            Kept::Session(members) => Session::of(members, Place::Redis(id), opened.expires),
            Kept::Nothing => self.refused(Fault::Unknown, Place::Fresh),
            Kept::Barred => self.refused(Fault::Superseded, Place::Barred),
        })
    }

    fn refused(&self, fault: Fault, place: Place) -> Session {
        self.metrics.session_faults.inc(fault);
        Session { place, ..Session::fresh() }
    }

    /// Closes the session of a request with what its answer says of it; gives the `Set-Cookie` that the client needs to
    /// know of it. `tls`: the request came by TLS.
    ///
    /// # Errors
    /// It would become too large, or Redis does not say; it is as it was, or nobody knows.
    pub async fn close(
        &self,
        session: Session,
        change: Option<&SessionChange>,
        tls: bool,
    ) -> Result<Option<HeaderValue>, Failure> {
        let closed = match (&session.place, &self.store, change) {
            (Place::Barred, _, change) => {
                if change.is_some() {
                    self.metrics.session_outcomes.inc(Outcome::Gone);
                }
                return Ok(None);
            }
            (_, None, change) => self.close_in_cookie(&session, change),
            (_, Some(store), Some(change)) => self.close_in_redis(&session, store, change).await,
            (Place::Redis(id), _, None) => Ok(Closed::same(&session, id.to_string())),
            _ => Ok(Closed::Nothing),
        };
        let secure = match self.settings.secure {
            SecureCookie::Auto => tls,
            SecureCookie::Always => true,
            SecureCookie::Never => false,
        };
        let mark = if self.store.is_some() { IN_REDIS } else { IN_COOKIE };
        Ok(match closed? {
            Closed::Nothing => None,
            Closed::Same(_) if !self.is_half_over(session.expires) => None,
            Closed::Same(text) => {
                self.metrics.session_outcomes.inc(Outcome::Prolonged);
                Some(seal::give(&self.settings, &self.keys, mark, &text, secure))
            }
            Closed::New(text, outcome) => {
                self.metrics.session_outcomes.inc(outcome);
                Some(seal::give(&self.settings, &self.keys, mark, &text, secure))
            }
            Closed::Over => {
                self.metrics.session_outcomes.inc(Outcome::Ended);
                Some(seal::take_away(&self.settings, secure))
            }
        })
    }

    /// A cookie is given anew once half of its time is over, not with every answer: with each it could undo the change of
    /// an answer that it overtakes.
    fn is_half_over(&self, expires: u64) -> bool {
        expires.saturating_sub(seal::now()) < self.settings.lifetime.as_secs() / 2
    }

    fn close_in_cookie(&self, session: &Session, change: Option<&SessionChange>) -> Result<Closed, Failure> {
        let known = matches!(session.place, Place::Cookie);
        let mut members = session.members.clone();
        if let Some(change) = change {
            change.apply(&mut members);
        }
        if members.is_empty() {
            return Ok(if known && change.is_some() { Closed::Over } else { Closed::Nothing });
        }
        if members == session.members {
            return Ok(Closed::same(session, session.text.clone()));
        }
        let next = Session::of(members, Place::Cookie, 0);
        self.check_size(next.text.len())?;
        Ok(Closed::New(next.text, if known { Outcome::Changed } else { Outcome::Begun }))
    }

    async fn close_in_redis(
        &self,
        session: &Session,
        store: &Store,
        change: &SessionChange,
    ) -> Result<Closed, Failure> {
        let known = match &session.place {
            Place::Redis(id) => Some(id),
            _ => None,
        };
        let patch = match (change, known) {
            (SessionChange::End, None) => return Ok(Closed::Nothing),
            (SessionChange::End, Some(id)) => {
                store.end(id).await.map_err(|_| self.failed())?;
                return Ok(Closed::Over);
            }
            (SessionChange::Patch(patch), _) => patch,
        };
        let steps = flat::steps(patch);
        if steps.is_empty() {
            return Ok(known.map_or(Closed::Nothing, |id| Closed::same(session, id.to_string())));
        }
        // Whoever knew the name before it was somebody's session must not know it after.
        let mut next = session.members.clone();
        change.apply(&mut next);
        let has_new_user = next.get(&self.settings.user) != session.get(&self.settings.user);
        let (from, to) = match known {
            Some(id) if has_new_user => (id.clone(), id.renamed()),
            Some(id) => (id.clone(), Some(id.clone())),
            None => {
                let id = Id::fresh().ok_or_else(|| self.failed())?;
                (id.clone(), Some(id))
            }
        };
        let to = to.ok_or_else(|| self.failed())?;
        match store.change(&from, &to, known.is_some(), &steps).await.map_err(|_| self.failed())? {
            Changed::Done if known.is_none() => Ok(Closed::New(to.to_string(), Outcome::Begun)),
            Changed::Done if from != to => Ok(Closed::New(to.to_string(), Outcome::Renamed)),
            Changed::Done => {
                self.metrics.session_outcomes.inc(Outcome::Changed);
                Ok(Closed::same(session, to.to_string()))
            }
            Changed::Empty if known.is_some() => Ok(Closed::Over),
            Changed::Empty => Ok(Closed::Nothing),
            Changed::Gone => {
                self.metrics.session_outcomes.inc(Outcome::Gone);
                Ok(Closed::Nothing)
            }
            Changed::TooLarge(bytes) => self.check_size(bytes).map(|()| Closed::Nothing),
        }
    }

    fn check_size(&self, bytes: usize) -> Result<(), Failure> {
        let most = self.settings.max_bytes;
        if bytes <= most {
            return Ok(());
        }
        self.metrics.session_outcomes.inc(Outcome::TooLarge);
        Err(Failure::SessionTooLarge(bytes, most))
    }

    fn failed(&self) -> Failure {
        self.metrics.session_outcomes.inc(Outcome::Failed);
        Failure::SessionAway
    }
}

/// What is to be told to the client.
enum Closed {
    Nothing,
    /// What it knows already, if it has not been told for long.
    Same(String),
    New(String, Outcome),
    Over,
}

impl Closed {
    fn same(session: &Session, text: String) -> Self {
        if session.is_empty() { Self::Nothing } else { Self::Same(text) }
    }
}
