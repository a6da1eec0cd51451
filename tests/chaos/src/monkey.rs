//! The monkey: does its deeds, writes each of them down, and puts back what it has broken.
//!
//! A deed is written down so that nothing it causes can be dated before it. All of it is one thread, which owns the
//! stage: processes end with the thread that has started them.

use std::io::{self, Read};
use std::time::{Duration, Instant};

use tempest_chaos::clock;
use tempest_chaos::ledger::{Event, Persistence, Writer};
use tempest_tests::{Front, Http, Signal, kill, wait_until};

use crate::chance::Chance;
use crate::check::Finding;
use crate::load::{Load, Place};
use crate::phases::{Deed, Phase};
use crate::stage::{Stage, Victim};

/// How often it looks what is due.
const LOOK: Duration = Duration::from_millis(5);
/// How often ended workers are started again.
const RESTART: Duration = Duration::from_millis(50);
/// Workers killed together, and the most that lies between two of them, in milliseconds: while one is looked after the
/// next one dies.
const TOGETHER: usize = 4;
const APART_MS: u64 = 150;
/// How long Redis stays away, in milliseconds.
const AWAY_MS: (u64, u64) = (100, 700);
/// How long a stopped worker, or one that nothing reaches, stays so, in milliseconds. Longer than the 3.5 s within which
/// its silence is noticed.
const STOPPED_MS: (u64, u64) = (4_000, 6_000);
/// The most that anything may take to work again after a return of Redis.
const RESUMED: Duration = Duration::from_secs(10);
/// What a front in good order does at once, and how long one read of a stream waits.
const SOON: Duration = Duration::from_millis(200);
/// The channel of the streams.
const CHANNEL: &str = "chaos";
/// The settings of what Redis keeps, in the order in which a run goes through them.
const KEEPS: [Persistence; 3] = [Persistence::Always, Persistence::Everysec, Persistence::None];

/// Does its deeds.
pub(crate) struct Monkey<'a> {
    pub(crate) stage: Stage,
    pub(crate) findings: Vec<Finding>,
    load: &'a Load,
    ledger: Writer,
    chance: Chance,
    stopped: Vec<(u32, Instant)>,
    delayed_until: Option<Instant>,
    hole_until: Option<Instant>,
    keeps: Persistence,
    restarts: usize,
    probes: u64,
    looked_for_ended: Instant,
}

impl<'a> Monkey<'a> {
    pub(crate) fn new(stage: Stage, load: &'a Load, seed: u64) -> Self {
        let ledger = Writer::open(&stage.ledger().join("monkey.jsonl")).expect("the folder of ledgers is there");
        Self {
            stage,
            findings: Vec::new(),
            load,
            ledger,
            chance: Chance::new(seed, 1),
            stopped: Vec::new(),
            delayed_until: None,
            hole_until: None,
            keeps: Persistence::None,
            restarts: 0,
            probes: 0,
            looked_for_ended: Instant::now(),
        }
    }

    /// One phase from beginning to end; behind it everything goes on and nothing is disturbed.
    pub(crate) fn play(&mut self, phase: &Phase) {
        self.ledger.note(Event::Phase { name: phase.name.to_owned() });
        if phase.disturbs() {
            self.ledger.note(Event::Disturb { what: phase.name.to_owned() });
        }
        let end = Instant::now() + phase.length();
        let mean = Duration::from_millis;
        let first = |(deed, pause): &(Deed, u64)| (*deed, mean(*pause), Instant::now() + mean(*pause / 2));
        let mut due: Vec<(Deed, Duration, Instant)> = phase.deeds.iter().map(first).collect();
        while Instant::now() < end {
            for (deed, pause, at) in &mut due {
                if Instant::now() >= *at {
                    self.act(*deed);
                    *at = Instant::now() + self.chance.poisson(*pause);
                }
            }
            self.put_back();
            std::thread::sleep(LOOK);
        }
        while !self.stopped.is_empty() || self.hole_until.is_some() || self.delayed_until.is_some() {
            self.put_back();
            std::thread::sleep(LOOK);
        }
        if phase.disturbs() {
            self.ledger.note(Event::Calm);
        }
    }

    /// Starts again what has ended, and lets go on what was held back for long enough.
    pub(crate) fn put_back(&mut self) {
        let now = Instant::now();
        let (due, still): (Vec<_>, Vec<_>) = self.stopped.iter().partition(|(_, until)| *until <= now);
        self.stopped = still;
        for (pid, _) in due {
            self.ledger.note(Event::Cont { pid });
            kill(pid, Signal::CONT);
        }
        if self.delayed_until.is_some_and(|until| until <= now) {
            self.delayed_until = None;
            self.stage.proxy.delay(Duration::ZERO);
        }
        if self.hole_until.is_some_and(|until| until <= now) {
            self.hole_until = None;
            self.stage.proxy.hole(false);
        }
        if now.duration_since(self.looked_for_ended) >= RESTART {
            self.looked_for_ended = now;
            self.stage.restart_ended();
        }
    }

    fn act(&mut self, deed: Deed) {
        match deed {
            Deed::KillWorker => self.kill(self.stage.victims(), 1),
            Deed::KillWorkers => self.kill(self.stage.victims(), TOGETHER),
            Deed::KillSupervisor => self.kill(self.stage.supervisors(), 1),
            Deed::StopWorker => self.stop_worker(),
            Deed::KillFront => self.kill_front(),
            Deed::CutClient => self.cut_client(),
            Deed::ProxyCut => self.stage.proxy.cut(&mut self.chance),
            Deed::ProxyHalfClose => self.stage.proxy.half_close(&mut self.chance),
            Deed::ProxyDelay => {
                let (long, delay) = (self.chance.between(100, 600), self.chance.between(1, 100));
                self.delayed_until = Some(Instant::now() + Duration::from_millis(long));
                self.stage.proxy.delay(Duration::from_millis(delay));
            }
            Deed::ProxyHole => {
                let long = self.chance.between(STOPPED_MS.0, STOPPED_MS.1);
                self.hole_until = Some(Instant::now() + Duration::from_millis(long));
                self.stage.proxy.hole(true);
            }
            Deed::RestartRedis => self.restart_redis(),
        }
    }

    fn kill(&mut self, mut among: Vec<Victim>, count: usize) {
        for _ in 0..count.min(among.len()) {
            let at = self.chance.between(0, among.len() as u64) as usize;
            let Victim { pid, class } = among.swap_remove(at);
            self.stopped.retain(|(stopped, _)| *stopped != pid);
            self.ledger.note(Event::Kill { pid, class });
            kill(pid, Signal::KILL);
            if count > 1 {
                std::thread::sleep(Duration::from_millis(self.chance.between(0, APART_MS)));
            }
        }
    }

    /// Half of the workers at most, so that somebody is left to work.
    fn stop_worker(&mut self) {
        let mut victims = self.stage.victims();
        if self.stopped.len() * 2 >= victims.len() {
            return;
        }
        victims.retain(|victim| !self.stopped.iter().any(|(pid, _)| *pid == victim.pid));
        let Some(Victim { pid, class }) = self.chance.pick(&victims).cloned() else { return };
        self.ledger.note(Event::Stop { pid, class });
        kill(pid, Signal::STOP);
        let long = self.chance.between(STOPPED_MS.0, STOPPED_MS.1);
        self.stopped.push((pid, Instant::now() + Duration::from_millis(long)));
    }

    fn kill_front(&mut self) {
        let front = self.chance.between(0, self.stage.fronts().len() as u64) as usize;
        self.ledger.note(Event::FrontDown { front });
        self.stage.kill_front(front);
        let place = self.stage.replace_front(front);
        // What was held back would be for ever while somebody waits here: a front behind a hole is never ready.
        wait_until("the front to be ready", || {
            self.put_back();
            self.stage.fronts()[front].is_ready()
        });
        self.load.shared.places()[front] = place;
        self.ledger.note(Event::FrontUp { front });
    }

    fn cut_client(&mut self) {
        // One of its own: any other may be ended, too, by a reaper that still knows it by another's id.
        let mut client = self.stage.redis.connect();
        let (Ok(own), Ok(list)) = (client.try_cmd(&["CLIENT", "ID"]), client.try_cmd(&["CLIENT", "LIST"])) else {
            return;
        };
        let (own, list) = (own.int().to_string(), list.text());
        let ids = list.lines().filter_map(|line| line.split(' ').find_map(|word| word.strip_prefix("id=")));
        let ids: Vec<&str> = ids.filter(|id| *id != own).collect();
        if let Some(id) = self.chance.pick(&ids) {
            let _ = client.try_cmd(&["CLIENT", "KILL", "ID", id]);
        }
    }

    fn restart_redis(&mut self) {
        // What is asked behind it is whether everything works again, and through a hole nothing does.
        if self.hole_until.take().is_some() {
            self.stage.proxy.hole(false);
        }
        let mut streams: Vec<(usize, Http)> =
            self.stage.fronts().iter().map(subscribe).enumerate().filter_map(open).collect();
        let killed = self.chance.unit() < 0.75;
        self.ledger.note(Event::RedisDown { killed, keeps: self.keeps });
        self.stage.end_redis(killed);
        std::thread::sleep(Duration::from_millis(self.chance.between(AWAY_MS.0, AWAY_MS.1)));
        self.keeps = KEEPS[self.restarts % KEEPS.len()];
        self.restarts += 1;
        self.stage.return_redis(self.keeps);
        self.ledger.note(Event::RedisUp { keeps: self.keeps });
        for number in 0..self.stage.fronts().len() {
            let place = self.load.shared.places()[number];
            self.probe(number, place);
        }
        for (front, stream) in &mut streams {
            self.listen(*front, stream);
        }
    }

    /// A stream opened before must bring what is published now.
    fn listen(&mut self, front: usize, stream: &mut Http) {
        let (begin, mut text, mut piece) = (Instant::now(), Vec::new(), [0; 1024]);
        while begin.elapsed() < RESUMED {
            let _ = self.stage.redis.connect().try_cmd(&["PUBLISH", CHANNEL, "back"]);
            self.put_back();
            match stream.read(&mut piece) {
                Ok(read) if read > 0 => text.extend_from_slice(&piece[..read]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                _ => return self.broken(format!("front {front} ended a stream while Redis was away")),
            }
            if String::from_utf8_lossy(&text).contains("data: back") {
                return;
            }
        }
        self.broken(format!("a stream of front {front} brings nothing {RESUMED:?} after Redis came back"));
    }

    fn broken(&mut self, what: String) {
        self.findings.push(Finding { rule: "I8", what, id: String::new() });
    }

    /// A request of its own, which must succeed soon; the load's may fail in these moments.
    fn probe(&mut self, front: usize, place: Place) {
        let (begin, mut last) = (Instant::now(), String::new());
        while begin.elapsed() < RESUMED {
            self.probes += 1;
            match ask(place, self.probes) {
                Ok(200) => return,
                Ok(status) => last = status.to_string(),
                Err(error) => last = error.to_string(),
            }
            self.put_back();
            std::thread::sleep(LOOK);
        }
        self.broken(format!("front {front} answers nobody {RESUMED:?} after Redis came back, at last: {last}"));
    }
}

/// A stream of a front, its head read; None: it was not to be had, which is the phase's affair.
fn subscribe(front: &Front) -> Option<Http> {
    let mut http = Http::try_connect(front.address()).ok()?;
    http.set_read_timeout(SOON);
    http.request("GET", &format!("/sub/{CHANNEL}"), &["Accept: text/event-stream"], b"");
    http.read_head().ok().filter(|head| head.status == 200)?;
    Some(http)
}

fn open((front, stream): (usize, Option<Http>)) -> Option<(usize, Http)> {
    Some((front, stream?))
}

fn ask(place: Place, number: u64) -> io::Result<u16> {
    let mut http = Http::try_connect(place.address)?;
    http.set_read_timeout(RESUMED);
    let id = format!("probe-{number}-{}", clock::now());
    http.request("GET", &format!("/quick/{id}"), &[&format!("x-chaos-id: {id}")], b"");
    Ok(http.try_response(false)?.status)
}
