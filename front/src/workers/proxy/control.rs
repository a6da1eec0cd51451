//! Registers the workers of the pass-through, beats for them, and takes from the dead.
//!
//! Over two connections that are always open, the two of every worker's registration. What cannot be done while Redis is
//! away is done when it is back. It must not be slow: a job of a dead worker waits for it.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use tempest_protocol::Keys;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::spawn_local;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::worker::{Order, Shared, Worker};
use crate::backoff::Backoff;
use crate::broker::DialError;
use crate::broker::claims::ClaimStore;

/// Time between two beats; a record lives three times as long.
const BEAT: Duration = Duration::from_secs(1);
/// How long the record of a stopped worker is kept: longer than it is let live.
const HOLD: Duration = Duration::from_secs(5);
/// Bounds of the wait before Redis is tried again.
const RETRY: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));
/// Time between two tries to hand over what somebody else may hand over as well: longer than a lease.
const DRAIN_PAUSE: Duration = Duration::from_millis(400);
/// How often that is tried; after that it is the next one's who looks.
const DRAIN_TRIES: u32 = 10;
/// The name of the connections in `CLIENT LIST`.
const NAME: &str = "tempest-claims";

/// Does what is ordered, for ever; `who` names this process where leases are held.
pub(super) async fn run(
    shared: Rc<Shared>,
    keys: Keys,
    who: String,
    mut orders: UnboundedReceiver<Order>,
) -> Infallible {
    let mut waits = Backoff::new(RETRY.0, RETRY.1);
    let mut undone = VecDeque::new();
    let mut silent = false;
    loop {
        let error = match Control::connect(&shared, &keys, &who).await {
            Ok(mut control) => {
                (silent, waits) = (false, Backoff::new(RETRY.0, RETRY.1));
                match control.serve(&mut orders, &mut undone).await {
                    Err(error) => error.to_string(),
                }
            }
            Err(DialError::Refused(words)) if is_no_right(&words) => {
                tracing::warn!("workers pop without claims, since Redis refuses the scripts of reliable mode: {words}");
                return without_claims(&shared, &mut orders).await;
            }
            Err(error) => error.to_string(),
        };
        if !silent {
            tracing::debug!("workers are not looked after at the moment: {error}");
        }
        silent = true;
        sleep(waits.next_wait()).await;
    }
}

/// A user without the right, or a Redis without the command: everybody pops as anybody does.
async fn without_claims(shared: &Shared, orders: &mut UnboundedReceiver<Order>) -> Infallible {
    let yield_up = |worker: &Worker| {
        worker.base.set(true);
        worker.note_registered();
    };
    shared.workers.borrow().values().for_each(|worker| yield_up(worker));
    loop {
        match orders.recv().await {
            Some(Order::Register(worker)) => {
                worker.ordered.set(false);
                yield_up(&worker);
            }
            Some(Order::Close(done)) => drop(done.send(())),
            Some(_) => {}
            None => std::future::pending().await,
        }
    }
}

pub(super) fn is_no_right(words: &str) -> bool {
    words.starts_with("NOPERM") || words.contains("unknown command")
}

struct Control<'c> {
    main: ClaimStore,
    other: ClaimStore,
    shared: &'c Shared,
    keys: &'c Keys,
    who: &'c str,
}

impl<'c> Control<'c> {
    async fn connect(shared: &'c Shared, keys: &'c Keys, who: &'c str) -> Result<Self, DialError> {
        let main = ClaimStore::connect(&shared.url, NAME).await?;
        let other = ClaimStore::connect(&shared.url, NAME).await?;
        shared.shas.borrow_mut().clone_from(main.shas());
        Ok(Self { main, other, shared, keys, who })
    }

    /// Works until a connection breaks; the order that was under way is left in `undone`.
    async fn serve(
        &mut self,
        orders: &mut UnboundedReceiver<Order>,
        undone: &mut VecDeque<Order>,
    ) -> io::Result<Infallible> {
        for worker in self.registered() {
            self.register(&worker).await?;
        }
        let mut beats = interval(BEAT);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            while let Some(order) = undone.front() {
                match self.execute(order).await {
                    // What Redis refuses it refuses again; a worker that nobody beats for is found dead by the fronts.
                    Err(error) if error.kind() == io::ErrorKind::Other => {
                        tracing::warn!("Redis refused what a worker needs: {error}");
                    }
                    done => done?,
                }
                match undone.pop_front() {
                    Some(Order::Register(worker)) => worker.ordered.set(false),
                    // Fails only where nobody waits any more.
                    Some(Order::Close(done)) => drop(done.send(())),
                    _ => {}
                }
            }
            tokio::select! {
                biased;
                order = orders.recv() => match order {
                    Some(order) => undone.push_back(order),
                    None => std::future::pending().await,
                },
                () = self.main.closed() => return Err(io::ErrorKind::ConnectionReset.into()),
                () = self.other.closed() => return Err(io::ErrorKind::ConnectionReset.into()),
                _ = beats.tick() => {
                    let all = self.registered();
                    self.main.beat(all.iter().filter(|worker| !worker.is_held()).map(|worker| &worker.claimer)).await?;
                }
            }
        }
    }

    /// Those that take claims.
    fn registered(&self) -> Vec<Rc<Worker>> {
        let workers = self.shared.workers.borrow();
        workers.values().filter(|worker| worker.generation() > 0 && !worker.is_dead()).cloned().collect()
    }

    async fn execute(&mut self, order: &Order) -> io::Result<()> {
        match order {
            Order::Register(worker) if worker.is_dead() => Ok(()),
            Order::Register(worker) => self.register(worker).await,
            Order::Hold(worker) => self.main.prolong(&worker.claimer, HOLD).await,
            Order::Reap(worker) => self.reap(worker).await,
            Order::Drain(worker, tries) => self.drain(worker, *tries).await,
            Order::Close(_) => Ok(()),
        }
    }

    async fn register(&mut self, worker: &Worker) -> io::Result<()> {
        let registration = format!("{} {} {}", self.main.run_id(), self.main.id(), self.other.id());
        let mut fresh = worker.generation() == 0;
        for _ in 0..2 {
            if self.main.register(&worker.claimer, &registration, fresh).await? {
                worker.note_registered();
                return Ok(());
            }
            if !fresh {
                tracing::debug!(
                    worker = worker.claimer.id,
                    "was declared dead, or Redis has lost its data; begins anew"
                );
                worker.forget_claims();
            }
            fresh = !fresh;
        }
        Err(io::Error::other(format!("worker {} is neither known nor new", worker.claimer.id)))
    }

    async fn reap(&mut self, worker: &Rc<Worker>) -> io::Result<()> {
        let Worker { claimer, .. } = &**worker;
        if worker.generation() == 0 {
            // It claimed by itself, if at all. What Redis still holds for its connections would take one more job.
            self.main.end_connections(claimer).await?;
        }
        let told = self.main.reap(self.keys, claimer, &worker.finished(), &self.shared.limits).await?;
        worker.forget_claims();
        if told > 0 {
            tracing::info!(worker = claimer.id, jobs = told, "told the fronts of jobs that died with their worker");
        }
        self.drain(worker, DRAIN_TRIES).await
    }

    /// Their fronts have been told. So that the list does not stay for ever: the front with the lease hands it over if it
    /// looks again, and it looks only while somebody waits for a worker.
    async fn drain(&mut self, worker: &Rc<Worker>, tries: u32) -> io::Result<()> {
        let Worker { claimer, .. } = &**worker;
        // Another name for each connection: what an old one wrote must not act for the new one.
        let who = format!("{}:{}", self.who, self.main.id());
        let drained = self.main.drain(self.keys, &claimer.queue, &who, &claimer.id).await?;
        if !drained && tries > 0 {
            let (orders, worker) = (self.shared.orders.clone(), Rc::clone(worker));
            spawn_local(async move {
                sleep(DRAIN_PAUSE).await;
                // Fails only at the end of everything.
                let _ = orders.send(Order::Drain(worker, tries - 1));
            });
        }
        Ok(())
    }
}
