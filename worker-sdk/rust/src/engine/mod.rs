//! The loop: claim jobs, start them, send their answers, claim again.
//!
//! What a turn has to send (all answers that are ready, then the next claim) leaves in one write; waiting for a
//! reply to one of them before the other would cost a round trip a job. While a pop blocks the connection, answers
//! leave by the [`Outlet`](crate::outlet). It must not know how jobs are claimed or run.

mod marks;
mod standing;
mod waits;

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use tempest_protocol::{Job, Keys, decode_job};
use tokio::sync::{mpsc, watch};
use tokio::task::{Id, JoinError, JoinSet, yield_now};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::answer::{self, Acknowledged, Acknowledgement, Answer};
use crate::answer_lists::AnswerLists;
use crate::batch::{BATCH_TIME, Pace};
use crate::claim::{Claim, ClaimCommand, Wanted};
use crate::connection::Reply;
use crate::execution::{Caller, Shared, Started, start, start_elsewhere};
use crate::link::{Link, LinkEvent};
use crate::membership::{Membership, Standing};
use crate::outlet::{Ending, Outgoing};
use crate::publisher::Command;
use crate::status::count;
use crate::waiting::{Claimed, Waiting};

use self::marks::{Marks, Permit};
use self::standing::Stage;
use self::waits::{Unblocking, reached, unblock, unblocked};

/// A claim's reply may come this much later than the pop waits.
const REPLY_MARGIN: Duration = Duration::from_secs(10);
/// Wait after Redis refused a claim.
const AFTER_REFUSAL: Duration = Duration::from_secs(1);

/// What bounds the loop.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    /// Jobs at work at a time.
    pub(crate) concurrency: usize,
    /// Jobs claimed at a time.
    pub(crate) batch: usize,
    /// How long a pop waits in vain.
    pub(crate) claim_wait: Duration,
    /// How long a stop waits for jobs to finish.
    pub(crate) stop_grace: Duration,
    /// What is popped in base mode, and how.
    pub(crate) queue_key: String,
    pub(crate) command: ClaimCommand,
    /// Jobs may run on the loop's own thread until they wait: there is no other thread to run them.
    pub(crate) inline: bool,
}

pub(crate) struct Engine {
    pub(crate) shared: Arc<Shared>,
    pub(crate) limits: Limits,
    pub(crate) link: Link,
    pub(crate) claim: Box<dyn Claim>,
    pub(crate) commands: mpsc::Sender<Command>,
    pub(crate) membership: Arc<Membership>,
    pub(crate) standing: watch::Receiver<Standing>,
    pub(crate) state: State,
}

pub(crate) struct State {
    answer_lists: AnswerLists,
    due: VecDeque<Due>,
    waiting: Arc<Waiting>,
    running: JoinSet<Option<Answer>>,
    /// Answers of this turn.
    ready: Vec<Answer>,
    pace: Pace,
    claim_after: Option<Instant>,
    unblocking: Option<Unblocking>,
    stage: Stage,
    /// Of the registration.
    epoch: u64,
    marks: Marks,
    /// The first of the waiting jobs needs a mark before it starts.
    mark_due: bool,
    /// Base mode begins as soon as no reply is due.
    base_due: bool,
    /// Set once: stop taking, and by when to be done.
    stop_by: Option<Instant>,
}

/// A reply to come on the claim connection.
enum Due {
    Answers(Vec<Answer>),
    Acknowledged(Acknowledged),
    Claim,
    Mark,
}

impl State {
    /// `keys`: where answers may go.
    pub(crate) fn new(keys: Keys, waiting: Arc<Waiting>) -> Self {
        Self {
            answer_lists: AnswerLists::new(keys),
            due: VecDeque::new(),
            waiting,
            running: JoinSet::new(),
            ready: Vec::new(),
            pace: Pace::default(),
            claim_after: None,
            unblocking: None,
            stage: Stage::Unregistered,
            epoch: 0,
            marks: Marks::default(),
            mark_due: false,
            base_due: false,
            stop_by: None,
        }
    }
}

impl Engine {
    /// Runs until `stop` completes and every claimed job is answered, or the grace for that is over.
    /// Returns by when the last answers are to be delivered, and whether nothing else is left.
    pub(crate) async fn run(mut self, stop: impl Future<Output = ()>) -> Ending {
        let mut stop = pin!(stop);
        let mut ticks = interval(Duration::from_secs(1));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.state.waiting.turn();
            std::future::poll_fn(|cx| {
                self.start_waiting(cx);
                Poll::Ready(())
            })
            .await;
            self.send().await;
            if let Some(by) = self.state.stop_by
                && let Some(settled) = self.is_over(by)
            {
                return Ending { by, settled };
            }
            let more_to_start = self.may_start() && !self.state.waiting.is_empty();
            let state = &mut self.state;
            tokio::select! {
                biased;
                () = &mut stop, if state.stop_by.is_none() => self.stop(),
                _ = ticks.tick() => self.check_overdue(),
                Some(ended) = state.running.join_next_with_id() => self.on_ended(ended),
                event = self.link.event() => self.on_link_events(event),
                () = reached(state.claim_after) => state.claim_after = None,
                () = unblocked(&mut state.unblocking) => state.unblocking = None,
                Ok(()) = self.standing.changed() => self.on_standing(),
                () = yield_now(), if more_to_start => {}
            }
            while let Some(ended) = self.state.running.try_join_next_with_id() {
                self.on_ended(ended);
            }
        }
    }

    // ---- running jobs ----------------------------------------------------------------------------------------

    /// Starts jobs for no longer than a batch should take: beyond that, the answers that are ready go first.
    fn start_waiting(&mut self, cx: &mut Context<'_>) {
        if self.state.waiting.is_empty() || !self.may_start() {
            return;
        }
        // As many as are likely to be ready at the end; growing would move them several times.
        self.state.ready.reserve(self.state.waiting.len());
        let mut now = Instant::now();
        let until = now + BATCH_TIME;
        // Read once for all of them; a deadline beyond this need not be compared with the clock.
        let end_ms = self.shared.context.clock.at(until.into());
        while self.may_start()
            && now < until
            && let Some(claimed) = self.state.waiting.pop()
        {
            let Some((job, caller)) = self.accept(claimed, now, end_ms) else { continue };
            let ended = self.start(job, caller, now, cx);
            let then = Instant::now();
            self.state.pace.held(then - now);
            if ended {
                self.state.pace.served(then - now);
            }
            now = then;
        }
    }

    fn may_start(&self) -> bool {
        let state = &self.state;
        state.running.len() < self.limits.concurrency && !state.mark_due && !state.marks.is_asking()
    }

    /// Starts a job; true: it has run through at once.
    fn start(&mut self, job: Box<Job>, caller: Caller, now: Instant, cx: &mut Context<'_>) -> bool {
        let started = if self.limits.inline {
            start(&self.shared, job, caller, cx)
        } else {
            start_elsewhere(&self.shared, job, caller)
        };
        let (begun, rest) = match started {
            Started::Ended(answer) => {
                self.state.ready.extend(answer);
                return true;
            }
            Started::Waits(begun, rest) => (begun, rest),
        };
        let task = self.state.running.spawn(rest);
        self.shared.status.started(task.id(), begun, now.into());
        false
    }

    /// A job, if the message is one, can be answered, may be started, and is still wanted; `end_ms` is not before `now`.
    fn accept(&mut self, claimed: Claimed, now: Instant, end_ms: u64) -> Option<(Box<Job>, Caller)> {
        let job = match decode_job(&claimed.message) {
            Ok(job) => Box::new(job),
            Err(error) => return self.drop_malformed(&claimed, &error.to_string()),
        };
        let reply_to = match job.reply_to().map(|key| self.state.answer_lists.find(key)) {
            Some(None) => return self.drop_malformed(&claimed, "its reply_to is not a front's answer list"),
            list => list.flatten(),
        };
        let caller = Caller::of(&job, reply_to, &self.shared, &claimed);
        let deadline = job.deadline();
        if deadline > 0 && deadline <= end_ms && deadline <= self.shared.context.clock.at(now.into()) {
            count(&self.shared.status.expired);
            tracing::debug!(request = job.id(), "dropped unrun: its deadline has passed");
            self.state.ready.extend(caller.no_answer());
            return None;
        }
        match self.state.marks.permit(&claimed, &job, now) {
            Permit::Start => Some((job, caller)),
            Permit::Ask => {
                self.state.mark_due = true;
                self.state.waiting.put_back(claimed);
                None
            }
            Permit::Gone => {
                count(&self.shared.status.lost);
                tracing::debug!(request = job.id(), "not started: it was taken away from this worker");
                None
            }
        }
    }

    fn drop_malformed<T>(&mut self, claimed: &Claimed, why: &str) -> Option<T> {
        let message = &claimed.message;
        const SHOWN: usize = 200;
        count(&self.shared.status.malformed);
        let start = String::from_utf8_lossy(&message[..message.len().min(SHOWN)]);
        tracing::warn!(why, bytes = message.len(), ?start, "dropped a malformed job");
        let done = Acknowledgement { claim: claimed.number, batch: claimed.batch, crashed: None, again: false };
        self.state.ready.extend((claimed.number > 0).then(|| Answer::none(done)));
        None
    }

    fn on_ended(&mut self, ended: Result<(Id, Option<Answer>), JoinError>) {
        let (task, answer) = match ended {
            Ok(ended) => ended,
            // Handlers are guarded, so this is a fault of the SDK; it must not end the worker.
            Err(error) => {
                tracing::error!(%error, "a job ended without an answer");
                (error.id(), None)
            }
        };
        if let Some(since) = self.shared.status.ended(task) {
            self.state.pace.served(since.elapsed());
        }
        self.state.ready.extend(answer);
    }

    // ---- sending ---------------------------------------------------------------------------------------------

    async fn send(&mut self) {
        let jobs = self.jobs_to_claim();
        let state = &mut self.state;
        let blocked = state.due.iter().any(|due| matches!(due, Due::Claim)) || state.stage == Stage::Unregistered;
        let Some(connection) = self.link.up().filter(|_| !blocked) else {
            state.ready.drain(..).for_each(|answer| self.shared.outlet.send(answer));
            return;
        };
        if self.membership.gone() > 0 {
            state.ready.retain_mut(|answer| self.membership.settle(answer));
        }
        let claims = self.claim.reliable().and_then(|claim| claim.to_acknowledge());
        let reliable = claims.is_some();
        let written = answer::write_all(&mut connection.out, std::mem::take(&mut state.ready), claims.as_ref());
        state.due.extend(written.pushes.into_iter().map(Due::Answers));
        state.due.extend(written.acknowledged.into_iter().map(Due::Acknowledged));
        if jobs > 0 {
            let free = self.limits.concurrency - state.running.len();
            // One of those that run can hold up the loop when the reply is there.
            if !state.running.is_empty() && self.limits.inline && reliable {
                watch(&state.waiting, &self.shared);
            }
            let start_at_once = state.pace.start_together().min(free);
            let wanted = Wanted { count: jobs, start_at_once, alone: state.running.is_empty() && self.limits.inline };
            let replies = self.claim.request(&mut connection.out, wanted);
            state.due.extend((0..replies).map(|_| Due::Claim));
        }
        self.write_mark();
        self.write_recovery();
        if self.link.up().is_none_or(|connection| connection.out.is_empty()) {
            return;
        }
        self.link.expect_reply_by(Some(Instant::now() + self.limits.claim_wait + REPLY_MARGIN));
        if let Some(event) = self.link.flush().await {
            self.on_link(event);
        }
    }

    fn is_blocked(&self) -> bool {
        self.state.due.iter().any(|due| matches!(due, Due::Claim))
    }

    /// How many jobs to ask for now; 0: none.
    fn jobs_to_claim(&self) -> usize {
        let state = &self.state;
        let running = state.running.len();
        if state.stage != Stage::Claiming || state.base_due {
            return 0;
        }
        let ready = state.stop_by.is_none() && state.claim_after.is_none() && state.waiting.is_empty();
        if !ready || running >= self.limits.concurrency || self.shared.outlet.is_busy() {
            return 0;
        }
        state.pace.batch(self.limits.concurrency, running, self.limits.batch)
    }

    // ---- replies ---------------------------------------------------------------------------------------------

    fn on_link_events(&mut self, first: LinkEvent) {
        self.on_link(first);
        while let Some(event) = self.link.buffered() {
            self.on_link(event);
        }
        if self.state.due.is_empty() {
            self.link.expect_reply_by(None);
        }
    }

    fn on_link(&mut self, event: LinkEvent) {
        match event {
            LinkEvent::Reply(reply) => self.on_reply(reply),
            LinkEvent::Connected => {
                let redis_ms = self.link.up().map(|connection| connection.redis_ms());
                redis_ms.into_iter().for_each(|redis_ms| self.shared.context.clock.set(redis_ms));
                tracing::info!("taking jobs");
                self.introduce_connection();
            }
            LinkEvent::Lost(error) => {
                tracing::warn!(%error, "lost the connection for jobs; dialling again");
                self.hand_over_answers();
            }
        }
    }

    /// Nobody knows whether Redis has the answers that were under way, so they go once more, by the other way.
    fn hand_over_answers(&mut self) {
        self.claim.reset();
        self.state.marks.reset();
        self.state.stage = Stage::Unregistered;
        for due in self.state.due.drain(..) {
            match due {
                Due::Answers(answers) => answers.into_iter().for_each(|answer| self.shared.outlet.send(answer)),
                Due::Acknowledged(done) => answer::again(done).for_each(|answer| self.shared.outlet.send(answer)),
                Due::Claim | Due::Mark => {}
            }
        }
        if self.state.base_due {
            self.on_standing();
        }
    }

    fn on_reply(&mut self, reply: Reply) {
        match self.state.due.pop_front() {
            Some(Due::Claim) => {
                self.state.unblocking = None;
                match self.claim.reply(reply) {
                    Ok(claimed) => self.on_claimed(claimed),
                    Err(error) => self.on_refused_claim(error),
                }
            }
            Some(Due::Acknowledged(done)) if is_forgotten_script(&reply) => {
                answer::again(done).for_each(|answer| self.shared.outlet.send(answer));
                self.renew("NOSCRIPT".into());
            }
            Some(Due::Acknowledged(done)) => {
                let lost = answer::lost(&done, &reply);
                if lost > 0 {
                    self.shared.status.lost.fetch_add(lost, Ordering::Relaxed);
                    tracing::debug!(lost, "jobs had been taken away before they were acknowledged");
                }
                if let Some(id) = answer::survived(done, &reply) {
                    self.shared.outlet.tell(Outgoing::Survived(id));
                }
            }
            Some(Due::Mark) => self.on_marked(reply),
            // The outlet knows which errors pass.
            Some(Due::Answers(answers)) if matches!(reply, Reply::Error(_)) => {
                answers.into_iter().for_each(|answer| self.shared.outlet.send(answer));
            }
            Some(Due::Answers(_)) => {}
            None => tracing::error!(?reply, "a reply to nothing"),
        }
    }

    fn on_claimed(&mut self, claimed: Vec<Claimed>) {
        let recovered = self.claim.reliable().is_some_and(|claim| !claim.is_unsettled());
        if self.state.stage == Stage::Recovering && recovered {
            self.state.stage = Stage::Claiming;
        }
        // The first one starts at once, and can hold up the others.
        let some_wait = claimed.len() > 1 || (!claimed.is_empty() && !self.may_start());
        if some_wait && self.state.stop_by.is_none() && self.is_reliable() {
            watch(&self.state.waiting, &self.shared);
        }
        self.state.waiting.extend(claimed);
        self.give_back_at_stop();
        if self.state.base_due && !self.is_blocked() {
            self.on_standing();
        }
    }

    /// What was not started when the worker stops is left to others. What was popped can go to nobody else.
    fn give_back_at_stop(&mut self) {
        if self.state.stop_by.is_some() && self.is_reliable() {
            let numbers = self.state.waiting.take_claimed();
            self.state.mark_due = false;
            self.shared.outlet.tell(Outgoing::GiveBack(numbers));
        }
    }

    fn check_overdue(&mut self) {
        if let Some(event) = self.link.check_overdue() {
            self.on_link(event);
        }
    }

    // ---- stopping --------------------------------------------------------------------------------------------

    fn stop(&mut self) {
        self.state.stop_by = Some(Instant::now() + self.limits.stop_grace);
        self.shared.status.stopping.store(true, Ordering::Relaxed);
        tracing::info!(running = self.state.running.len(), "stopping: taking no more jobs");
        let client = self.link.up().map_or(0, |connection| connection.client_id());
        let claiming = self.state.due.iter().any(|due| matches!(due, Due::Claim));
        if claiming && client > 0 {
            self.state.unblocking = Some(Box::pin(unblock(self.commands.clone(), client)));
        }
        self.give_back_at_stop();
    }

    /// None: not yet; else whether every job was finished or given back.
    fn is_over(&mut self, stop_by: Instant) -> Option<bool> {
        let settled = self.claim.reliable().is_none_or(|claim| !claim.is_unsettled());
        let state = &self.state;
        let left = state.running.len() + state.waiting.len();
        if left == 0 && state.due.is_empty() && settled {
            return Some(true);
        }
        if Instant::now() < stop_by {
            return None;
        }
        tracing::error!(left, "stopped with jobs unfinished");
        Some(false)
    }
}

/// Redis has forgotten its scripts.
fn is_forgotten_script(reply: &Reply) -> bool {
    matches!(reply, Reply::Error(error) if error.starts_with("NOSCRIPT"))
}

/// Has the other thread look after what waits.
fn watch(waiting: &Waiting, shared: &Shared) {
    if waiting.watch() {
        shared.outlet.tell(Outgoing::Watch);
    }
}
