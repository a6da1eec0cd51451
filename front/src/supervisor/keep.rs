//! Keeps one program running: starts it again when it ends, until it is told to stop.
//!
//! It reports what happens and does not log. It must not know what the program is for.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::child::{Child, Exit, Lines, Program};
use crate::backoff::Backoff;

/// Bound of the first wait before a program is started again.
const FIRST_WAIT: Duration = Duration::from_millis(200);
/// Bound of every later one; it is never given up.
const LAST_WAIT: Duration = Duration::from_secs(30);
/// A program that lived this long is taken for sound: the next wait is the first again.
const SOUND: Duration = Duration::from_secs(10);

/// What happens to a kept program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// It runs, with this process id.
    Started(i32),
    /// It ended and will be started again after the delay.
    Ended(Exit, Duration),
    /// It ended because it was told to.
    Stopped(Exit),
}

/// What to keep running.
pub struct Kept {
    /// Gives the program of each start; the number counts starts from 0.
    pub program: Box<dyn FnMut(u64) -> Program + Send>,
    /// Takes its lines.
    pub lines: Lines,
    /// Is told what happens; must not block.
    pub events: Box<dyn FnMut(Event) + Send>,
    /// From SIGTERM to SIGKILL.
    pub stop_time: Duration,
}

/// A program that is kept running. Dropping it ends the program by way of its guard.
#[derive(Debug)]
pub struct Keeper {
    order: watch::Sender<Order>,
    task: Option<JoinHandle<()>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
enum Order {
    Run,
    Stop,
    Hasten,
}

impl Keeper {
    /// Begins to keep `kept`; `running` is its first run where it was started already.
    pub fn start(kept: Kept, running: Option<Child>) -> Self {
        let (order, orders) = watch::channel(Order::Run);
        Self { order, task: Some(tokio::spawn(keep(kept, running, orders))) }
    }

    /// Asks the program to stop and does not wait.
    pub fn stop(&self) {
        self.raise(Order::Stop);
    }

    /// As [`Keeper::stop`], and what is asked already is waited for no longer.
    pub fn hasten(&self) {
        self.raise(Order::Hasten);
    }

    /// Waits until the program has stopped; it must have been told to.
    pub async fn stopped(&mut self) {
        if let Some(task) = &mut self.task {
            // Fails only if the runtime ends, and then the lifelines are cut.
            let _ = task.await;
            self.task = None;
        }
    }

    fn raise(&self, to: Order) {
        self.order.send_if_modified(|order| {
            let raised = *order < to;
            if raised {
                *order = to;
            }
            raised
        });
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

async fn keep(mut kept: Kept, mut running: Option<Child>, mut orders: watch::Receiver<Order>) {
    let mut waits = Backoff::new(FIRST_WAIT, LAST_WAIT);
    for start in 0.. {
        let began = Instant::now();
        let exit = match running.take().map_or_else(|| start_one(&mut kept, start), Ok) {
            Ok(mut child) => match run_one(&mut child, &mut kept, &mut orders).await {
                Ended::ByItself(exit) => exit,
                Ended::Told(exit) => return (kept.events)(Event::Stopped(exit)),
            },
            Err(exit) => exit,
        };
        if began.elapsed() >= SOUND {
            waits.reset();
        }
        let delay = waits.next_wait();
        (kept.events)(Event::Ended(exit, delay));
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            () = reached(&mut orders, Order::Stop) => return,
        }
    }
}

fn start_one(kept: &mut Kept, start: u64) -> Result<Child, Exit> {
    let program = (kept.program)(start);
    Child::spawn(&program, Arc::clone(&kept.lines)).map_err(|error| Exit::NotStarted(format!("cannot start: {error}")))
}

enum Ended {
    ByItself(Exit),
    Told(Exit),
}

async fn run_one(child: &mut Child, kept: &mut Kept, orders: &mut watch::Receiver<Order>) -> Ended {
    if let Some(pid) = child.pid().await {
        (kept.events)(Event::Started(pid));
    }
    tokio::select! {
        exit = child.wait() => return Ended::ByItself(exit),
        () = reached(orders, Order::Stop) => {}
    }
    Ended::Told(child.stop(kept.stop_time, reached(orders, Order::Hasten)).await)
}

/// Completes once the order is at least `order`, or nobody is left to give one.
async fn reached(orders: &mut watch::Receiver<Order>, order: Order) {
    // An error means that the keeper is gone; its programs are to end then.
    let _ = orders.wait_for(|now| *now >= order).await;
}
