//! One pipelined connection: commands go out in one buffer a turn, replies are matched in order.
//!
//! Appending never waits. The connection's own task writes what has gathered since it last ran, so a busy turn of
//! the reactor costs one system call however many requests it served. When the connection breaks, each command is
//! known to have been handed to the kernel whole, or not; that is the line between «unknown» and «unwritten».
//! It must not retry anything by itself: whether a second try is safe is not known here.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io;
use std::mem::take;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use redis_protocol::resp2::types::BytesFrame;
use tokio::io::{AsyncReadExt, AsyncWrite};
use tokio::sync::oneshot;
use tokio::task::yield_now;
use tokio::time::{sleep, sleep_until};

use super::dial::{Dialled, Stream, dial};
use super::outgoing::Outgoing;
use super::wire::{Command, take_reply};
use super::{Lost, NotTaken, Outage, Pushed, Shared};
use crate::backoff::Backoff;
use crate::lifecycle::{Life, Phase};

/// After this many times the stall limit without a reply the connection is given up.
const GIVE_UP_STALLS: u32 = 5;
/// Waits between tries to connect.
const RECONNECT: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

pub(crate) struct Link(Rc<Inner>);

struct Inner {
    shared: Rc<Shared>,
    label: &'static str,
    state: RefCell<State>,
    outage: Outage,
}

struct State {
    up: bool,
    stalled: bool,
    /// The socket takes nothing now, and wakes the connection's task when it does.
    blocked: bool,
    /// When the connection was lost, or the link made.
    down_since: Instant,
    out: Outgoing,
    expects: VecDeque<Expect>,
    waker: Option<Waker>,
}

struct Expect {
    /// The command's end, in bytes appended; unknown while more pushes can join it.
    end: Option<u64>,
    at: Instant,
    then: Then,
}

enum Then {
    /// The tokens of its values, in order.
    Push(Vec<u64>),
    Forget,
    Withdraw,
    TakeBack(u64),
    Call(oneshot::Sender<BytesFrame>),
    Ask(oneshot::Sender<Result<BytesFrame, Lost>>),
}

impl Link {
    pub(crate) fn new(shared: Rc<Shared>, label: &'static str) -> Self {
        let state = State {
            up: false,
            stalled: false,
            blocked: false,
            down_since: Instant::now(),
            out: Outgoing::default(),
            expects: VecDeque::new(),
            waker: None,
        };
        Self(Rc::new(Inner { shared, label, state: RefCell::new(state), outage: Outage::default() }))
    }

    pub(crate) fn start(&self, life: Life) {
        let inner = Rc::clone(&self.0);
        tokio::task::spawn_local(async move {
            let mut end = life.clone();
            tokio::select! {
                () = inner.run() => {}
                () = end.reached(Phase::Stopping) => {}
            }
        });
    }

    pub(crate) fn is_up(&self) -> bool {
        let state = self.0.state.borrow();
        state.up && !state.stalled
    }

    pub(crate) fn push(&self, key: &[u8], payload: &Bytes, token: u64) -> Result<(), NotTaken> {
        let state = &mut *self.0.state.borrow_mut();
        state.admits(payload.len(), &self.0.shared.options)?;
        if state.out.joins(key, payload) {
            state.out.join(payload);
            state.joined(token);
        } else {
            state.close_group();
            let end = state.out.push(key, payload);
            state.expect(end, Then::Push(vec![token]));
        }
        Ok(())
    }

    /// A push by another command than `RPUSH`, whose reply is the depth all the same.
    pub(crate) fn push_command(&self, command: &Command, token: u64) -> Result<(), NotTaken> {
        let state = &mut *self.0.state.borrow_mut();
        state.admits(command.0.len(), &self.0.shared.options)?;
        state.close_group();
        let end = state.out.append(&command.0);
        state.expect(Some(end), Then::Push(vec![token]));
        Ok(())
    }

    pub(crate) fn forget(&self, command: Command) {
        self.send(command, Then::Forget);
    }

    /// Like [`Link::forget`], for a command that gives the number of jobs it took out of a list.
    pub(crate) fn withdraw(&self, command: Command) {
        self.send(command, Then::Withdraw);
    }

    /// Like [`Link::withdraw`], and `token` is told.
    pub(crate) fn take_back(&self, command: Command, token: u64) {
        self.send(command, Then::TakeBack(token));
    }

    pub(crate) fn call(&self, command: Command) -> oneshot::Receiver<BytesFrame> {
        let (sender, receiver) = oneshot::channel();
        self.send(command, Then::Call(sender));
        receiver
    }

    /// Like [`Link::call`], taken or not like a push, and what is not replied to says why.
    pub(crate) fn ask(&self, command: &Command) -> Result<oneshot::Receiver<Result<BytesFrame, Lost>>, NotTaken> {
        let state = &mut *self.0.state.borrow_mut();
        state.admits(command.0.len(), &self.0.shared.options)?;
        state.close_group();
        let (sender, receiver) = oneshot::channel();
        let end = state.out.append(&command.0);
        state.expect(Some(end), Then::Ask(sender));
        Ok(receiver)
    }

    fn send(&self, command: Command, then: Then) {
        let state = &mut *self.0.state.borrow_mut();
        let length = command.0.len();
        if state.up && !state.stalled && state.out.waiting() + length <= self.0.shared.options.outgoing_bytes {
            state.close_group();
            let end = state.out.append(&command.0);
            state.expect(Some(end), then);
        }
    }

    /// Looks for a server that has gone silent; to be called a few times in every stall limit.
    pub(crate) fn tick(&self, now: Instant) {
        let stall = self.0.shared.options.stall;
        let state = &mut *self.0.state.borrow_mut();
        let Some(first) = state.expects.front() else { return };
        let silent = now.saturating_duration_since(first.at);
        if state.up && silent > stall {
            if !state.stalled {
                tracing::warn!(link = self.0.label, "Redis has not answered for {} ms", silent.as_millis());
            }
            state.stalled = true;
            // The connection's task looks at the clock and gives up when it has been too long.
            if silent > stall * GIVE_UP_STALLS {
                state.wake();
            }
        }
    }
}

impl State {
    fn admits(&self, bytes: usize, options: &super::Options) -> Result<(), NotTaken> {
        let takes = if self.up { !self.stalled } else { self.down_since.elapsed() < options.patience };
        match (takes, self.out.waiting() + bytes <= options.outgoing_bytes) {
            (false, _) => Err(NotTaken::Down),
            (true, false) => Err(NotTaken::Full),
            (true, true) => Ok(()),
        }
    }

    fn expect(&mut self, end: Option<u64>, then: Then) {
        self.expects.push_back(Expect { end, at: Instant::now(), then });
        self.wake();
    }

    /// A push has become part of the last command.
    fn joined(&mut self, token: u64) {
        if let Some(Expect { then: Then::Push(tokens), .. }) = self.expects.back_mut() {
            tokens.push(token);
        }
    }

    /// No more pushes join the last command.
    fn close_group(&mut self) {
        if let Some(last) = self.expects.back_mut().filter(|last| last.end.is_none()) {
            last.end = Some(self.out.close_group());
        }
    }

    fn may_write(&self) -> bool {
        !self.blocked && self.out.waiting() > 0
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Forgets everything of this connection and tells what became of each push.
    fn reset(&mut self) -> Vec<(u64, Pushed)> {
        let written = self.out.written();
        let mut fates = Vec::new();
        for expect in self.expects.drain(..) {
            let out = expect.end.is_some_and(|end| end <= written);
            match expect.then {
                Then::Push(tokens) => {
                    let fate = if out { Pushed::Unknown } else { Pushed::Unwritten };
                    fates.extend(tokens.into_iter().map(|token| (token, fate.clone())));
                }
                Then::Ask(sender) => drop(sender.send(Err(if out { Lost::Unknown } else { Lost::Unwritten }))),
                Then::Forget | Then::Withdraw | Then::TakeBack(_) | Then::Call(_) => {}
            }
        }
        self.out = Outgoing::default();
        self.blocked = false;
        self.stalled = false;
        fates
    }
}

impl Inner {
    async fn run(self: Rc<Self>) {
        let mut backoff = Backoff::new(RECONNECT.0, RECONNECT.1);
        loop {
            match self.connect().await {
                Ok(dialled) => {
                    backoff.reset();
                    let error = self.serve(dialled).await;
                    self.lost(&error);
                }
                Err(error) => {
                    if self.outage.begins() {
                        tracing::warn!(link = self.label, redis = %self.shared.options.url, "no connection to Redis: {error}");
                    }
                    self.wait(backoff.next_wait()).await;
                }
            }
        }
    }

    /// Connects; what waits in the buffer meanwhile is given up as soon as the patience is over.
    async fn connect(&self) -> Result<Dialled, super::DialError> {
        let name = format!("{}:{}", self.shared.options.name, self.label);
        let mut dialling = pin!(dial(&self.shared.options.url, &name));
        let patience_ends = self.state.borrow().down_since + self.shared.options.patience;
        tokio::select! {
            biased;
            result = &mut dialling => return result,
            () = sleep_until(patience_ends.into()) => self.give_up_waiting(),
        }
        dialling.await
    }

    async fn wait(&self, time: Duration) {
        let patience_ends = self.state.borrow().down_since + self.shared.options.patience;
        let over = Instant::now() + time;
        if patience_ends < over {
            sleep_until(patience_ends.into()).await;
            self.give_up_waiting();
        }
        sleep_until(over.into()).await;
    }

    fn give_up_waiting(&self) {
        let fates = self.state.borrow_mut().reset();
        self.tell(fates);
    }

    fn lost(&self, error: &io::Error) {
        let fates = {
            let mut state = self.state.borrow_mut();
            state.up = false;
            state.down_since = Instant::now();
            state.reset()
        };
        self.outage.begins();
        self.shared.metrics.redis_reconnects.inc();
        tracing::warn!(link = self.label, "the connection to Redis is lost: {error}");
        self.tell(fates);
    }

    fn tell(&self, mut fates: Vec<(u64, Pushed)>) {
        if let (false, Some(sink)) = (fates.is_empty(), self.shared.sink()) {
            sink.pushed(&mut fates);
        }
    }

    async fn serve(&self, dialled: Dialled) -> io::Error {
        let forgot = self.shared.greeted(&dialled.greeting);
        self.state.borrow_mut().up = true;
        if let Some(lasted) = self.outage.over() {
            tracing::info!(link = self.label, "connected to Redis again after {} ms", lasted.as_millis());
        }
        if let Some(sink) = self.shared.sink() {
            sink.connected(forgot);
        }
        let Dialled { mut stream, mut buffer, .. } = dialled;
        let mut fates = Vec::new();
        let mut gathered = false;
        loop {
            let turn = poll_fn(|cx| match self.turn(cx, &mut stream, &mut buffer, &mut fates, take(&mut gathered)) {
                Ok(()) if self.state.borrow().may_write() => Poll::Ready(Ok(())),
                Ok(()) => Poll::Pending,
                Err(error) => Poll::Ready(Err(error)),
            });
            if let Err(error) = turn.await {
                return error;
            }
            // Whoever else is ready, and whoever becomes so meanwhile, adds to what is written: with 64 clients twice as
            // many commands leave in one write, and wake Redis once. With one client it costs a look at the sockets.
            yield_now().await;
            gathered = true;
        }
    }

    /// One turn: writes what can be written if it has been gathered, reads what is there, tells what came.
    fn turn(
        &self,
        cx: &mut Context<'_>,
        stream: &mut Box<dyn Stream>,
        buffer: &mut BytesMut,
        fates: &mut Vec<(u64, Pushed)>,
        gathered: bool,
    ) -> io::Result<()> {
        self.state.borrow_mut().waker = Some(cx.waker().clone());
        if gathered || self.state.borrow().blocked {
            self.write(cx, stream)?;
        }
        let closed = self.read(cx, stream, buffer, fates);
        if let (false, Some(sink)) = (fates.is_empty(), self.shared.sink()) {
            sink.pushed(fates);
            fates.clear();
            // What was told may have led to more being appended, which has taken the waker.
            self.state.borrow_mut().waker = Some(cx.waker().clone());
        }
        closed?;
        self.check_silence()
    }

    fn check_silence(&self) -> io::Result<()> {
        let limit = self.shared.options.stall * GIVE_UP_STALLS;
        match self.state.borrow().expects.front() {
            Some(first) if first.at.elapsed() > limit => Err(io::ErrorKind::TimedOut.into()),
            _ => Ok(()),
        }
    }

    fn write(&self, cx: &mut Context<'_>, stream: &mut Box<dyn Stream>) -> io::Result<()> {
        let state = &mut *self.state.borrow_mut();
        state.close_group();
        state.blocked = false;
        while let Some(chunk) = state.out.next_chunk() {
            match Pin::new(&mut *stream).poll_write(cx, chunk) {
                Poll::Pending => {
                    state.blocked = true;
                    return Ok(());
                }
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(bytes)) => state.out.wrote(bytes),
                Poll::Ready(Err(error)) => return Err(error),
            }
        }
        match Pin::new(stream).poll_flush(cx) {
            Poll::Ready(Err(error)) => Err(error),
            _ => Ok(()),
        }
    }

    fn read(
        &self,
        cx: &mut Context<'_>,
        stream: &mut Box<dyn Stream>,
        buffer: &mut BytesMut,
        fates: &mut Vec<(u64, Pushed)>,
    ) -> io::Result<()> {
        loop {
            match pin!(stream.read_buf(buffer)).poll(cx) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Poll::Ready(Ok(_)) => self.take_replies(buffer, fates)?,
                Poll::Ready(Err(error)) => return Err(error),
            }
        }
    }

    fn take_replies(&self, buffer: &mut BytesMut, fates: &mut Vec<(u64, Pushed)>) -> io::Result<()> {
        let state = &mut *self.state.borrow_mut();
        let mut oldest = None;
        while let Some(frame) = take_reply(buffer)? {
            let Some(expect) = state.expects.pop_front() else {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a reply to nothing"));
            };
            oldest.get_or_insert(expect.at);
            match expect.then {
                Then::Push(tokens) => tell_each(&tokens, &frame, fates),
                Then::Call(sender) => drop(sender.send(frame)),
                Then::Ask(sender) => drop(sender.send(Ok(frame))),
                Then::Forget => self.note_error(&frame),
                Then::TakeBack(token) => fates.push((token, Pushed::TakenBack(self.count_withdrawn(&frame)))),
                Then::Withdraw => {
                    self.count_withdrawn(&frame);
                }
            }
        }
        if let Some(at) = oldest {
            state.stalled = false;
            self.shared.metrics.redis_round_trip.observe(at.elapsed());
        }
        Ok(())
    }

    /// True where something was taken out of a list.
    fn count_withdrawn(&self, frame: &BytesFrame) -> bool {
        match frame {
            BytesFrame::Integer(removed) if *removed > 0 => {
                self.shared.metrics.withdrawn.add(*removed as u64);
                return true;
            }
            other => self.note_error(other),
        }
        false
    }

    fn note_error(&self, frame: &BytesFrame) {
        if let BytesFrame::Error(text) = frame {
            tracing::warn!(link = self.label, "Redis refused a command: {text}");
        }
    }
}

/// The fate of each value of one command: its reply is the depth behind the last of them.
fn tell_each(tokens: &[u64], frame: &BytesFrame, fates: &mut Vec<(u64, Pushed)>) {
    for (behind, token) in (0..tokens.len()).rev().zip(tokens) {
        let fate = match frame {
            BytesFrame::Integer(depth) => Pushed::Depth(((*depth).max(0) as u64).saturating_sub(behind as u64)),
            other => Pushed::Refused(super::wire::text_of(other)),
        };
        fates.push((*token, fate));
    }
}

/// Kept here so that the two loops of this folder wait the same way.
pub(crate) async fn pause(backoff: &mut Backoff) {
    sleep(backoff.next_wait()).await;
}
