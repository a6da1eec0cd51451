//! The worker's second connection: everything that must not wait behind a blocking pop.
//!
//! Answers that finish while the worker waits for jobs, parts of streams, publications, the heartbeat. It keeps each
//! answer until Redis has acknowledged it, over as many connections as that takes, while its deadline lasts. It
//! must not take jobs or know how they run.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep_until, timeout};

use crate::answer::{self, Answer};
use crate::backlog::Backlog;
use crate::backoff::Backoff;
use crate::connection::Reply;
use crate::heartbeat::Heartbeat;
use crate::link::{Link, LinkEvent};
use crate::publisher::{Command, PublishError};
use crate::request::Context;
use crate::status::{Status, count};

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
    answers: mpsc::UnboundedSender<Answer>,
    held_bytes: Arc<AtomicUsize>,
}

impl Outlet {
    pub(crate) fn new() -> (Self, mpsc::UnboundedReceiver<Answer>) {
        let (answers, receiver) = mpsc::unbounded_channel();
        (Self { answers, held_bytes: Arc::default() }, receiver)
    }

    pub(crate) fn send(&self, answer: Answer) {
        // The task ends last of all; after that there is nobody to answer through.
        let _ = self.answers.send(answer);
    }

    /// True: so much waits for Redis that no more jobs should be taken.
    pub(crate) fn is_busy(&self) -> bool {
        self.held_bytes.load(Ordering::Relaxed) > BUSY_BYTES
    }
}

/// The receiving side: owns the connection.
pub(crate) struct OutletTask {
    link: Link,
    answers: mpsc::UnboundedReceiver<Answer>,
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
    context: Arc<Context>,
    status: Arc<Status>,
}

/// A reply to come.
enum Due {
    Answers(Vec<Answer>),
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
    pub(crate) context: Arc<Context>,
    pub(crate) status: Arc<Status>,
}

impl OutletTask {
    pub(crate) fn new(
        parts: Parts,
        outlet: &Outlet,
        answers: mpsc::UnboundedReceiver<Answer>,
        commands: mpsc::Receiver<Command>,
    ) -> Self {
        let Parts { link, heartbeat, context, status } = parts;
        Self {
            link,
            answers,
            commands,
            backlog: Backlog::default(),
            waiting_commands: VecDeque::new(),
            due: VecDeque::new(),
            ahead_bytes: 0,
            held_bytes: outlet.held_bytes.clone(),
            paused: None,
            backoff: Backoff::new(),
            beat_due: true,
            heartbeat,
            context,
            status,
        }
    }

    /// Runs until `finish` says by when all has to be delivered, and that is done or past.
    pub(crate) async fn run(mut self, mut finish: oneshot::Receiver<Instant>) {
        let mut beats = beats();
        let mut finish_by = None;
        loop {
            self.collect();
            self.send().await;
            if finish_by.is_some_and(|by| self.is_finished(by)) {
                break;
            }
            let paused = self.paused;
            tokio::select! {
                by = &mut finish, if finish_by.is_none() => finish_by = Some(by.unwrap_or_else(|_| Instant::now())),
                _ = beats.tick() => self.beat(),
                event = self.link.event() => self.on_link_events(event),
                Some(answer) = self.answers.recv() => self.hold(answer),
                Some(command) = self.commands.recv() => self.waiting_commands.push_back(command),
                () = sleep_until(paused.unwrap_or_else(Instant::now)), if paused.is_some() => self.paused = None,
            }
        }
        self.say_farewell().await;
    }

    /// Takes over all that is there, so that it leaves in one write.
    fn collect(&mut self) {
        while let Ok(answer) = self.answers.try_recv() {
            self.hold(answer);
        }
        while let Ok(command) = self.commands.try_recv() {
            self.waiting_commands.push_back(command);
        }
        self.held_bytes.store(self.ahead_bytes + self.backlog.bytes(), Ordering::Relaxed);
    }

    fn hold(&mut self, answer: Answer) {
        for dropped in self.backlog.push(answer) {
            self.give_up(&dropped, "too much is waiting for Redis");
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
        self.write_commands();
        if self.paused.is_none() {
            self.write_answers();
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
                continue;
            }
            self.ahead_bytes += answer.message.len();
            batch.push(answer);
        }
        if let Some(connection) = self.link.up() {
            let pushes = answer::push_all(&mut connection.out, batch);
            self.due.extend(pushes.into_iter().map(Due::Answers));
        }
    }

    fn write_commands(&mut self) {
        let Some(connection) = self.link.up() else { return };
        for command in self.waiting_commands.drain(..) {
            let parts: Vec<&[u8]> = command.parts.iter().map(Vec::as_slice).collect();
            connection.out.command(&parts);
            self.due.push_back(Due::Command(command));
        }
    }

    // ---- the heartbeat ---------------------------------------------------------------------------------------

    fn beat(&mut self) {
        self.beat_due = true;
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

    // ---- replies ---------------------------------------------------------------------------------------------

    fn on_link_events(&mut self, first: LinkEvent) {
        self.on_link(first);
        while let Some(event) = self.link.buffered() {
            self.on_link(event);
        }
        if self.due.is_empty() {
            self.link.expect_reply_by(None);
        } else if self.link.is_up() {
            self.link.expect_reply_by(Some(Instant::now() + REPLY_TIMEOUT));
        }
    }

    fn on_link(&mut self, event: LinkEvent) {
        match event {
            LinkEvent::Reply(reply) => self.on_reply(reply),
            LinkEvent::Connected => {
                if let Some(connection) = self.link.up() {
                    self.context.clock.set(connection.redis_ms());
                }
                self.beat_due = true;
            }
            LinkEvent::Lost(error) => {
                tracing::warn!(%error, "lost the connection for answers; dialling again");
                self.take_back();
            }
        }
    }

    fn on_reply(&mut self, received: Reply) {
        match self.due.pop_front() {
            Some(Due::Answers(answers)) => {
                self.ahead_bytes -= answer::bytes(&answers);
                self.on_pushed(answers, received);
            }
            Some(Due::Command(command)) => reply(command, Ok(received)),
            Some(Due::Time) => {
                if let Some(redis_ms) = received.time_ms() {
                    self.context.clock.set(redis_ms);
                }
            }
            Some(Due::Beat) => self.heartbeat.on_reply(received),
            None => tracing::error!(?received, "a reply to nothing"),
        }
    }

    fn on_pushed(&mut self, answers: Vec<Answer>, reply: Reply) {
        match reply {
            Reply::Int(unread) => {
                self.backoff = Backoff::new();
                if unread > UNREAD_MESSAGES {
                    answers.iter().for_each(Answer::close_stream);
                }
            }
            Reply::Error(error) if is_passing(&error) => {
                tracing::warn!(error, "Redis does not take answers now; trying again");
                self.backlog.put_back(answers);
                self.paused = Some(Instant::now() + self.backoff.wait());
            }
            refused => {
                let why = format!("Redis refused: {refused:?}");
                answers.iter().for_each(|answer| self.give_up(answer, &why));
            }
        }
    }

    /// What was written and not acknowledged goes to the head again, in its order.
    fn take_back(&mut self) {
        self.ahead_bytes = 0;
        for due in std::mem::take(&mut self.due).into_iter().rev() {
            match due {
                Due::Answers(answers) => self.backlog.put_back(answers),
                // A second publication could be seen twice; only the caller knows whether that would hurt.
                Due::Command(command) => reply(command, Err(PublishError::Unknown)),
                Due::Time | Due::Beat => {}
            }
        }
    }

    // ---- the end ---------------------------------------------------------------------------------------------

    fn is_finished(&self, by: Instant) -> bool {
        let delivered = self.backlog.len() == 0 && self.waiting_commands.is_empty() && self.ahead_bytes == 0;
        if Instant::now() >= by && !delivered {
            let left = self.backlog.len();
            tracing::error!(left, "stopped with answers undelivered");
        }
        delivered || Instant::now() >= by
    }

    /// Takes the worker's record out of Redis.
    async fn say_farewell(mut self) {
        let Some(connection) = self.link.up() else { return };
        let due = self.due.len() + self.heartbeat.write_farewell(&mut connection.out);
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

fn beats() -> Interval {
    let mut beats = interval(BEAT);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    beats
}

fn reply(command: Command, outcome: Result<Reply, PublishError>) {
    // Whoever asked may have left.
    let _ = command.reply.send(outcome);
}

/// Errors that pass by themselves: memory is short, a replica was not promoted yet, data is being loaded.
fn is_passing(error: &str) -> bool {
    ["OOM", "READONLY", "LOADING", "BUSY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "MISCONF", "NOREPLICAS"]
        .iter()
        .any(|code| error.starts_with(code))
}
