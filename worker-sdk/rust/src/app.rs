//! An application: its handlers and settings, and how it is run.
//!
//! This is where the parts are put together; the work is done by the loop (`engine`) and the second connection
//! (`outlet`).

use std::fmt;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::claim::{BaseClaim, Claim, ClaimCommand, Claims, ReliableClaim};
use crate::clock::Clock;
use crate::engine::{Engine, Limits, State};
use crate::execution::Shared;
use crate::handler::Handler;
use crate::link::{Dialer, Link};
use crate::membership::{Membership, Standing};
use crate::outlet::{Ending, Heartbeat, Identity, Outlet, OutletTask, Parts};
use crate::publisher::{Command, Publisher, WAITING};
use crate::request::Context;
use crate::router::Router;
use crate::settings::{Error, Problem, Resolved, Settings};
use crate::status::Status;
use crate::waiting::Waiting;
use crate::{log, panics, signals};

/// Time for the last answers after the last job, at least.
const LAST_ANSWERS: Duration = Duration::from_secs(2);

/// A worker: handlers for requests and actions, and settings.
///
/// Settings not made here come from the environment, which `tempest up` sets for the workers it starts:
///
/// | variable | meaning | default |
/// | --- | --- | --- |
/// | `TEMPEST_REDIS_URL`, else `REDIS_URL` | see [`Address`](crate::Address) | `redis://127.0.0.1:6379` |
/// | `TEMPEST_QUEUE` | whole key of the list to take jobs from | `tempest:web` |
/// | `TEMPEST_WORKER_ID` | id in the list of workers | ten random characters |
/// | `TEMPEST_CLAIMS` | `base`: pop jobs instead of claiming them | `reliable` |
/// | `TEMPEST_ENV` | `development`: answers with status 500 show the error | |
pub struct App {
    router: Router,
    settings: Settings,
    problems: Vec<Problem>,
    threads: bool,
    publisher: Publisher,
    commands: mpsc::Receiver<Command>,
}

impl Default for App {
    fn default() -> Self {
        Self::new()
    }
}

impl App {
    /// An application without handlers.
    pub fn new() -> Self {
        let (sender, commands) = mpsc::channel(WAITING);
        Self {
            router: Router::default(),
            settings: Settings::default(),
            problems: Vec::new(),
            threads: false,
            publisher: Publisher::new(sender),
            commands,
        }
    }

    // ---- handlers --------------------------------------------------------------------------------------------

    /// Answers GET, and with its head alone HEAD, for a path: `/hello/{name}` for one segment
    /// ([`Request::param`](crate::Request::param)), `/files/{*rest}` for all that follow. Routes are tried in the
    /// order in which they were added.
    #[must_use]
    pub fn get(self, path: &str, handler: impl Handler) -> Self {
        self.route("GET", path, handler)
    }

    /// Answers POST.
    #[must_use]
    pub fn post(self, path: &str, handler: impl Handler) -> Self {
        self.route("POST", path, handler)
    }

    /// Answers PUT.
    #[must_use]
    pub fn put(self, path: &str, handler: impl Handler) -> Self {
        self.route("PUT", path, handler)
    }

    /// Answers PATCH.
    #[must_use]
    pub fn patch(self, path: &str, handler: impl Handler) -> Self {
        self.route("PATCH", path, handler)
    }

    /// Answers DELETE.
    #[must_use]
    pub fn delete(self, path: &str, handler: impl Handler) -> Self {
        self.route("DELETE", path, handler)
    }

    /// Answers one method, whatever its name.
    #[must_use]
    pub fn route(self, method: &str, path: &str, handler: impl Handler) -> Self {
        self.add(Some(method), path, handler)
    }

    /// Answers every method.
    #[must_use]
    pub fn any(self, path: &str, handler: impl Handler) -> Self {
        self.add(None, path, handler)
    }

    /// Answers what no route does. Without it that is 404, or 405 where only the method is wrong.
    #[must_use]
    pub fn fallback(mut self, handler: impl Handler) -> Self {
        self.threads |= handler.uses_threads();
        self.router.set_fallback(Arc::new(handler));
        self
    }

    /// Does jobs of an action of the application's own: messages pushed by itself rather than by the front.
    #[must_use]
    pub fn action(mut self, action: &str, handler: impl Handler) -> Self {
        self.threads |= handler.uses_threads();
        self.router.add_action(action, Arc::new(handler));
        self
    }

    fn add(mut self, method: Option<&str>, path: &str, handler: impl Handler) -> Self {
        self.threads |= handler.uses_threads();
        if let Err(error) = self.router.add(method, path, Arc::new(handler)) {
            self.problems.push(error.into());
        }
        self
    }

    // ---- settings --------------------------------------------------------------------------------------------

    /// Where Redis is, as a URL; see [`Address`](crate::Address).
    #[must_use]
    pub fn redis(mut self, url: impl Into<String>) -> Self {
        self.settings.redis = Some(url.into());
        self
    }

    /// The whole key of the list to take jobs from, such as `tempest:web`.
    #[must_use]
    pub fn queue(mut self, key: impl Into<String>) -> Self {
        self.settings.queue = Some(key.into());
        self
    }

    /// The id in the list of workers.
    #[must_use]
    pub fn worker_id(mut self, id: impl Into<String>) -> Self {
        self.settings.worker_id = Some(id.into());
        self
    }

    /// Jobs at work at a time. Default: 64, or where handlers run on threads, 4 for each processor and at least 8.
    #[must_use]
    pub fn concurrency(mut self, jobs: usize) -> Self {
        self.settings.concurrency = Some(jobs);
        self
    }

    /// Jobs claimed at a time, at most (default 32, never more than 1000); 1 turns batches off. How many it is follows from how long jobs
    /// take: what runs in about 20 ms.
    #[must_use]
    pub fn batch(mut self, jobs: usize) -> Self {
        self.settings.batch = Some(jobs);
        self
    }

    /// How jobs are taken; what dies with the worker depends on it. Default: reliably.
    #[must_use]
    pub fn claims(mut self, claims: Claims) -> Self {
        self.settings.claims = Some(claims);
        self
    }

    /// True: handlers run to their end although nobody wants the answer any more; see
    /// [`Request::is_cancelled`](crate::Request::is_cancelled). Default: an async one is dropped at its next `await`.
    #[must_use]
    pub fn finish_cancelled(mut self, on: bool) -> Self {
        self.settings.finish_cancelled = on;
        self
    }

    /// How long one wait for a job lasts (default 5 s for a pop; a claim waits for 1 s at most).
    #[must_use]
    pub fn claim_wait(mut self, wait: Duration) -> Self {
        self.settings.claim_wait = Some(wait);
        self
    }

    /// Which commands pop jobs in base mode; found out by itself unless set.
    #[must_use]
    pub fn claim_command(mut self, command: ClaimCommand) -> Self {
        self.settings.claim_command = command;
        self
    }

    /// How long a stop waits for jobs to finish (default 30 s).
    #[must_use]
    pub fn stop_grace(mut self, grace: Duration) -> Self {
        self.settings.stop_grace = Some(grace);
        self
    }

    /// True: answers with status 500 show the error or the panic with its back-trace.
    #[must_use]
    pub fn development(mut self, on: bool) -> Self {
        self.settings.development = Some(on);
        self
    }

    /// Publishes to browser channels, also outside of handlers, once the worker runs.
    pub fn publisher(&self) -> Publisher {
        self.publisher.clone()
    }

    // ---- running ---------------------------------------------------------------------------------------------

    /// Runs on this thread until SIGTERM or SIGINT: then it takes no more jobs, finishes and answers those it has,
    /// and returns. A second signal ends the process at once.
    ///
    /// # Errors
    /// When a setting or a route is wrong, or the system refuses threads or sockets. An unreachable Redis is no
    /// error: the worker tries again for ever.
    pub fn run(mut self) -> Result<(), Error> {
        log::install_if_missing();
        let resolved = self.resolve()?;
        let stop = signals::stop_signal()?;
        let waiting = Arc::<Waiting>::default();
        let (parked, unparked) = (waiting.clone(), waiting.clone());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(resolved.concurrency)
            .on_thread_park(move || parked.set_at_work(false))
            .on_thread_unpark(move || unparked.set_at_work(true))
            .build()?;
        let ended = runtime.block_on(self.start(resolved, waiting, async {
            // The thread of the signals lives as long as the process.
            let _ = stop.await;
        }));
        // Whatever runs on threads now is past its grace.
        runtime.shutdown_background();
        ended
    }

    /// Runs inside an existing tokio runtime until `stop` completes; then as [`App::run`]. On a multi-thread runtime
    /// handlers run as tasks of their own.
    ///
    /// # Errors
    /// When a setting or a route is wrong, or the system refuses a thread.
    pub async fn serve(mut self, stop: impl Future<Output = ()> + Send) -> Result<(), Error> {
        let resolved = self.resolve()?;
        self.start(resolved, Arc::default(), stop).await
    }

    fn resolve(&mut self) -> Result<Resolved, Error> {
        let mut problems = std::mem::take(&mut self.problems);
        match std::mem::take(&mut self.settings).resolve(self.threads) {
            Ok(resolved) if problems.is_empty() => Ok(resolved),
            Ok(_) => Err(Error { problems }),
            Err(more) => {
                problems.extend(more);
                Err(Error { problems })
            }
        }
    }

    async fn start(
        self,
        resolved: Resolved,
        waiting: Arc<Waiting>,
        stop: impl Future<Output = ()> + Send,
    ) -> Result<(), Error> {
        panics::install_hook();
        // What belongs to the loop dials on this runtime, the rest on the other thread's.
        let (engine, outlet) = self.assemble(resolved, waiting);
        let (finish, finishing) = oneshot::channel();
        let ended = on_a_thread(outlet, finishing)?;
        let Ending { by, settled } = engine.run(stop).await;
        // It ends only when told to.
        let _ = finish.send(Ending { by: by.max(Instant::now() + LAST_ANSWERS), settled });
        if ended.await.is_err() {
            tracing::error!("the thread for answers failed");
        }
        Ok(())
    }

    fn assemble(self, resolved: Resolved, waiting: Arc<Waiting>) -> (Engine, OutletTask) {
        let commands = self.publisher.sender();
        self.publisher.settle(&resolved.keys);
        let status = Arc::new(Status::default());
        let context =
            Arc::new(Context { publisher: self.publisher, clock: Clock::new(), development: resolved.development });
        let (outlet, answers) = Outlet::new();
        let address = Arc::new(resolved.address);
        let reliable = resolved.claims == Claims::Reliable;
        let link = |purpose: &str| {
            Link::new(Dialer {
                address: address.clone(),
                name: format!("tempest-worker:{}:{purpose}", resolved.worker_id),
                scripts: reliable,
            })
        };
        let membership = Membership::new(if reliable { Standing::Unknown } else { Standing::Base });
        let identity = Identity {
            id: resolved.worker_id.clone(),
            queue: resolved.queue.as_str().to_owned(),
            host: resolved.host,
            pid: std::process::id(),
        };
        let parts = Parts {
            link: link("answers"),
            heartbeat: Heartbeat::new(identity, &resolved.keys),
            membership: membership.clone(),
            waiting: waiting.clone(),
            context: context.clone(),
            status: status.clone(),
        };
        let task = OutletTask::new(parts, &outlet, answers, self.commands);
        let limits = Limits {
            concurrency: resolved.concurrency,
            batch: resolved.batch,
            claim_wait: resolved.claim_wait,
            stop_grace: resolved.stop_grace,
            queue_key: resolved.queue_key.clone(),
            command: resolved.claim_command,
            inline: Handle::current().runtime_flavor() == RuntimeFlavor::CurrentThread,
        };
        let claim: Box<dyn Claim> = if reliable {
            Box::new(ReliableClaim::new(membership.clone(), resolved.claim_wait))
        } else {
            Box::new(BaseClaim::new(resolved.queue_key, resolved.claim_wait, resolved.claim_command))
        };
        let finish_cancelled = resolved.finish_cancelled;
        let shared = Arc::new(Shared { router: self.router, context, outlet, status, finish_cancelled });
        let state = State::new(resolved.keys, waiting);
        let standing = membership.subscribe();
        let engine = Engine { shared, limits, link: link("jobs"), claim, commands, membership, standing, state };
        (engine, task)
    }
}

/// Runs the second connection on a thread of its own. It ends when told to, or when whoever could tell it is gone; the
/// receiver learns that.
fn on_a_thread(task: OutletTask, finishing: oneshot::Receiver<Ending>) -> std::io::Result<oneshot::Receiver<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (end, ended) = oneshot::channel();
    thread::Builder::new().name("answers".into()).spawn(move || {
        runtime.block_on(task.run(finishing));
        // The worker may have been dropped.
        let _ = end.send(());
    })?;
    Ok(ended)
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App").field("settings", &self.settings).finish_non_exhaustive()
    }
}
