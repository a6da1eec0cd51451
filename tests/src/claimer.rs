//! A worker in reliable mode, command by command: a test says when it claims, marks, answers, beats, and how it dies.
//!
//! It sends the scripts of the contract as any worker does, and nothing by itself: without a beat it is silent after three seconds.

use crate::redis::Redis;
use crate::resp::{Resp, Value};
use crate::worker::Job;

/// Sends the script of this name.
macro_rules! script {
    ($name:literal) => {
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../worker-sdk/protocol/scripts/", $name, ".lua"))
    };
}

/// A claimed job.
#[derive(Clone, Debug)]
pub struct Claim {
    /// The number of the claim.
    pub number: u64,
    /// The job.
    pub job: Job,
}

/// A registered worker of queue `web`.
#[derive(Debug)]
pub struct Claimer {
    /// Its id.
    pub worker: String,
    claims: Resp,
    other: Resp,
    next: u64,
}

/// A key of queue `web`.
fn key(what: &str) -> String {
    format!("{{tempest:web}}:{what}")
}

impl Claimer {
    /// Registers a worker, and beats once.
    #[track_caller]
    pub fn start(redis: &Redis, worker: &str) -> Self {
        let (claims, other) = (redis.connect(), redis.connect());
        let mut claimer = Self { worker: worker.to_owned(), claims, other, next: 1 };
        claimer.beat();
        assert_eq!(claimer.register(true), 1, "nobody has that name");
        claimer
    }

    /// Writes its record.
    #[track_caller]
    pub fn beat(&mut self) {
        let record = format!("{{\"id\":\"{}\",\"queue\":\"web\"}}", self.worker);
        let now = now_ms(&mut self.other);
        self.other.cmd(&["SET", &key(&format!("worker:{}", self.worker)), &record, "PX", "3000"]);
        self.other.cmd(&["ZADD", &key("workers"), &now.to_string(), &self.worker]);
        self.other.cmd(&["PEXPIRE", &key("workers"), "3600000"]);
    }

    /// Registers with the connections it has now.
    #[track_caller]
    pub fn register(&mut self, fresh: bool) -> i64 {
        let info = self.other.cmd(&["INFO", "server"]).text();
        let run_id = info.lines().find_map(|line| line.strip_prefix("run_id:")).expect("a run_id").trim().to_owned();
        let ids = [self.claims.cmd(&["CLIENT", "ID"]).int(), self.other.cmd(&["CLIENT", "ID"]).int()];
        let registration = format!("{run_id} {} {}", ids[0], ids[1]);
        let fresh = if fresh { "1" } else { "0" };
        self.other.cmd(&["EVAL", script!("register"), "1", &key("claimers"), &self.worker, &registration, fresh]).int()
    }

    /// Waits for a job and claims it; `marks` says how many of the claims count as started.
    #[track_caller]
    pub fn claim(&mut self, marks: u32) -> Claim {
        let mut landed = Value::Nil;
        while landed == Value::Nil {
            landed = self.claims.cmd(&["BLMOVE", "tempest:web", &self.key("landing"), "LEFT", "RIGHT", "20"]);
            assert_ne!(landed, Value::Nil, "no job within 20 s");
        }
        let number = self.next;
        let reply = self.run_claim(0, marks);
        assert_eq!(reply.list()[0], Value::Int(1), "the job in `landing` is the first claim: {reply:?}");
        self.next += 1;
        Claim { number, job: Job::parse(landed.bytes().expect("a job")) }
    }

    /// Claims up to `count` jobs that are there.
    #[track_caller]
    pub fn claim_now(&mut self, count: u32, marks: u32) -> Vec<Claim> {
        let reply = self.run_claim(count, marks);
        let jobs = &reply.list()[3..];
        let first = self.next;
        self.next += jobs.len() as u64;
        let claim = |(number, job): (u64, &Value)| Claim { number, job: Job::parse(job.bytes().expect("a job")) };
        (first..).zip(jobs).map(claim).collect()
    }

    fn run_claim(&mut self, count: u32, marks: u32) -> Value {
        let keys =
            [key("claimers"), self.key("claimed"), self.key("landing"), "tempest:web".into(), key("high"), key("low")];
        let keys = keys.into_iter().chain([key("withdrawn"), key("attempts"), key("stats")]);
        let mut command: Vec<String> = vec!["EVAL".into(), script!("claim").into(), "9".into()];
        command.extend(keys);
        command.extend([self.worker.clone(), self.next.to_string(), count.to_string(), marks.to_string()]);
        self.claims.cmd(&command)
    }

    /// Pushes an answer.
    #[track_caller]
    pub fn answer(&mut self, claim: &Claim, mut fields: serde_json::Value, body: &str) {
        fields["attempt"] = claim.job["attempt"].clone();
        let message = claim.job.answer(fields, body.as_bytes());
        self.other.cmd(&[b"RPUSH".as_ref(), claim.job.reply_to().as_bytes(), &message]);
    }

    /// Acknowledges a claim; returns how many of it were there: 0 or 1.
    #[track_caller]
    pub fn acknowledge(&mut self, claim: &Claim) -> i64 {
        self.other.cmd(&["HDEL", &self.key("claimed"), &claim.number.to_string()]).int()
    }

    /// Answers 200 with a text, and acknowledges.
    #[track_caller]
    pub fn finish(&mut self, claim: &Claim, body: &str) {
        self.answer(claim, serde_json::json!({"status": 200}), body);
        assert_eq!(self.acknowledge(claim), 1, "the claim was there");
    }

    /// Signs off in order.
    #[track_caller]
    pub fn leave(mut self) {
        self.other.cmd(&["HDEL", &key("claimers"), &self.worker]);
        self.other.cmd(&["DEL", &self.key("claimed"), &self.key("landing"), &self.key("worker")]);
        self.other.cmd(&["ZREM", &key("workers"), &self.worker]);
    }

    /// Both connections are gone, as when the process is killed.
    pub fn die(self) {
        drop(self);
    }

    /// Its heartbeat stops at once, as if three seconds had gone by; its connections stay.
    #[track_caller]
    pub fn fall_silent(&mut self) {
        // By then it may have been cut off.
        let _ = self.other.try_cmd(&["DEL", &self.key("worker")]);
    }

    /// One connection is replaced, and registered.
    #[track_caller]
    pub fn reconnect(&mut self, redis: &Redis) -> i64 {
        self.claims = redis.connect();
        self.register(false)
    }

    /// True while Redis answers on its connections.
    pub fn is_connected(&mut self) -> bool {
        self.claims.try_cmd(&["PING"]).is_ok() && self.other.try_cmd(&["PING"]).is_ok()
    }

    /// A key of this worker.
    pub fn key(&self, what: &str) -> String {
        key(&format!("{what}:{}", self.worker))
    }
}

fn now_ms(redis: &mut Resp) -> u64 {
    let time = redis.cmd(&["TIME"]);
    let number = |at: usize| time.list()[at].text().parse::<u64>().expect("TIME gives numbers");
    number(0) * 1000 + number(1) / 1000
}
