//! The listener for operators and their machines: is it alive, is it ready, what does it count, what is it.
//!
//! It runs on the main thread and so answers while every reactor is busy. It shows what a [`Subject`] gives, so that
//! nothing of the front is known here. It is meant for a loopback or private address; there is no authentication, so all that
//! can be asked for is that the configuration be read anew, and that more or less be logged for a while ([`log`]).

mod log;
mod reload;

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Map, Value};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};

use crate::listener::Shortage;

pub use reload::{Asks, Reloads, Report, reloads};

/// Open connections; further ones wait to be accepted.
const CONNECTIONS: usize = 64;
/// How long a connection may take for a head, or be idle.
const HEAD_TIME: Duration = Duration::from_secs(30);
/// Bytes of a request's head, the least that hyper takes.
const HEAD_BYTES: usize = 8 * 1024;

/// Where a reload is asked for, with POST.
pub const RELOAD: &str = "/reload";

const TEXT: &str = "text/plain; charset=utf-8";
/// Prometheus' text format.
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";
const JSON: &str = "application/json";

/// What is shown. Every call comes from the main thread and must not block it.
pub trait Subject: Send + Sync + 'static {
    /// Why it is not ready for requests; empty: it is.
    fn not_ready(&self) -> Vec<String>;
    /// Why it should be started anew; empty: it lives.
    fn not_alive(&self) -> Vec<String> {
        Vec::new()
    }
    /// What there is to know about either, as members of a JSON object.
    fn health(&self) -> Map<String, Value> {
        Map::new()
    }
    /// All metrics in Prometheus' text format.
    fn metrics(&self) -> String;
    /// The record of the front, as JSON.
    fn status(&self) -> Vec<u8>;
}

/// The running listener; dropping it ends it and its connections.
#[derive(Debug)]
pub struct Admin {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Admin {
    /// Answers at `listener`, which must not block, until dropped. Must be called within a runtime. `reloads` asks for a
    /// reload; without it nobody can.
    ///
    /// # Errors
    /// When the socket cannot be used.
    pub fn start(
        listener: std::net::TcpListener,
        subject: Arc<dyn Subject>,
        reloads: Option<Reloads>,
    ) -> io::Result<Self> {
        let listener = TcpListener::from_std(listener)?;
        let address = listener.local_addr()?;
        Ok(Self { address, task: tokio::spawn(accept(listener, subject, reloads)) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, subject: Arc<dyn Subject>, reloads: Option<Reloads>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    // Connections end with the listener, since this set ends with this task.
    let mut connections = JoinSet::new();
    let mut shortage = Shortage::default();
    loop {
        let place = Arc::clone(&places).acquire_owned().await.expect("the semaphore is never closed");
        match listener.accept().await {
            Ok((socket, _)) => {
                shortage.accepted();
                let connection = serve(socket, Arc::clone(&subject), reloads.clone());
                connections.spawn(async move {
                    connection.await;
                    drop(place);
                });
            }
            Err(error) => {
                if let Some(wait) = shortage.failed(&error) {
                    tokio::time::sleep(wait).await;
                }
            }
        }
        while connections.try_join_next().is_some() {}
    }
}

/// One connection to its end.
fn serve(socket: TcpStream, subject: Arc<dyn Subject>, reloads: Option<Reloads>) -> impl Future<Output = ()> + Send {
    let answer = service_fn(move |request: Request<hyper::body::Incoming>| {
        let (subject, reloads) = (Arc::clone(&subject), reloads.clone());
        async move {
            Ok::<_, Infallible>(match reloads.filter(|_| request.uri().path() == RELOAD) {
                Some(reloads) => reload(&request, &reloads).await,
                None => respond(&request, &*subject),
            })
        }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIME).max_buf_size(HEAD_BYTES);
    let connection = builder.serve_connection(TokioIo::new(socket), answer);
    async move {
        // Whatever ends a connection here is the client's doing and harms nobody.
        if let Err(error) = connection.await {
            tracing::debug!("a connection ended early: {error}");
        }
    }
}

/// Reads the configuration anew. A page of the web can have its reader's browser ask for that, too; it says so.
async fn reload(request: &Request<hyper::body::Incoming>, reloads: &Reloads) -> Response<Full<Bytes>> {
    if *request.method() != Method::POST {
        return not_allowed("only POST works here\n", "POST");
    }
    if request.headers().contains_key(header::ORIGIN) {
        return of(StatusCode::FORBIDDEN, TEXT, "this is not for pages\n");
    }
    let report = reloads.ask().await;
    let status = if report.reloaded { StatusCode::OK } else { StatusCode::CONFLICT };
    of(status, JSON, serde_json::to_vec(&report).expect("plain data"))
}

fn respond<B>(request: &Request<B>, subject: &dyn Subject) -> Response<Full<Bytes>> {
    let (method, path) = (request.method(), request.uri().path());
    if path == log::PATH {
        return log::respond(request);
    }
    if !matches!(*method, Method::GET | Method::HEAD) {
        return not_allowed("only GET and HEAD work here\n", "GET, HEAD");
    }
    match path {
        "/live" => health(request, "live", &subject.not_alive(), subject),
        "/ready" => health(request, "ready", &subject.not_ready(), subject),
        "/metrics" => of(StatusCode::OK, METRICS, subject.metrics()),
        "/status" => of(StatusCode::OK, JSON, subject.status()),
        "/" => of(StatusCode::OK, TEXT, "/live\n/ready\n/metrics\n/status\n/log\n"),
        _ => of(StatusCode::NOT_FOUND, TEXT, "not here: /live, /ready, /metrics, /status and /log are\n"),
    }
}

fn not_allowed(why: &'static str, methods: &'static str) -> Response<Full<Bytes>> {
    let mut response = of(StatusCode::METHOD_NOT_ALLOWED, TEXT, why);
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(methods));
    response
}

/// 200 or 503, and why: a word for people, or JSON with all that is known for who accepts `application/json`.
fn health<B>(request: &Request<B>, what: &str, reasons: &[String], subject: &dyn Subject) -> Response<Full<Bytes>> {
    let status = if reasons.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let accepted = request.headers().get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    if accepted.flat_map(|value| value.split(',')).any(|kind| kind.split(';').next().is_some_and(|k| k.trim() == JSON))
    {
        let mut detail = subject.health();
        detail.insert(what.to_owned(), reasons.is_empty().into());
        detail.insert("reasons".to_owned(), reasons.into());
        return of(status, JSON, format!("{}\n", Value::Object(detail)));
    }
    match reasons {
        [] => of(status, TEXT, format!("{what}\n")),
        reasons => of(status, TEXT, format!("not {what}\n{}\n", reasons.join("\n"))),
    }
}

fn of(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use serde_json::json;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[derive(Default)]
    struct Told(Mutex<Vec<String>>);

    impl Subject for Told {
        fn not_ready(&self) -> Vec<String> {
            self.0.lock().expect("nobody panics").clone()
        }

        fn health(&self) -> Map<String, Value> {
            Map::from_iter([("phase".to_owned(), "x".into())])
        }

        fn metrics(&self) -> String {
            "x_total 1\n".to_owned()
        }

        fn status(&self) -> Vec<u8> {
            b"{\"id\":\"abc\"}".to_vec()
        }
    }

    fn start(subject: Arc<Told>) -> Admin {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        listener.set_nonblocking(true).expect("a socket");
        Admin::start(listener, subject, None).expect("it can be used")
    }

    async fn ask(admin: &Admin, head: &str) -> String {
        let mut socket = TcpStream::connect(admin.address()).await.expect("it listens");
        let request = format!("{head} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        socket.write_all(request.as_bytes()).await.expect("it reads");
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.expect("it answers");
        answer
    }

    #[tokio::test]
    async fn shows_what_operators_ask_for() {
        let admin = start(Arc::default());
        for (head, status, kind, body) in [
            ("GET /live", 200, TEXT, "live\n"),
            ("GET /ready", 200, TEXT, "ready\n"),
            ("GET /metrics", 200, METRICS, "x_total 1\n"),
            ("GET /metrics?name=x", 200, METRICS, "x_total 1\n"),
            ("GET /status", 200, JSON, "{\"id\":\"abc\"}"),
            ("HEAD /live", 200, TEXT, ""),
            ("GET /else", 404, TEXT, "not here: /live, /ready, /metrics, /status and /log are\n"),
            ("POST /live", 405, TEXT, "only GET and HEAD work here\n"),
        ] {
            let answer = ask(&admin, head).await;
            let (answer_head, answer_body) = answer.split_once("\r\n\r\n").expect("a head");
            assert!(answer_head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}: {answer}");
            assert!(answer_head.contains(&format!("content-type: {kind}\r\n")), "{head}: {answer}");
            assert!(answer_head.contains("cache-control: no-store"), "{head}: {answer}");
            assert_eq!(answer_body, body, "{head}");
        }
    }

    #[tokio::test]
    async fn says_why_it_is_not_ready_and_still_lives() {
        let subject = Arc::new(Told::default());
        let admin = start(Arc::clone(&subject));
        *subject.0.lock().expect("nobody panics") = vec!["shutting down".into(), "no connection to Redis".into()];
        let answer = ask(&admin, "GET /ready").await;
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        assert!(answer.ends_with("\r\n\r\nnot ready\nshutting down\nno connection to Redis\n"), "{answer}");
        assert!(ask(&admin, "GET /live").await.starts_with("HTTP/1.1 200 "));
    }

    #[tokio::test]
    async fn whoever_accepts_json_gets_all_that_is_known() {
        let subject = Arc::new(Told::default());
        let admin = start(Arc::clone(&subject));
        let ask = async |path: &str, accept: &str| {
            let answer = ask(&admin, &format!("GET {path} HTTP/1.1\r\naccept: {accept}\r\nx-rest:")).await;
            let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
            (head[9..12].to_owned(), serde_json::from_str::<Value>(body).ok())
        };
        let json = "text/plain;q=0.5, application/json;q=0.9";
        assert_eq!(ask("/live", json).await, ("200".into(), Some(json!({"live": true, "reasons": [], "phase": "x"}))));
        assert_eq!(ask("/ready", "*/*").await, ("200".into(), None));
        *subject.0.lock().expect("nobody panics") = vec!["shutting down".into()];
        let expected = json!({"ready": false, "reasons": ["shutting down"], "phase": "x"});
        assert_eq!(ask("/ready", JSON).await, ("503".into(), Some(expected)));
    }

    #[tokio::test]
    async fn one_more_than_the_limit_waits_for_a_place() {
        let admin = start(Arc::default());
        let mut held = Vec::new();
        for _ in 0..CONNECTIONS {
            held.push(TcpStream::connect(admin.address()).await.expect("it listens"));
        }
        let mut waiting = Box::pin(ask(&admin, "GET /live"));
        let early = tokio::time::timeout(Duration::from_millis(100), &mut waiting).await;
        assert!(early.is_err(), "served beyond the limit");
        drop(held.pop());
        assert!(waiting.await.starts_with("HTTP/1.1 200 "));
    }

    #[tokio::test]
    async fn dropping_it_ends_its_connections() {
        let admin = start(Arc::default());
        let address = admin.address();
        let mut socket = TcpStream::connect(address).await.expect("it listens");
        socket.write_all(b"GET /live HTTP/1.1\r\nhost: a\r\n\r\n").await.expect("it reads");
        let mut part = [0; 64];
        assert!(socket.read(&mut part).await.expect("it answers") > 0);
        drop(admin);
        let mut rest = Vec::new();
        // Either end of a connection that is cut may be seen: its end, or a reset.
        let _ = socket.read_to_end(&mut rest).await;
        assert!(TcpStream::connect(address).await.is_err());
    }
}
