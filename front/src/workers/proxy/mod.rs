//! Reliable mode for workers that do not know of it: each is given an address of our own for its Redis.
//!
//! What comes there passes on to Redis, but pops of the worker's queue become claims in its name, and when it dies all it
//! held is given back at once. This file follows the lives of the processes; [`connection`] passes bytes and finds the
//! pops, [`exchange`] serves them, [`control`] registers and reaps. It must not know how processes are started or ended,
//! but for one: a program that was stopped for too long is killed, since what it answers later could not be told apart.

mod connection;
mod control;
mod exchange;
#[doc(hidden)]
pub mod fuzz;
mod pop;
mod scan;
mod value;
mod worker;

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tempest_protocol::{Keys, QueueName};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, JoinSet, spawn_local};
use tokio::time::{sleep, timeout};

use super::program::fresh_id;
use super::{Hooks, Jobs, Process};
use crate::broker::claims::{CrashLimits, Shas};
use crate::config::{Claims, Config, RedisAddress, RedisUrl};
use crate::supervisor::child::Exit;
use connection::Connection;
use worker::{Order, Shared, Worker};

/// Connections of one worker at the same time; further ones wait in the kernel, and then are refused by it.
const CONNECTIONS: usize = 1024;
/// How long a worker may be stopped before it is killed.
const STOPPED_TIME: Duration = Duration::from_secs(3);
/// How long the end waits for what is still to be given back.
const CLOSE_TIME: Duration = Duration::from_millis(500);

/// Gives the workers of a run their addresses and their claims.
#[derive(Debug)]
pub struct Proxy {
    turns: mpsc::UnboundedSender<Turn>,
    /// What the workers are told of Redis: user, password and database stay.
    told: RedisUrl,
    /// Whether the tasks behind it run.
    open: AtomicBool,
}

/// The tasks behind a [`Proxy`].
#[derive(Debug)]
pub struct Running {
    turns: mpsc::UnboundedSender<Turn>,
    tasks: Vec<JoinHandle<()>>,
}

/// A turn of a process's life.
#[derive(Debug)]
enum Turn {
    Starting { id: String, queue: QueueName, listener: Option<TcpListener> },
    Started { id: String, pid: i32 },
    Stopped { id: String },
    Continued { id: String },
    Died { id: String, in_order: bool },
    Close(oneshot::Sender<()>),
}

impl Proxy {
    /// Starts what serves the workers, on this thread's runtime. `redis` is where to go; `told` is what the workers would
    /// be told of it, from which they get user, password and database.
    pub fn start(redis: RedisUrl, told: RedisUrl, config: &Config, jobs: Jobs) -> (Self, Running) {
        let keys = config.redis.keys.clone();
        let limits = CrashLimits::from(&config.limits);
        let (turns, incoming) = mpsc::unbounded_channel();
        let (orders, ordered) = mpsc::unbounded_channel();
        let (url, workers) = (RedisUrl { db: told.db, ..redis }, RefCell::new(HashMap::new()));
        let shared = Rc::new(Shared { url, shas: RefCell::new(Shas::default()), workers, orders, jobs, limits });
        let control = control::run(Rc::clone(&shared), keys.clone(), fresh_id("supervisor"), ordered);
        let tasks = vec![
            spawn_local(async {
                control.await;
            }),
            spawn_local(follow(shared, keys, incoming)),
        ];
        (Self { turns: turns.clone(), told, open: AtomicBool::new(true) }, Running { turns, tasks })
    }

    fn tell(&self, turn: Turn) {
        if self.turns.send(turn).is_err() {
            self.open.store(false, Ordering::Relaxed);
        }
    }

    fn address(&self, listener: &TcpListener) -> io::Result<RedisUrl> {
        let port = listener.local_addr()?.port();
        let address = RedisAddress::Tcp("127.0.0.1".to_owned(), port);
        Ok(RedisUrl { address, tls: false, ..self.told.clone() })
    }
}

impl Hooks for Proxy {
    fn starting(&self, process: &Process) -> Vec<(OsString, OsString)> {
        let Process { id, queue, claims, .. } = process;
        let told = |listener: Option<TcpListener>| {
            self.tell(Turn::Starting { id: id.clone(), queue: queue.clone(), listener });
        };
        if *claims == Claims::Base || !self.open.load(Ordering::Relaxed) {
            told(None);
            return Vec::new();
        }
        let listener = listen().and_then(|listener| Ok((self.address(&listener)?, listener)));
        match listener {
            Ok((address, listener)) => {
                told(Some(listener));
                vec![("REDIS_URL".into(), address.with_password().into())]
            }
            Err(error) => {
                tracing::warn!(from = process.place, "pops without claims: cannot listen on 127.0.0.1: {error}");
                told(None);
                Vec::new()
            }
        }
    }

    fn started(&self, process: &Process, pid: i32) {
        self.tell(Turn::Started { id: process.id.clone(), pid });
    }

    fn stopped(&self, process: &Process) {
        self.tell(Turn::Stopped { id: process.id.clone() });
    }

    fn continued(&self, process: &Process) {
        self.tell(Turn::Continued { id: process.id.clone() });
    }

    fn died(&self, process: &Process, exit: &Exit) {
        self.tell(Turn::Died { id: process.id.clone(), in_order: *exit == Exit::Code(0) });
    }
}

fn listen() -> io::Result<TcpListener> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

impl Running {
    /// Gives back what is still held, for a moment at most, and ends. The workers must have ended.
    pub async fn close(self) {
        let (sender, done) = oneshot::channel();
        if self.turns.send(Turn::Close(sender)).is_ok() {
            // Who looks after the workers from outside does it otherwise.
            let _ = timeout(CLOSE_TIME, done).await;
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// Follows the lives of the processes, for ever.
async fn follow(shared: Rc<Shared>, keys: Keys, mut turns: mpsc::UnboundedReceiver<Turn>) {
    while let Some(turn) = turns.recv().await {
        let of = |id: &str| shared.workers.borrow().get(id).cloned();
        match turn {
            Turn::Starting { id, queue, listener } => {
                let worker = Worker::new(&id, &queue, keys.of_queue(queue.as_str()), &shared);
                if let Some(listener) = listener {
                    spawn_local(accept(Rc::clone(&worker), Rc::clone(&shared), listener));
                }
                shared.workers.borrow_mut().insert(id, worker);
            }
            Turn::Started { id, pid } => drop(of(&id).map(|worker| worker.pid.set(Some(pid)))),
            Turn::Stopped { id } => {
                if let Some(worker) = of(&id).filter(|worker| !worker.is_held()) {
                    worker.stops.set(worker.stops.get() + 1);
                    if worker.claims() {
                        shared.order(Order::Hold(Rc::clone(&worker)));
                        spawn_local(end_unless_it_goes_on(worker));
                    }
                }
            }
            Turn::Continued { id } => {
                if let Some(worker) = of(&id).filter(|worker| worker.is_held()) {
                    worker.stops.set(worker.stops.get() + 1);
                }
            }
            Turn::Died { id, in_order } => {
                let worker = shared.workers.borrow_mut().remove(&id);
                if let Some(worker) = worker {
                    worker.die(in_order);
                    shared.order(Order::Reap(worker));
                }
            }
            Turn::Close(done) => shared.order(Order::Close(done)),
        }
    }
}

/// Serves a worker's connections until it dies.
async fn accept(worker: Rc<Worker>, shared: Rc<Shared>, listener: TcpListener) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::warn!(worker = worker.claimer.id, "cannot serve its connections: {error}"),
    };
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = worker.died() => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            accepted = listener.accept(), if connections.len() < CONNECTIONS => match accepted {
                Ok((child, _)) => {
                    connections.spawn_local(Connection::serve(Rc::clone(&worker), Rc::clone(&shared), child));
                }
                // Out of file descriptors, most likely: trying again at once would be a busy loop.
                Err(_) => sleep(Duration::from_millis(20)).await,
            }
        }
    }
    drop(listener);
    // They end by themselves; one that waits for Redis has to see what it brings, so that nothing is lost.
    while connections.join_next().await.is_some() {}
}

/// A stopped worker holds its jobs, and what it answers once it goes on could not be told from the answers of another
/// attempt: a script does not say which one it answers.
async fn end_unless_it_goes_on(worker: Rc<Worker>) {
    let stops = worker.stops.get();
    tokio::select! {
        () = sleep(STOPPED_TIME) => {}
        () = worker.died() => return,
    }
    let Some(pid) = worker.pid.get().and_then(Pid::from_raw).filter(|_| worker.stops.get() == stops) else { return };
    tracing::warn!(worker = worker.claimer.id, "was stopped for {} s and is killed", STOPPED_TIME.as_secs());
    // Fails only where it is gone already.
    let _ = kill_process_group(pid, Signal::KILL);
}
