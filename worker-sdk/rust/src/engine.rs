//! The loop: claim jobs, start them, send their answers, claim again.
//!
//! What a turn has to send (all answers that are ready, then the next claim) leaves in one write; waiting for a
//! reply to one of them before the other would cost a round trip a job. While a pop blocks the connection, answers
//! leave by the [`Outlet`](crate::outlet). It must not know how jobs are claimed or run.

use std::collections::VecDeque;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tempest_protocol::{Job, Keys, decode_job};
use tokio::sync::mpsc;
use tokio::task::{Id, JoinError, JoinSet, yield_now};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until};

use crate::answer::{self, Answer};
use crate::answer_lists::AnswerLists;
use crate::batch::{BATCH_TIME, Pace};
use crate::claim::{Claim, ClaimError};
use crate::connection::Reply;
use crate::execution::{Caller, Shared, Started, start, start_elsewhere};
use crate::link::{Link, LinkEvent};
use crate::publisher::Command;
use crate::status::count;

/// A claim's reply may come this much later than the pop waits.
const REPLY_MARGIN: Duration = Duration::from_secs(10);
/// Wait after Redis refused a claim.
const AFTER_REFUSAL: Duration = Duration::from_secs(1);
/// Wait before asking again to end a pop that had not reached Redis yet.
const UNBLOCK_AGAIN: Duration = Duration::from_millis(10);

/// What bounds the loop.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Jobs at work at a time.
    pub(crate) concurrency: usize,
    /// Jobs claimed at a time.
    pub(crate) batch: usize,
    /// How long a pop waits in vain.
    pub(crate) claim_wait: Duration,
    /// How long a stop waits for jobs to finish.
    pub(crate) stop_grace: Duration,
    /// Jobs may run on the loop's own thread until they wait: there is no other thread to run them.
    pub(crate) inline: bool,
}

pub(crate) struct Engine {
    pub(crate) shared: Arc<Shared>,
    pub(crate) limits: Limits,
    pub(crate) link: Link,
    pub(crate) claim: Box<dyn Claim>,
    pub(crate) commands: mpsc::Sender<Command>,
    pub(crate) state: State,
}

pub(crate) struct State {
    answer_lists: AnswerLists,
    due: VecDeque<Due>,
    /// Claimed, not started; decoded only then, since a batch of decoded jobs would not fit into the allocator's and
    /// the processor's caches.
    waiting: VecDeque<Bytes>,
    running: JoinSet<Option<Answer>>,
    /// Answers of this turn.
    ready: Vec<Answer>,
    pace: Pace,
    claim_after: Option<Instant>,
    unblocking: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    /// Set once: stop taking, and by when to be done.
    stop_by: Option<Instant>,
}

/// A reply to come on the claim connection.
enum Due {
    Answers(Vec<Answer>),
    Claim,
}

impl State {
    /// `keys`: where answers may go.
    pub(crate) fn new(keys: Keys) -> Self {
        Self {
            answer_lists: AnswerLists::new(keys),
            due: VecDeque::new(),
            waiting: VecDeque::new(),
            running: JoinSet::new(),
            ready: Vec::new(),
            pace: Pace::default(),
            claim_after: None,
            unblocking: None,
            stop_by: None,
        }
    }
}

impl Engine {
    /// Runs until `stop` completes and every claimed job is answered, or the grace for that is over.
    /// Returns by when the last answers are to be delivered.
    pub(crate) async fn run(mut self, stop: impl Future<Output = ()>) -> Instant {
        let mut stop = pin!(stop);
        let mut ticks = interval(Duration::from_secs(1));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            std::future::poll_fn(|cx| {
                self.start_waiting(cx);
                Poll::Ready(())
            })
            .await;
            self.send().await;
            if let Some(by) = self.state.stop_by.filter(|&by| self.is_over(by)) {
                return by;
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
            && let Some(message) = self.state.waiting.pop_front()
        {
            let Some((job, caller)) = self.accept(&message, now, end_ms) else { continue };
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
        self.state.running.len() < self.limits.concurrency
    }

    /// Starts a job; true: it has run through at once.
    fn start(&mut self, job: Box<Job>, caller: Caller, now: Instant, cx: &mut Context<'_>) -> bool {
        let started = if self.limits.inline {
            start(&self.shared, job, caller, cx)
        } else {
            start_elsewhere(&self.shared, job, caller)
        };
        let (id, rest) = match started {
            Started::Ended(answer) => {
                self.state.ready.extend(answer);
                return true;
            }
            Started::Waits(id, rest) => (id, rest),
        };
        let task = self.state.running.spawn(rest);
        self.shared.status.started(task.id(), id, now.into());
        false
    }

    /// A job, if the message is one, can be answered, and is still wanted; `end_ms` is not before `now`.
    fn accept(&mut self, message: &Bytes, now: Instant, end_ms: u64) -> Option<(Box<Job>, Caller)> {
        let job = match decode_job(message) {
            Ok(job) => Box::new(job),
            Err(error) => return self.drop_malformed(message, &error.to_string()),
        };
        let reply_to = match job.reply_to().map(|key| self.state.answer_lists.find(key)) {
            Some(None) => return self.drop_malformed(message, "its reply_to is not a front's answer list"),
            list => list.flatten(),
        };
        let deadline = job.deadline();
        if deadline > 0 && deadline <= end_ms && deadline <= self.shared.context.clock.at(now.into()) {
            count(&self.shared.status.expired);
            tracing::debug!(request = job.id(), "dropped unrun: its deadline has passed");
            return None;
        }
        let caller = Caller::of(&job, reply_to, &self.shared);
        Some((job, caller))
    }

    fn drop_malformed<T>(&self, message: &Bytes, why: &str) -> Option<T> {
        const SHOWN: usize = 200;
        count(&self.shared.status.malformed);
        let start = String::from_utf8_lossy(&message[..message.len().min(SHOWN)]);
        tracing::warn!(why, bytes = message.len(), ?start, "dropped a malformed job");
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
        let blocked = state.due.iter().any(|due| matches!(due, Due::Claim));
        let Some(connection) = self.link.up().filter(|_| !blocked) else {
            state.ready.drain(..).for_each(|answer| self.shared.outlet.send(answer));
            return;
        };
        let pushes = answer::push_all(&mut connection.out, std::mem::take(&mut state.ready));
        state.due.extend(pushes.into_iter().map(Due::Answers));
        if jobs > 0 {
            let replies = self.claim.request(&mut connection.out, jobs);
            state.due.extend((0..replies).map(|_| Due::Claim));
        }
        if connection.out.is_empty() {
            return;
        }
        self.link.expect_reply_by(Some(Instant::now() + self.limits.claim_wait + REPLY_MARGIN));
        if let Some(event) = self.link.flush().await {
            self.on_link(event);
        }
    }

    /// How many jobs to ask for now; 0: none.
    fn jobs_to_claim(&self) -> usize {
        let state = &self.state;
        let running = state.running.len();
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
        for due in self.state.due.drain(..) {
            if let Due::Answers(answers) = due {
                answers.into_iter().for_each(|answer| self.shared.outlet.send(answer));
            }
        }
    }

    fn on_reply(&mut self, reply: Reply) {
        match self.state.due.pop_front() {
            Some(Due::Claim) => {
                self.state.unblocking = None;
                match self.claim.reply(reply) {
                    Ok(messages) => self.state.waiting.extend(messages),
                    Err(error) => self.on_refused_claim(&error),
                }
            }
            // The outlet knows which errors pass.
            Some(Due::Answers(answers)) if matches!(reply, Reply::Error(_)) => {
                answers.into_iter().for_each(|answer| self.shared.outlet.send(answer));
            }
            Some(Due::Answers(_)) => {}
            None => tracing::error!(?reply, "a reply to nothing"),
        }
    }

    fn on_refused_claim(&mut self, error: &ClaimError) {
        if *error == ClaimError::Unsupported {
            tracing::info!("{error}; using BLPOP and LPOP");
            return;
        }
        tracing::error!(%error, "Redis gives no jobs");
        self.state.claim_after = Some(Instant::now() + AFTER_REFUSAL);
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
    }

    fn is_over(&self, stop_by: Instant) -> bool {
        let state = &self.state;
        let left = state.running.len() + state.waiting.len();
        if left == 0 && state.due.is_empty() {
            return true;
        }
        let over = Instant::now() >= stop_by;
        if over {
            tracing::error!(left, "stopped with jobs unfinished");
        }
        over
    }
}

/// Ends the pop that a connection waits in. Closing the connection would do it too, and lose the job that Redis
/// may be handing over at that moment. A pop that has not reached Redis yet cannot be ended, so this asks again.
async fn unblock(commands: mpsc::Sender<Command>, client: i64) {
    loop {
        let parts = [b"CLIENT".as_slice(), b"UNBLOCK", client.to_string().as_bytes()].map(<[u8]>::to_vec);
        let (command, replied) = Command::new(parts.into());
        if commands.send(command).await.is_err() || matches!(replied.await, Ok(Ok(Reply::Int(1)))) {
            return;
        }
        sleep(UNBLOCK_AGAIN).await;
    }
}

/// Waits for a moment if there is one, else for ever; a timer is made only then.
async fn reached(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// Waits for the future if there is one, else for ever.
async fn unblocked(unblocking: &mut Option<Pin<Box<dyn Future<Output = ()> + Send>>>) {
    match unblocking {
        Some(unblocking) => unblocking.await,
        None => std::future::pending().await,
    }
}
