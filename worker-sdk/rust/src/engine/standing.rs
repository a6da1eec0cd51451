//! The loop's part in reliable mode: what it does when its connection or its registration is another.

use tokio::time::Instant;

use super::{AFTER_REFUSAL, Due, Engine};
use crate::claim::{BaseClaim, ClaimError, Registered};
use crate::link::LinkEvent;
use crate::membership::{Registration, Standing};
use crate::outlet::Outgoing;

/// How far the loop is with its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// The second connection is to register this one first.
    Unregistered,
    /// Claims whose replies never arrived are asked for.
    Recovering,
    Claiming,
}

impl Engine {
    pub(super) fn is_reliable(&mut self) -> bool {
        self.claim.reliable().is_some()
    }

    /// A new connection: it has to be registered before anything else.
    pub(super) fn introduce_connection(&mut self) {
        if !self.is_reliable() {
            self.state.stage = Stage::Claiming;
            return;
        }
        self.state.stage = Stage::Unregistered;
        match self.link.loaded() {
            Some(Ok(_)) => {
                let id = self.link.up().map_or(0, |connection| connection.client_id());
                self.shared.outlet.tell(Outgoing::ClaimsConnection(id));
            }
            Some(Err(unable)) => self.membership.use_base(unable),
            None => {}
        }
        // The other connection may have found out first.
        self.on_standing();
    }

    /// The second connection has registered the worker, or there is no reliable mode here.
    pub(super) fn on_standing(&mut self) {
        let standing = self.standing.borrow_and_update().clone();
        match standing {
            Standing::Unknown => {}
            Standing::Base => self.use_base(),
            Standing::Registered(registration) => self.on_registered(registration),
        }
    }

    fn on_registered(&mut self, registration: Registration) {
        let Registration { epoch, claims_connection, keys } = registration;
        if epoch != self.state.epoch {
            self.state.epoch = epoch;
            self.state.waiting.forget(self.membership.gone());
            self.shared.status.cancel_claims(self.membership.taken_away());
        }
        let connection = self.link.up().map_or(0, |connection| connection.client_id());
        let Some(Ok(loaded)) = self.link.loaded().filter(|_| connection == claims_connection) else { return };
        let (loaded, stage) = (loaded.clone(), self.state.stage);
        let Some(claim) = self.claim.reliable() else { return };
        claim.register(Registered { keys, loaded });
        if stage == Stage::Unregistered {
            self.state.stage = if claim.is_unsettled() { Stage::Recovering } else { Stage::Claiming };
        }
    }

    fn use_base(&mut self) {
        if !self.is_reliable() {
            return;
        }
        // What has been claimed so far is still acknowledged, by the other connection; replies that are due are read
        // by the claims that asked for them.
        if self.state.due.iter().any(|due| matches!(due, Due::Claim | Due::Mark)) {
            self.state.base_due = true;
            return;
        }
        self.state.base_due = false;
        self.link.forget_scripts();
        self.claim =
            Box::new(BaseClaim::new(self.limits.queue_key.clone(), self.limits.claim_wait, self.limits.command));
        self.state.stage = Stage::Claiming;
        self.state.marks.turn_off();
        self.state.mark_due = false;
    }

    /// Appends the question for lost replies, where it is due.
    pub(super) fn write_recovery(&mut self) {
        if self.state.stage != Stage::Recovering || self.is_blocked() {
            return;
        }
        let (Some(connection), Some(claim)) = (self.link.up(), self.claim.reliable()) else { return };
        let replies = claim.request_recovery(&mut connection.out);
        self.state.due.extend((0..replies).map(|_| Due::Claim));
    }

    /// Appends a mark where a job waits for one. It covers what is likely to start together.
    pub(super) fn write_mark(&mut self) {
        if !self.state.mark_due || self.state.stage != Stage::Claiming || self.state.marks.is_asking() {
            return;
        }
        self.state.mark_due = false;
        let together = self.state.pace.start_together();
        let Some(number) = self.state.waiting.number_of(together) else { return };
        let (Some(connection), Some(claim)) = (self.link.up(), self.claim.reliable()) else { return };
        if claim.mark(&mut connection.out, number) > 0 {
            self.state.due.push_back(Due::Mark);
            self.state.marks.asked(number, Instant::now());
        }
    }

    pub(super) fn on_marked(&mut self, reply: crate::connection::Reply) {
        use crate::connection::Reply;
        match reply {
            Reply::Int(1) => self.state.marks.answered(true),
            Reply::Int(_) => {
                self.state.marks.answered(false);
                self.shared.outlet.tell(Outgoing::Unregistered);
            }
            Reply::Error(error) if error.starts_with("NOSCRIPT") => self.renew(error),
            refused => {
                tracing::error!(?refused, "Redis makes no mark that a job is started");
                self.state.marks.reset();
                self.state.claim_after = Some(Instant::now() + AFTER_REFUSAL);
            }
        }
    }

    pub(super) fn on_refused_claim(&mut self, error: ClaimError) {
        match error {
            ClaimError::Unsupported => tracing::info!("{error}; using BLPOP and LPOP"),
            ClaimError::Unable(why) => {
                self.membership.use_base(&why);
                self.on_standing();
            }
            ClaimError::NoScript => self.renew("NOSCRIPT".into()),
            ClaimError::Unregistered => {
                self.shared.outlet.tell(Outgoing::Unregistered);
                // Until it is known under which registration to go on.
                self.state.stage = Stage::Unregistered;
            }
            ClaimError::Lost => self.state.stage = Stage::Recovering,
            ClaimError::Refused(_) | ClaimError::Shape => {
                tracing::error!(%error, "Redis gives no jobs");
                self.state.claim_after = Some(Instant::now() + AFTER_REFUSAL);
            }
        }
    }

    pub(super) fn renew(&mut self, error: String) {
        let lost: LinkEvent = self.link.renew("EVALSHA", error);
        self.on_link(lost);
    }
}
