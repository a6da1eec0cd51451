//! The worker's second connection: everything that must not wait behind a blocking pop.
//!
//! Answers that finish while the worker waits for jobs, parts of streams, publications, the heartbeat, and in reliable
//! mode what keeps its claims its own. It keeps each answer until Redis has acknowledged it, over as many connections
//! as that takes, while its deadline lasts. It runs on a thread of its own, since a handler that computes must not
//! make its worker look dead. It must not take jobs or know how they run.

mod backlog;
mod heartbeat;
mod keeper;
mod registrar;
mod replies;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tempest_protocol::JobText;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep_until, timeout};

use crate::answer::{self, Acknowledged, Answer, Claims};
use crate::backoff::Backoff;
use crate::connection::Reply;
use crate::link::Link;
use crate::membership::Membership;
use crate::publisher::{Asked, Command, PublishError};
use crate::request::Context;
use crate::status::{Status, count};
use crate::waiting::Waiting;

use self::backlog::Backlog;
pub(crate) use self::heartbeat::{Heartbeat, Identity};
use self::keeper::{Keeper, LookedFor};
use self::registrar::Registrar;

/// Time between heartbeats.
const BEAT: Duration = Duration::from_secs(1);
/// Bytes of undelivered answers from which on the worker takes no new jobs.
const BUSY_BYTES: usize = 8 * 1024 * 1024;
/// Bytes written ahead of their acknowledgement.
const AHEAD_BYTES: usize = 4 * 1024 * 1024;
/// A reply that takes longer than this means that the connection is of no use.
const REPLY_TIMEOUT: Duration = Duration::from_secs(10);
/// Messages unread on a list, as `RPUSH` reports, from which on a stream to it is given up: its front is gone or
/// hopelessly behind, and Redis must not fill up with what nobody reads.
const UNREAD_MESSAGES: i64 = 8192;
/// Longest wait for the record to be removed at the end; it expires by itself anyway.
const FAREWELL: Duration = Duration::from_secs(1);

/// The sending side: hands answers over, from any task or thread.
#[derive(Clone, Debug)]
pub(crate) struct Outlet {
    // Without a limit of its own: answers are bounded by the jobs that were claimed, streams by their windows.
    outgoing: mpsc::UnboundedSender<Outgoing>,
    held_bytes: Arc<AtomicUsize>,
}

/// What the loop and its jobs hand over.
#[derive(Debug)]
pub(crate) enum Outgoing {
    Answer(Answer),
    /// The connection for claims is this one now.
    ClaimsConnection(i64),
    /// Redis says that this worker is not registered.
    Unregistered,
    /// Numbers of claims that are not going to be started.
    GiveBack(Vec<u64>),
    /// Jobs wait to be started: look after them.
    Watch,
    /// Id of a background job that had crashed workers before and is done: what counts them is to be forgotten.
    Survived(JobText),
}

/// How the worker ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ending {
    /// Until when to deliver what is left.
    pub(crate) by: Instant,
    /// Every job was finished or given back.
    pub(crate) settled: bool,
}

impl Outlet {
    pub(crate) fn new() -> (Self, mpsc::UnboundedReceiver<Outgoing>) {
        let (outgoing, receiver) = mpsc::unbounded_channel();
        (Self { outgoing, held_bytes: Arc::default() }, receiver)
    }

    pub(crate) fn send(&self, answer: Answer) {
        self.tell(Outgoing::Answer(answer));
    }

    pub(crate) fn tell(&self, outgoing: Outgoing) {
        // The task ends last of all; after that there is nobody to answer through.
        let _ = self.outgoing.send(outgoing);
    }

    /// True: so much waits for Redis that no more jobs should be taken.
    pub(crate) fn is_busy(&self) -> bool {
        self.held_bytes.load(Ordering::Relaxed) > BUSY_BYTES
    }
}

/// The receiving side: owns the connection.
pub(crate) struct OutletTask {
    link: Link,
    outgoing: mpsc::UnboundedReceiver<Outgoing>,
    commands: mpsc::Receiver<Command>,
    backlog: Backlog,
    waiting_commands: VecDeque<Command>,
    due: VecDeque<Due>,
    ahead_bytes: usize,
    held_bytes: Arc<AtomicUsize>,
    /// Redis refuses for the time being; next try.
    paused: Option<Instant>,
    backoff: Backoff,
    beat_due: bool,
    heartbeat: Heartbeat,
    registrar: Registrar,
    membership: Arc<Membership>,
    keeper: Keeper,
    /// Each was acknowledged, so they are no more than there were claims.
    survived: Vec<JobText>,
    look_due: bool,
    context: Arc<Context>,
    status: Arc<Status>,
}

/// A reply to come.
enum Due {
    Answers(Vec<Answer>),
    Acknowledged(Acknowledged),
    Registered,
    GaveBack(Vec<u64>),
    /// To the question for claims.
    Asked,
    Looked(LookedFor),
    /// Which says nothing.
    Nothing,
    Command(Command),
    /// To `TIME`.
    Time,
    /// To a part of the heartbeat.
    Beat,
}

/// What the task is made of, apart from its channels.
pub(crate) struct Parts {
    pub(crate) link: Link,
    pub(crate) heartbeat: Heartbeat,
    pub(crate) membership: Arc<Membership>,
    pub(crate) waiting: Arc<Waiting>,
    pub(crate) context: Arc<Context>,
    pub(crate) status: Arc<Status>,
}

impl OutletTask {
    pub(crate) fn new(
        parts: Parts,
        outlet: &Outlet,
        outgoing: mpsc::UnboundedReceiver<Outgoing>,
        commands: mpsc::Receiver<Command>,
    ) -> Self {
        let Parts { link, heartbeat, membership, waiting, context, status } = parts;
        Self {
            link,
            outgoing,
            commands,
            backlog: Backlog::default(),
            waiting_commands: VecDeque::new(),
            due: VecDeque::new(),
            ahead_bytes: 0,
            held_bytes: outlet.held_bytes.clone(),
            paused: None,
            backoff: Backoff::new(),
            beat_due: true,
            registrar: Registrar::new(membership.clone(), &heartbeat),
            heartbeat,
            membership,
            keeper: Keeper::new(waiting),
            survived: Vec::new(),
            look_due: false,
            context,
            status,
        }
    }

    /// Runs until `finish` says by when all has to be delivered, and that is done or past. Ends at once, as if it were
    /// killed, when nobody is there to say so any more.
    pub(crate) async fn run(mut self, mut finish: oneshot::Receiver<Ending>) {
        let (mut beats, mut looks, mut wider_looks) = (every(BEAT), every(keeper::LOOK), every(keeper::WITHDRAWN_LOOK));
        let mut ending: Option<Ending> = None;
        let settled = loop {
            self.collect();
            self.send().await;
            if let Some(Ending { by, settled }) = ending
                && let Some(delivered) = self.is_finished(by)
            {
                break settled && delivered;
            }
            let paused = self.paused;
            tokio::select! {
                told = &mut finish, if ending.is_none() => match told {
                    Ok(told) => ending = Some(told),
                    Err(_) => return,
                },
                _ = beats.tick() => self.beat(),
                event = self.link.event() => self.on_link_events(event),
                _ = looks.tick(), if self.keeper.is_watching() => {
                    self.keeper.look(self.registrar.is_registered() && self.link.is_up());
                }
                _ = wider_looks.tick(), if self.registrar.is_registered() => self.look_due = true,
                () = past(ending), if ending.is_some() => {}
                Some(outgoing) = self.outgoing.recv() => self.take(outgoing),
                Some(command) = self.commands.recv() => self.waiting_commands.push_back(command),
                () = sleep_until(paused.unwrap_or_else(Instant::now)), if paused.is_some() => self.paused = None,
            }
        };
        self.say_farewell(settled).await;
    }

    /// Takes over all that is there, so that it leaves in one write.
    fn collect(&mut self) {
        while let Ok(outgoing) = self.outgoing.try_recv() {
            self.take(outgoing);
        }
        while let Ok(command) = self.commands.try_recv() {
            self.waiting_commands.push_back(command);
        }
        self.held_bytes.store(self.ahead_bytes + self.backlog.bytes(), Ordering::Relaxed);
    }

    fn take(&mut self, outgoing: Outgoing) {
        match outgoing {
            Outgoing::Answer(answer) => self.hold(answer),
            Outgoing::ClaimsConnection(id) => self.registrar.on_claims_connection(id),
            Outgoing::Unregistered => self.registrar.ask_again(),
            Outgoing::GiveBack(numbers) => self.keeper.give_back(numbers),
            Outgoing::Watch => self.keeper.watch(),
            Outgoing::Survived(id) => self.survived.push(id),
        }
    }

    fn hold(&mut self, mut answer: Answer) {
        if !self.membership.settle(&mut answer) {
            return;
        }
        for dropped in self.backlog.push(answer) {
            self.give_up(&dropped, "too much is waiting for Redis");
            // Its claim ends all the same.
            dropped.acknowledges.into_iter().for_each(|done| drop(self.backlog.push(Answer::none(done))));
        }
    }

    fn give_up(&self, answer: &Answer, why: &str) {
        count(&self.status.undelivered);
        answer.close_stream();
        tracing::error!(reply_to = &*answer.reply_to, bytes = answer.message.len(), why, "an answer was not delivered");
    }

    async fn send(&mut self) {
        if !self.link.is_up() {
            return;
        }
        self.write_beat();
        self.write_registration();
        self.write_commands();
        if self.paused.is_none() && self.registrar.is_settled() {
            self.write_answers();
            self.write_keeping();
        }
        if let Some(connection) = self.link.up()
            && !connection.out.is_empty()
        {
            self.link.expect_reply_by(Some(Instant::now() + REPLY_TIMEOUT));
            if let Some(event) = self.link.flush().await {
                self.on_link(event);
            }
        }
    }

    fn write_answers(&mut self) {
        let now = self.context.clock.now_ms();
        let mut batch = Vec::new();
        while self.ahead_bytes < AHEAD_BYTES
            && let Some(answer) = self.backlog.pop()
        {
            if answer.expires_ms <= now {
                self.give_up(&answer, "its deadline passed");
                batch.extend(answer.acknowledges.map(Answer::none));
                continue;
            }
            self.ahead_bytes += answer.message.len();
            batch.push(answer);
        }
        if let Some((out, loaded)) = self.link.out() {
            let claims = match (self.registrar.keys(), loaded) {
                (Some(keys), Some(Ok(loaded))) => Some(Claims { keys, loaded, batch: None }),
                _ => None,
            };
            let written = answer::write_all(out, batch, claims.as_ref());
            self.due.extend(written.pushes.into_iter().map(Due::Answers));
            self.due.extend(written.acknowledged.into_iter().map(Due::Acknowledged));
        }
    }

    fn write_registration(&mut self) {
        let Some((out, Some(Ok(loaded)))) = self.link.out() else { return };
        if let Some(others) = self.registrar.write(out, loaded) {
            self.due.extend((0..others).map(|_| Due::Nothing));
            self.due.push_back(Due::Registered);
        }
    }

    /// Gives back what waits in vain, and asks which running jobs are not wanted any more.
    fn write_keeping(&mut self) {
        let look_due = std::mem::take(&mut self.look_due);
        let (Some(keys), Some((out, Some(Ok(loaded))))) = (self.registrar.keys(), self.link.out()) else { return };
        self.due.extend(self.keeper.write(out, loaded, keys).map(Due::GaveBack));
        // Lost with its connection it is not said again: nobody runs that job any more, and the count has an end.
        for id in self.survived.drain(..) {
            out.command(&[b"HDEL", keys.attempts.as_bytes(), id.as_bytes()]);
            self.due.push_back(Due::Nothing);
        }
        if self.keeper.write_ask(out, keys) {
            self.due.push_back(Due::Asked);
        }
        if look_due {
            self.due.extend(Keeper::write_look(out, &self.status, keys).map(Due::Looked));
        }
    }

    fn write_commands(&mut self) {
        let Some(connection) = self.link.up() else { return };
        for command in self.waiting_commands.drain(..) {
            match &command.asked {
                Asked::Parts(parts) => {
                    let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
                    connection.out.command(&parts);
                }
                Asked::Rules => connection.out.command(&[b"GET", self.context.publisher.rules_key().as_bytes()]),
            }
            self.due.push_back(Due::Command(command));
        }
    }

    // ---- the heartbeat ---------------------------------------------------------------------------------------

    fn beat(&mut self) {
        self.beat_due = true;
        self.registrar.on_beat();
        if let Some(event) = self.link.check_overdue() {
            self.on_link(event);
        }
        if !self.link.is_up() {
            self.forget_overdue();
        }
    }

    /// Without a connection, gives up what has waited too long for one.
    fn forget_overdue(&mut self) {
        for late in self.backlog.take_expired(self.context.clock.now_ms()) {
            self.give_up(&late, "its deadline passed");
            late.acknowledges.into_iter().for_each(|done| drop(self.backlog.push(Answer::none(done))));
        }
        let now = Instant::now();
        let (late, waiting) = self.waiting_commands.drain(..).partition::<VecDeque<_>, _>(|c| c.write_by <= now);
        self.waiting_commands = waiting;
        late.into_iter().for_each(|command| reply(command, Err(PublishError::Unavailable)));
    }

    fn write_beat(&mut self) {
        let now_ms = self.context.clock.now_ms();
        let Some(connection) = self.link.up().filter(|_| self.beat_due) else { return };
        self.beat_due = false;
        connection.out.command(&[b"TIME"]);
        let replies = self.heartbeat.write(&mut connection.out, &self.status, now_ms);
        self.due.push_back(Due::Time);
        self.due.extend((0..replies).map(|_| Due::Beat));
    }

    // ---- the end ---------------------------------------------------------------------------------------------

    /// None: not yet; else whether all has been delivered.
    fn is_finished(&self, by: Instant) -> Option<bool> {
        let under_way = |due: &Due| matches!(due, Due::Acknowledged(_) | Due::GaveBack(_) | Due::Registered);
        let forgotten = self.survived.is_empty() || self.registrar.keys().is_none();
        let written =
            self.backlog.len() == 0 && self.waiting_commands.is_empty() && self.keeper.is_empty() && forgotten;
        if written && self.ahead_bytes == 0 && !self.due.iter().any(under_way) {
            return Some(true);
        }
        if Instant::now() < by {
            return None;
        }
        tracing::error!(left = self.backlog.len(), "stopped with answers undelivered");
        Some(false)
    }

    /// Takes the worker out of Redis. One that leaves claims behind stays, so that it is found to be dead and they are
    /// taken from it.
    async fn say_farewell(mut self, settled: bool) {
        let registered = self.registrar.keys().is_some();
        if registered && !settled {
            return;
        }
        let Some(connection) = self.link.up() else { return };
        let mut due = self.due.len() + self.heartbeat.write_farewell(&mut connection.out);
        if registered {
            due += self.registrar.write_farewell(&mut connection.out);
        }
        let farewell = async {
            connection.flush().await?;
            for _ in 0..due {
                connection.reply().await?;
            }
            Ok::<(), crate::connection::ConnectionError>(())
        };
        if timeout(FAREWELL, farewell).await.is_err() {
            tracing::debug!("the record was not removed in time; it expires");
        }
    }
}

fn every(period: Duration) -> Interval {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

async fn past(ending: Option<Ending>) {
    if let Some(Ending { by, .. }) = ending {
        sleep_until(by).await;
    }
}

fn reply(command: Command, outcome: Result<Reply, PublishError>) {
    // Whoever asked may have left.
    let _ = command.reply.send(outcome);
}
