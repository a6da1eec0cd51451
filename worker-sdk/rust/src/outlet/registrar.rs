//! Registers the worker, and again whenever one of its connections is another.
//!
//! A worker that was declared dead is told so here, and begins anew. This module spells the one command that does it
//! and reads its reply; it must not claim, and must not decide what becomes of answers.

use std::sync::Arc;

use super::heartbeat::Heartbeat;
use crate::connection::{Pipeline, Reply};
use crate::membership::{Loss, Membership, Registration, WorkerKeys};
use crate::scripts::{Loaded, Script, Unable, is_unable};
use crate::settings::another_id;

pub(super) struct Registrar {
    membership: Arc<Membership>,
    keys: Arc<WorkerKeys>,
    state: State,
    /// Ids of the two connections; 0: there has been none yet.
    claims_connection: i64,
    own_connection: i64,
    /// Connections for claims that broke, of this Redis: it may hold a wait for them, and take one more job for it.
    broken: Vec<i64>,
    run_id: String,
    /// The Redis that knew the worker last.
    registered_at: String,
    /// Not known to Redis, as far as this worker knows.
    fresh: bool,
    epoch: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Base mode.
    Off,
    Needed,
    /// Under way, with this connection for claims.
    Asked(i64),
    Registered,
    /// Redis refused for a reason that may pass.
    Refused,
}

/// What a reply means for the worker.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Registered,
    /// What it had claimed is its own no more.
    Lost(Loss),
    /// Its id is another now.
    Renamed,
    /// Redis has forgotten the scripts.
    NoScript(String),
    Refused,
}

impl Registrar {
    pub(super) fn new(membership: Arc<Membership>, heartbeat: &Heartbeat) -> Self {
        let keys = Arc::new(WorkerKeys::new(heartbeat.queue_keys(), heartbeat.id()));
        let state = if membership.is_base() { State::Off } else { State::Needed };
        let (run_id, registered_at) = (String::new(), String::new());
        let (claims_connection, own_connection) = (0, 0);
        Self {
            membership,
            keys,
            state,
            claims_connection,
            own_connection,
            broken: Vec::new(),
            run_id,
            registered_at,
            fresh: true,
            epoch: 1,
        }
    }

    /// True: answers may be sent, since it is known whose claims they are for.
    pub(super) fn is_settled(&self) -> bool {
        matches!(self.state, State::Off | State::Registered)
    }

    /// The keys of the claims, where the worker has any.
    pub(super) fn keys(&self) -> Option<&Arc<WorkerKeys>> {
        (!self.fresh).then_some(&self.keys)
    }

    pub(super) fn is_registered(&self) -> bool {
        self.state == State::Registered
    }

    pub(super) fn on_connected(&mut self, connection: i64, loaded: Option<&Result<Loaded, Unable>>) {
        match loaded {
            _ if self.state == State::Off => {}
            Some(Ok(loaded)) => {
                self.own_connection = connection;
                if self.run_id != loaded.run_id {
                    self.broken.clear();
                    self.run_id.clone_from(&loaded.run_id);
                }
                self.state = State::Needed;
            }
            Some(Err(unable)) => self.give_up(unable),
            None => {}
        }
    }

    pub(super) fn on_lost(&mut self, heartbeat: &mut Heartbeat) {
        if matches!(self.state, State::Asked(_)) && self.fresh {
            // It may be registered by now, as somebody who will never claim.
            self.rename(heartbeat);
        }
        if self.state != State::Off {
            self.state = State::Needed;
        }
    }

    pub(super) fn on_claims_connection(&mut self, connection: i64) {
        let before = std::mem::replace(&mut self.claims_connection, connection);
        if before > 0 && before != connection {
            self.broken.push(before);
        }
        // Where the question is under way its reply shows that it was for another connection.
        if matches!(self.state, State::Registered | State::Refused) {
            self.state = State::Needed;
        }
    }

    /// Asks whether the worker still is what it was.
    pub(super) fn ask_again(&mut self) {
        if matches!(self.state, State::Registered | State::Refused) {
            self.state = State::Needed;
        }
    }

    /// Tries again what was refused.
    pub(super) fn on_beat(&mut self) {
        if self.state == State::Refused {
            self.state = State::Needed;
        }
        if self.state != State::Off && self.membership.is_base() {
            self.state = State::Off;
        }
    }

    /// Appends the registration where it is due: how many replies that mean nothing come before its own.
    pub(super) fn write(&mut self, out: &mut Pipeline, loaded: &Loaded) -> Option<usize> {
        if self.state != State::Needed || self.claims_connection == 0 {
            return None;
        }
        let broken = std::mem::take(&mut self.broken);
        for connection in &broken {
            out.command(&[b"CLIENT", b"KILL", b"ID", connection.to_string().as_bytes()]);
        }
        let registration = format!("{} {} {}", self.run_id, self.claims_connection, self.own_connection);
        let fresh: &[u8] = if self.fresh { b"1" } else { b"0" };
        let arguments = [self.keys.worker.as_bytes(), registration.as_bytes(), fresh];
        loaded.call(out, Script::Register, &[&self.keys.claimers], &arguments);
        self.state = State::Asked(self.claims_connection);
        Some(broken.len())
    }

    pub(super) fn on_reply(&mut self, reply: Reply, heartbeat: &mut Heartbeat) -> Outcome {
        let State::Asked(claims_connection) = self.state else { return Outcome::Refused };
        match reply {
            Reply::Int(1) => {
                self.fresh = false;
                self.registered_at.clone_from(&self.run_id);
                let newer = claims_connection != self.claims_connection;
                self.state = if newer { State::Needed } else { State::Registered };
                let (epoch, keys) = (self.epoch, self.keys.clone());
                self.membership.register(Registration { epoch, claims_connection, keys });
                Outcome::Registered
            }
            Reply::Int(_) if self.fresh => {
                self.rename(heartbeat);
                self.state = State::Needed;
                Outcome::Renamed
            }
            Reply::Int(_) => {
                // Nobody takes claims away while Redis forgets them.
                let loss = if self.registered_at == self.run_id { Loss::TakenAway } else { Loss::Forgotten };
                tracing::warn!(?loss, worker = self.keys.worker, "this worker's claims are gone; it begins anew");
                self.membership.lose(loss);
                self.epoch += 1;
                self.fresh = true;
                self.state = State::Needed;
                Outcome::Lost(loss)
            }
            Reply::Error(error) if error.starts_with("NOSCRIPT") => Outcome::NoScript(error),
            Reply::Error(error) if is_unable(&error) => {
                self.give_up(&error);
                Outcome::Refused
            }
            other => {
                tracing::warn!(reply = ?other, "Redis does not register this worker; trying again");
                self.state = State::Refused;
                Outcome::Refused
            }
        }
    }

    /// Appends the end of the registration; returns how many replies are due.
    pub(super) fn write_farewell(&self, out: &mut Pipeline) -> usize {
        let keys = &self.keys;
        out.command(&[b"HDEL", keys.claimers.as_bytes(), keys.worker.as_bytes()]);
        out.command(&[b"DEL", keys.claimed.as_bytes(), keys.landing.as_bytes(), keys.batch.as_bytes()]);
        2
    }

    fn rename(&mut self, heartbeat: &mut Heartbeat) {
        let id = another_id(heartbeat.id());
        tracing::warn!(taken = heartbeat.id(), id, "this worker's id is taken; it goes by another");
        heartbeat.rename(&id);
        self.keys = Arc::new(WorkerKeys::new(heartbeat.queue_keys(), &id));
    }

    fn give_up(&mut self, why: &str) {
        self.membership.use_base(why);
        self.state = State::Off;
    }
}
