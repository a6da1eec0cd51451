//! An application with a front in it, on a thread of its own: hyper, and as little as it takes to mount the services.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::thread::JoinHandle;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tempest::config::Config;
use tempest::embed::{Body, Client, Front, Service};
use tempest_tests::{Http, Job, Redis, assert_no_process, scratch};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};

/// What the test has the application do.
enum Ask {
    Drain(oneshot::Sender<()>),
    Reload(String, oneshot::Sender<Result<(), String>>),
}

/// A Redis and the application.
pub(crate) struct World {
    pub(crate) redis: Redis,
    pub(crate) address: SocketAddr,
    pub(crate) front: Front,
    asks: mpsc::UnboundedSender<Ask>,
    thread: Option<JoinHandle<()>>,
    mark: String,
}

impl World {
    /// `/sub/…`, `/hold/…` (the rest of the path is a channel that the application grants), `/from/…` (workers, with a
    /// client that came by TLS), `/all/…` (every route), and workers at everything else.
    pub(crate) fn start(config: &str) -> Self {
        let (dir, mark) = scratch();
        let redis = Redis::start(&dir.join("redis"), &mark);
        let config = parse(&format!("redis.url = {:?}\n{config}", redis.url()));
        let (asks, mut asked) = mpsc::unbounded_channel();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build_local(tokio::runtime::LocalOptions::default())
                .expect("a runtime");
            runtime.block_on(async move {
                let front = Front::start(config).await.unwrap_or_else(|error| panic!("{error}"));
                let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
                ready.send((listener.local_addr().expect("bound"), front.clone())).expect("the test waits");
                tokio::task::spawn_local(accept(listener, front.clone()));
                while let Some(ask) = asked.recv().await {
                    match ask {
                        Ask::Drain(done) => {
                            let front = front.clone();
                            tokio::task::spawn_local(async move {
                                front.drain().await;
                                let _ = done.send(());
                            });
                        }
                        Ask::Reload(text, done) => {
                            let outcome = front.reload(parse(&text)).await;
                            let _ = done.send(outcome.map_err(|error| error.to_string()));
                        }
                    }
                }
                front.drain().await;
            });
        });
        let (address, front) = is_ready.recv().expect("the application starts");
        Self { redis, address, front, asks, thread: Some(thread), mark }
    }

    pub(crate) fn http(&self) -> Http {
        Http::connect(self.address)
    }

    /// The next job of the queue.
    #[track_caller]
    pub(crate) fn take(&mut self) -> Job {
        let taken = self.redis.cmd(&["BLPOP", "tempest:web", "20"]);
        Job::parse(taken.list()[1].bytes().expect("a job"))
    }

    pub(crate) fn push(&mut self, job: &Job, message: &[u8]) {
        self.redis.cmd(&[b"RPUSH".as_ref(), job.reply_to().as_bytes(), message]);
    }

    /// Begins to drain; the receiver gets something when it is done.
    pub(crate) fn drain(&self) -> oneshot::Receiver<()> {
        let (done, drained) = oneshot::channel();
        assert!(self.asks.send(Ask::Drain(done)).is_ok(), "the application runs");
        drained
    }

    pub(crate) fn reload(&self, config: &str) -> Result<(), String> {
        let (done, reloaded) = oneshot::channel();
        let text = format!("redis.url = {:?}\n{config}", self.redis.url());
        assert!(self.asks.send(Ask::Reload(text, done)).is_ok(), "the application runs");
        reloaded.blocking_recv().expect("an outcome")
    }

    pub(crate) fn metric(&self, name: &str) -> u64 {
        let text = self.front.view().metrics().render();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("{name} in {text}"))
    }

    pub(crate) fn finish(mut self) {
        let Self { asks, thread, redis, mark, .. } = &mut self;
        let (gone, _) = mpsc::unbounded_channel();
        drop(std::mem::replace(asks, gone));
        thread.take().expect("it runs").join().expect("the application ends");
        redis.kill();
        assert_no_process(mark);
    }
}

pub(crate) fn parse(text: &str) -> Config {
    Config::from_toml(text, Path::new(".")).unwrap_or_else(|problems| panic!("{problems}"))
}

struct Mounted {
    front: Front,
    sub: Service,
    work: Service,
}

async fn accept(listener: TcpListener, front: Front) {
    let work = front.work("web").unwrap_or_else(|error| panic!("{error}"));
    let mounted = Rc::new(Mounted { sub: front.sub(), work, front });
    loop {
        let (socket, _) = listener.accept().await.expect("a connection");
        let mounted = Rc::clone(&mounted);
        tokio::task::spawn_local(async move {
            let service = service_fn(|request| {
                let mounted = Rc::clone(&mounted);
                async move { mounted.answer(request).await }
            });
            let _ = http1::Builder::new().serve_connection(TokioIo::new(socket), service).await;
        });
    }
}

impl Mounted {
    async fn answer(&self, mut request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
        let target = request.uri().to_string();
        let at = target[1..].find(['/', '?']).map_or(target.len(), |at| at + 1);
        let (prefix, below) = (&target[1..at], &target[at..]);
        let below = if below.starts_with('/') { below.to_owned() } else { format!("/{below}") };
        match prefix {
            "sub" => {
                *request.uri_mut() = below.parse().expect("a path");
                self.sub.answer(request).await
            }
            "hold" => {
                let channel = below[1..].split('?').next().unwrap_or_default();
                self.front.hold([channel]).answer(request).await
            }
            "from" => {
                let address = "192.0.2.7:4711".parse().expect("an address");
                request.extensions_mut().insert(Client { address, secure: true });
                self.work.answer(request).await
            }
            "all" => {
                *request.uri_mut() = below.parse().expect("a path");
                self.front.routes().answer(request).await
            }
            _ => self.work.answer(request).await,
        }
    }
}
