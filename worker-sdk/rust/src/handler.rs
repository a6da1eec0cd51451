//! Handlers: the application's functions, async or not.
//!
//! An async function runs on the worker's own thread until it waits. One that computes for long or waits without
//! `await` belongs into [`blocking`] or [`dedicated`], or it holds up every other request of its worker. Panics are
//! caught where a handler's future is polled; those on other threads are caught here, where they can be.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::mpsc as threads;
use std::thread;

use tokio::sync::oneshot;

use crate::panics::guarded;
use crate::{BoxError, IntoResponse, Request, Response};

/// A handler at work.
pub type HandlerFuture = Pin<Box<dyn Future<Output = Result<Response, BoxError>> + Send>>;

/// Something that answers requests; implemented for async functions of a [`Request`], and by [`blocking`] and
/// [`dedicated`] for others.
pub trait Handler: Send + Sync + 'static {
    /// Answers one request.
    fn call(&self, request: Request) -> HandlerFuture;

    /// True: this answers on threads, of which there should not be as many as there can be waiting tasks.
    fn uses_threads(&self) -> bool {
        false
    }
}

impl<F, Fut> Handler for F
where
    F: Fn(Request) -> Fut + Send + Sync + 'static,
    Fut: Future + Send + 'static,
    Fut::Output: IntoResponse,
{
    fn call(&self, request: Request) -> HandlerFuture {
        let answering = self(request);
        Box::pin(async move { answering.await.into_response() })
    }
}

/// Runs an ordinary function on a pool of threads, as many at a time as the worker's concurrency allows.
///
/// ```
/// use tempest_worker::{App, Request, blocking};
///
/// fn report(request: Request) -> Result<String, std::io::Error> {
///     std::fs::read_to_string("report.txt")
/// }
///
/// let app = App::new().get("/report", blocking(report));
/// ```
pub fn blocking<F, R>(function: F) -> Blocking<F>
where
    F: Fn(Request) -> R + Send + Sync + 'static,
    R: IntoResponse + 'static,
{
    Blocking(Arc::new(function))
}

/// See [`blocking`].
#[derive(Debug)]
pub struct Blocking<F>(Arc<F>);

impl<F, R> Handler for Blocking<F>
where
    F: Fn(Request) -> R + Send + Sync + 'static,
    R: IntoResponse + 'static,
{
    fn call(&self, request: Request) -> HandlerFuture {
        let function = self.0.clone();
        let answering = tokio::task::spawn_blocking(move || on_a_thread(request, &*function));
        Box::pin(async move { answering.await? })
    }

    fn uses_threads(&self) -> bool {
        true
    }
}

/// Runs an ordinary function on `threads` threads that do nothing else; for what must stay on its thread, such as
/// a database connection in a thread-local.
///
/// Requests wait for a free thread in the order they came; the worker's concurrency bounds how many.
///
/// # Errors
/// When the system cannot start a thread.
pub fn dedicated<F, R>(threads: usize, function: F) -> std::io::Result<Dedicated>
where
    F: Fn(Request) -> R + Send + Sync + 'static,
    R: IntoResponse + 'static,
{
    let (calls, incoming) = threads::channel::<Call>();
    let incoming = Arc::new(std::sync::Mutex::new(incoming));
    let function = Arc::new(function);
    for number in 0..threads.max(1) {
        let (incoming, function) = (incoming.clone(), function.clone());
        thread::Builder::new().name(format!("handler-{number}")).spawn(move || serve_calls(&incoming, &*function))?;
    }
    Ok(Dedicated { calls })
}

/// See [`dedicated`].
#[derive(Debug)]
pub struct Dedicated {
    calls: threads::Sender<Call>,
}

struct Call {
    request: Request,
    answer: oneshot::Sender<Result<Response, BoxError>>,
}

/// One dedicated thread: ends when its handler is dropped.
fn serve_calls<R: IntoResponse>(
    incoming: &std::sync::Mutex<threads::Receiver<Call>>,
    function: &impl Fn(Request) -> R,
) {
    loop {
        let next = incoming.lock().unwrap_or_else(std::sync::PoisonError::into_inner).recv();
        let Ok(Call { request, answer }) = next else { return };
        // Nobody waits when the worker gave up meanwhile.
        let _ = answer.send(on_a_thread(request, function));
    }
}

impl Handler for Dedicated {
    fn call(&self, request: Request) -> HandlerFuture {
        let (answer, answered) = oneshot::channel();
        let sent = self.calls.send(Call { request, answer });
        Box::pin(async move {
            sent.map_err(|_| "the handler's threads are gone")?;
            answered.await.map_err(|_| "the handler's thread is gone")?
        })
    }

    fn uses_threads(&self) -> bool {
        true
    }
}

/// Panics are caught on the thread they happen on: only there is their place known.
fn on_a_thread<R: IntoResponse>(request: Request, function: &impl Fn(Request) -> R) -> Result<Response, BoxError> {
    guarded(request.in_development(), || function(request))?.into_response()
}
