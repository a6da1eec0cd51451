//! One run of a program as a task: what happens to it is told at once, and it is ended when somebody asks.
//!
//! Whoever keeps several programs looks at the states of their runs and decides. It must not start anything again.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use super::child::{Child, Exit, Lines, Program, Seen};

/// From SIGKILL until a program that is not gone is given up: it hangs in the kernel.
const KILL_TIME: Duration = Duration::from_secs(5);

/// What happens to a run, in this order; of the two in the middle any number, by turns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// It runs, with this process id.
    Started(i32),
    /// It is stopped (SIGSTOP, a debugger) and does nothing.
    Stopped,
    /// It goes on.
    Continued,
    /// It is gone; said before anything else is done. The rest of its group may still be there.
    Died(Exit),
    /// The rest of its group is gone, too. Nothing follows.
    Gone,
}

/// Is told what happens, on the run's own task; must not block.
pub type Events = Box<dyn FnMut(Event) + Send>;

/// Where a run is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Its process id.
    pub pid: Option<i32>,
    /// It is stopped by a signal.
    pub stopped: bool,
    /// How it ended.
    pub exit: Option<Exit>,
    /// Nothing of its group is left.
    pub gone: bool,
}

/// A run. Dropping it ends the program by way of its guard.
pub struct Run {
    state: Arc<Mutex<State>>,
    order: watch::Sender<Order>,
    task: JoinHandle<()>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
enum Order {
    Live,
    Stop,
    Kill,
}

impl fmt::Debug for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Run").field("state", &self.state()).finish_non_exhaustive()
    }
}

impl Run {
    /// Starts `program`. From SIGTERM to SIGKILL it has `stop_time`. Needs a tokio runtime.
    ///
    /// That it could not be started is told as its death.
    pub fn start(program: &Program, lines: Lines, stop_time: Duration, events: Events) -> Self {
        let (order, orders) = watch::channel(Order::Live);
        let state = Arc::new(Mutex::new(State::default()));
        let tell = Tell { state: Arc::clone(&state), events };
        let task = match Child::spawn(program, lines) {
            Ok(child) => tokio::spawn(follow(child, stop_time, orders, tell)),
            Err(error) => tokio::spawn(async move {
                let mut tell = tell;
                tell.event(Event::Died(Exit::NotStarted(format!("cannot start: {error}"))));
                tell.event(Event::Gone);
            }),
        };
        Self { state, order, task }
    }

    /// Where it is now.
    pub fn state(&self) -> State {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Asks it to stop: SIGTERM to the program, and SIGKILL to its whole group when its time is over.
    pub fn stop(&self) {
        self.raise(Order::Stop);
    }

    /// SIGKILL to its whole group.
    pub fn kill(&self) {
        self.raise(Order::Kill);
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

impl Drop for Run {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Keeps the state and passes on what happens.
struct Tell {
    state: Arc<Mutex<State>>,
    events: Events,
}

impl Tell {
    fn event(&mut self, event: Event) {
        {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            match &event {
                Event::Started(pid) => state.pid = Some(*pid),
                Event::Stopped => state.stopped = true,
                Event::Continued => state.stopped = false,
                Event::Died(exit) => state.exit = Some(exit.clone()),
                Event::Gone => state.gone = true,
            }
        }
        (self.events)(event);
    }

    /// Tells what is new in `seen`.
    fn news(&mut self, seen: Seen) {
        let known = self.state.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if known.exit.is_some() {
            return;
        }
        if let Some(pid) = seen.pid.filter(|_| known.pid.is_none()) {
            self.event(Event::Started(pid));
        }
        if let Some(exit) = seen.exit {
            self.event(Event::Died(exit));
        } else if seen.stopped != known.stopped {
            self.event(if seen.stopped { Event::Stopped } else { Event::Continued });
        }
    }
}

async fn follow(mut child: Child, stop_time: Duration, mut orders: watch::Receiver<Order>, mut tell: Tell) {
    let mut seen = child.watch();
    let mut obeyed = Order::Live;
    let mut deadline: Option<Instant> = None;
    loop {
        let now = seen.borrow_and_update().clone();
        tell.news(now);
        let at = deadline;
        let late = async move {
            match at {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Ok(()) = seen.changed() => {}
            exit = child.wait() => {
                // Said already, unless its guard was the first to go.
                tell.news(Seen { exit: Some(exit), ..Seen::default() });
                return tell.event(Event::Gone);
            }
            order = next(&mut orders, obeyed) => {
                obeyed = order;
                deadline = Some(Instant::now() + match order {
                    Order::Kill => { child.order_kill().await; KILL_TIME }
                    _ => { child.order_term().await; stop_time }
                });
            }
            () = late => {
                if obeyed == Order::Kill {
                    tell.news(Seen { exit: Some(child.abandon()), ..Seen::default() });
                    return tell.event(Event::Gone);
                }
                obeyed = Order::Kill;
                child.order_kill().await;
                deadline = Some(Instant::now() + KILL_TIME);
            }
        }
    }
}

/// The next order above the one that was obeyed.
async fn next(orders: &mut watch::Receiver<Order>, obeyed: Order) -> Order {
    let order = orders.wait_for(|order| *order > obeyed).await.map(|order| *order);
    match order {
        Ok(order) => order,
        // Its owner is gone, and this task is about to be.
        Err(_) => std::future::pending().await,
    }
}
