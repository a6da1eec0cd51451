//! The listener for operators and their machines: is it alive, is it ready, what does it count, what is it.
//!
//! It runs on the main thread and so answers while every reactor is busy. It shows what a [`Subject`] gives, so that
//! nothing of the front is known here, and it changes nothing: all that can be asked for is that the configuration be read
//! anew. It is meant for a loopback or private address; there is no authentication.

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
                None => respond(request.method(), request.uri().path(), &*subject),
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
        let mut response = of(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only POST works here\n");
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
        return response;
    }
    if request.headers().contains_key(header::ORIGIN) {
        return of(StatusCode::FORBIDDEN, TEXT, "this is not for pages\n");
    }
    let report = reloads.ask().await;
    let status = if report.reloaded { StatusCode::OK } else { StatusCode::CONFLICT };
    of(status, JSON, serde_json::to_vec(&report).expect("plain data"))
}

fn respond(method: &Method, path: &str, subject: &dyn Subject) -> Response<Full<Bytes>> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        let mut response = of(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET and HEAD work here\n");
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match path {
        "/live" => of(StatusCode::OK, TEXT, "live\n"),
        "/ready" => ready(&subject.not_ready()),
        "/metrics" => of(StatusCode::OK, METRICS, subject.metrics()),
        "/status" => of(StatusCode::OK, JSON, subject.status()),
        "/" => of(StatusCode::OK, TEXT, "/live\n/ready\n/metrics\n/status\n"),
        _ => of(StatusCode::NOT_FOUND, TEXT, "not here: /live, /ready, /metrics and /status are\n"),
    }
}

fn ready(reasons: &[String]) -> Response<Full<Bytes>> {
    match reasons {
        [] => of(StatusCode::OK, TEXT, "ready\n"),
        reasons => of(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("not ready\n{}\n", reasons.join("\n"))),
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

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[derive(Default)]
    struct Told(Mutex<Vec<String>>);

    impl Subject for Told {
        fn not_ready(&self) -> Vec<String> {
            self.0.lock().expect("nobody panics").clone()
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
            ("GET /else", 404, TEXT, "not here: /live, /ready, /metrics and /status are\n"),
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
