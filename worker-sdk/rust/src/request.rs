//! What a handler is given.
//!
//! A request is the job as the front wrote it, plus what the route's pattern cut out of the path. It must not
//! interpret more of HTTP than that: cookies, forms and sessions are the application's business.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use percent_encoding::percent_decode_str;
use serde::de::DeserializeOwned;
use tempest_protocol::Job;

use crate::Publisher;
use crate::cancel::Cancellation;
use crate::clock::Clock;

/// A job for a handler: an HTTP request, or a message of an application's own action.
#[derive(Clone, Debug)]
pub struct Request {
    // Boxed, since a request is handed on several times before it is read.
    job: Box<Job>,
    params: Params,
    context: Arc<Context>,
    cancellation: Arc<Cancellation>,
    /// Workers that this job has crashed.
    crashes: u32,
}

/// What a route cut out of a path: names and percent-decoded values.
pub(crate) type Params = Vec<(Arc<str>, String)>;

/// What all requests of a worker share.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) publisher: Publisher,
    pub(crate) clock: Clock,
    /// Errors may be shown to clients.
    pub(crate) development: bool,
}

impl Request {
    pub(crate) fn new(
        job: Box<Job>,
        params: Params,
        context: Arc<Context>,
        cancellation: Arc<Cancellation>,
        crashes: u32,
    ) -> Self {
        Self { job, params, context, cancellation, crashes }
    }

    /// The request's id, unique among all fronts; it belongs in every log line about this request.
    pub fn id(&self) -> &str {
        self.job.id()
    }

    /// 1 for the first try; above that an earlier try may have run in part. Counts the workers that a background job
    /// has crashed.
    pub fn attempt(&self) -> u32 {
        self.job.attempt().saturating_add(self.crashes)
    }

    /// `http`, or an application's own.
    pub fn action(&self) -> &str {
        self.job.action()
    }

    /// The method as the client sent it, e.g. `GET`.
    pub fn method(&self) -> &str {
        self.job.method()
    }

    /// The path as the client sent it, percent-encoding untouched.
    pub fn path(&self) -> &str {
        self.job.path()
    }

    /// What followed the `?`, as sent; None: there was no `?`.
    pub fn query(&self) -> Option<&str> {
        self.job.query()
    }

    /// The first value of a query parameter, `+` and percent-encoding decoded.
    pub fn query_param(&self, name: &str) -> Option<String> {
        self.query_params().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    /// All query parameters in their order, decoded.
    pub fn query_params(&self) -> impl Iterator<Item = (String, String)> {
        let pairs = self.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
        pairs.map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (form_decoded(name), form_decoded(value))
        })
    }

    /// What stood in the path where the route has `{name}`, percent-decoded.
    pub fn param(&self, name: &str) -> Option<&str> {
        self.params.iter().find(|(known, _)| **known == *name).map(|(_, value)| value.as_str())
    }

    /// A header's value; `name` in lower case. Bytes from 0x80 are Latin-1 code points.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.job.header(name)
    }

    /// All headers: names, in lower case and each once, and values; in no certain order.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.job.headers()
    }

    /// The raw body.
    pub fn body(&self) -> &Bytes {
        self.job.body()
    }

    /// The body as text, invalid UTF-8 replaced.
    pub fn text(&self) -> Cow<'_, str> {
        self.job.text()
    }

    /// The body read as JSON.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(self.job.body())
    }

    /// The host the client named.
    pub fn host(&self) -> Option<&str> {
        self.job.host()
    }

    /// The client's address as `ip:port`.
    pub fn peer(&self) -> &str {
        self.job.peer()
    }

    /// W3C trace context of what this handler does, as the front states it: to be passed on with whatever the handler
    /// asks of others. None: this request is not traced. The client's own header may say anything.
    pub fn traceparent(&self) -> Option<&str> {
        self.job.traceparent()
    }

    /// What the trace's vendors carry along; to be passed on beside [`Request::traceparent`].
    pub fn tracestate(&self) -> Option<&str> {
        self.job.tracestate()
    }

    /// All fields of the job.
    pub fn job(&self) -> &Job {
        &self.job
    }

    /// What is left until nobody waits for the answer any more; None: the job has no deadline.
    pub fn time_left(&self) -> Option<Duration> {
        let deadline = (self.job.deadline() > 0).then(|| self.job.deadline())?;
        Some(Duration::from_millis(deadline.saturating_sub(self.context.clock.now_ms())))
    }

    /// True once nobody wants the answer any more: the client has left, or the job was taken away from this worker.
    /// Known within half a second of jobs that run for longer than that, and in reliable mode only.
    ///
    /// An async handler is dropped then at its next `await`, unless the worker says
    /// [`App::finish_cancelled`](crate::App::finish_cancelled); one that runs on a thread has to look for itself.
    pub fn is_cancelled(&self) -> bool {
        self.cancellation.is_cancelled()
    }

    /// Completes when [`Request::is_cancelled`] becomes true.
    pub async fn cancelled(&self) {
        self.cancellation.cancelled().await;
    }

    pub(crate) fn in_development(&self) -> bool {
        self.context.development
    }

    /// Publishes to browser channels.
    pub fn publisher(&self) -> &Publisher {
        &self.context.publisher
    }
}

/// A request out of nothing, to test a handler with: no worker runs, so its publisher refuses.
///
/// ```
/// use tempest_worker::{Job, JobFields, Request};
///
/// let fields = JobFields { path: "/".into(), query: Some("a=1".into()), ..JobFields::default() };
/// assert_eq!(Request::from(Job::from(fields)).query_param("a").as_deref(), Some("1"));
/// ```
impl From<Job> for Request {
    fn from(job: Job) -> Self {
        let context = Context { publisher: Publisher::detached(), clock: Clock::new(), development: false };
        Self::new(Box::new(job), Vec::new(), Arc::new(context), Arc::default(), 0)
    }
}

fn form_decoded(text: &str) -> String {
    percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use tempest_protocol::JobFields;

    use super::*;

    #[test]
    fn the_trace_context_is_the_fronts_and_not_the_clients() {
        let headers = std::iter::once(("traceparent".to_owned(), "forged".to_owned())).collect();
        let job = JobFields { headers, traceparent: Some("00-…".into()), ..JobFields::default() };
        let untraced = JobFields { headers: job.headers.clone(), ..JobFields::default() };
        let request = Request::from(Job::from(job));
        assert_eq!((request.traceparent(), request.tracestate()), (Some("00-…"), None));
        assert_eq!(Request::from(Job::from(untraced)).traceparent(), None);
    }

    #[test]
    fn query_parameters_are_decoded() {
        let job = JobFields { query: Some("a=1+2&b=%26%C3%BC&a=x&flag&=y".into()), ..JobFields::default() };
        let request = Request::from(Job::from(job));
        assert_eq!(request.query_param("a").as_deref(), Some("1 2"));
        assert_eq!(request.query_param("b").as_deref(), Some("&ü"));
        assert_eq!(request.query_param("flag").as_deref(), Some(""));
        assert_eq!(request.query_param("c"), None);
        assert_eq!(request.query_params().count(), 5);
    }
}
