//! A supervised worker whose process sleeps while the test speaks at the address it was given.

use std::io::{self, Read, Write};
use std::net::TcpStream;

use serde_json::json;
use tempest_tests::{Job, PATIENCE, Resp, Value, World};

use super::{said, supervise};

/// Such a worker of queue `web`.
pub(super) struct Played {
    pub(super) world: World,
    /// The worker's id.
    pub(super) id: String,
    /// Its process.
    pub(super) pid: u32,
    /// Where it was told that Redis is.
    pub(super) url: String,
    /// Where it was told that Redis itself is.
    pub(super) direct: String,
}

impl Played {
    /// Starts one.
    #[track_caller]
    pub(super) fn start() -> Self {
        Self::start_with(World::start(), "", "")
    }

    /// The same in a world of the test's; the user and password of its Redis, and more lines for the worker's table.
    #[track_caller]
    pub(super) fn start_with(mut world: World, user: &str, lines: &str) -> Self {
        const SAY: &str = r#"echo "url $REDIS_URL"; echo "direct $TEMPEST_REDIS_URL"; echo "id $TEMPEST_WORKER_ID"; echo "pid $$"; exec sleep 1000"#;
        let redis = world.redis.url().replace("://", &format!("://{user}"));
        let log = supervise(&mut world, &redis, &format!("[workers.played]\ncommand = ['sh', '-c', '{SAY}']\n{lines}"));
        let said = |start: &str| said(&log, 0, start);
        let pid = said("pid ").parse().expect("a number");
        Self { id: said("id "), pid, url: said("url "), direct: said("direct "), world }
    }

    fn port(&self) -> u16 {
        let place = self.url.trim_end_matches("/0").rsplit_once(':').expect("a port").1;
        place.parse().expect("a number")
    }

    /// A connection of the worker's.
    pub(super) fn connect(&self) -> Resp {
        Resp::connect(self.port()).expect("the supervisor accepts connections")
    }

    /// The same for bytes of the test's choice.
    pub(super) fn connect_raw(&self) -> Raw {
        let stream = TcpStream::connect(("127.0.0.1", self.port())).expect("the supervisor accepts connections");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time limit");
        Raw(stream)
    }

    /// Pushes a background job.
    pub(super) fn push(&mut self, id: &str) {
        self.push_job(&json!({"action": "test.run", "attempt": 1, "id": id, "queue": "web", "v": 1}).to_string());
    }

    /// Pushes any job.
    pub(super) fn push_job(&mut self, job: &str) {
        self.world.redis.cmd(&["RPUSH", "tempest:web", job]);
    }

    /// A key of the queue.
    pub(super) fn key(&self, what: &str) -> String {
        format!("{{tempest:web}}:{what}")
    }

    /// The ids of the jobs that the worker holds as claims, sorted.
    #[track_caller]
    pub(super) fn claims(&mut self) -> Vec<String> {
        let key = self.key(&format!("claimed:{}", self.id));
        let fields = self.world.redis.cmd(&["HGETALL", &key]);
        let pairs = fields.list().chunks(2).filter(|pair| pair[0].text() != "started");
        let mut ids: Vec<_> = pairs.map(|pair| id_of(&pair[1])).collect();
        ids.sort();
        ids
    }

    /// The length of the queue.
    pub(super) fn depth(&mut self) -> i64 {
        self.world.redis.llen("tempest:web")
    }

    /// Ends everything; nothing may be left.
    #[track_caller]
    pub(super) fn finish(mut self) {
        // What the worker held when it was ended is in the queue again.
        self.world.stop_workers();
        self.world.redis.cmd(&["DEL", "tempest:web", "{tempest:web}:dead", "other"]);
        self.world.finish();
    }
}

/// The id of a job as it came.
#[track_caller]
pub(super) fn id_of(job: &Value) -> String {
    let job = job.bytes().expect("a job");
    let whole = job.first() != Some(&b'{') || job.contains(&b'\n');
    let text = if whole { job.to_vec() } else { [job, b"\n"].concat() };
    Job::parse(&text).id().to_owned()
}

/// The id of the job in the reply to a BLPOP.
#[track_caller]
pub(super) fn popped(reply: &Value) -> String {
    match reply.list() {
        [list, job] if list.text() == "tempest:web" => id_of(job),
        _ => panic!("no job: {reply:?}"),
    }
}

/// A connection as bytes.
pub(super) struct Raw(TcpStream);

impl Raw {
    pub(super) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).expect("written");
    }

    /// Asserts that these bytes come next.
    #[track_caller]
    pub(super) fn expect(&mut self, bytes: &str) {
        let mut read = vec![0; bytes.len()];
        let outcome = self.0.read_exact(&mut read);
        let read = String::from_utf8_lossy(&read);
        assert!(outcome.is_ok() && read == bytes, "{outcome:?}: {read:?} instead of {bytes:?}");
    }

    /// All that comes until the other side ends the connection.
    #[track_caller]
    pub(super) fn rest(&mut self) -> String {
        let mut rest = Vec::new();
        match self.0.read_to_end(&mut rest) {
            Err(error) if error.kind() != io::ErrorKind::ConnectionReset => panic!("{error}"),
            _ => String::from_utf8_lossy(&rest).into_owned(),
        }
    }
}

impl Raw {
    /// Fills the buffer.
    #[track_caller]
    pub(super) fn read_into(&mut self, buffer: &mut [u8]) {
        self.0.read_exact(buffer).expect("more bytes");
    }
}
