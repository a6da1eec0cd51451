//! The checker on ledgers made up for it: what is well must pass, and each rule must find what breaks it.

use tempest_chaos::clock::{MILLISECOND, SECOND};
use tempest_chaos::ledger::{Event, Kind, Line, Outcome, Persistence};

use super::{Book, check};

/// A ledger in the making; times in milliseconds.
#[derive(Default)]
struct Story(Vec<Line>);

impl Story {
    fn at(mut self, ms: u64, event: Event) -> Self {
        self.0.push(Line { t: 100 * SECOND + ms * MILLISECOND, event });
        self
    }

    fn sent(self, ms: u64, kind: Kind) -> Self {
        self.at(ms, Event::Sent { id: "r".into(), kind, front: 0 })
    }

    fn got(self, ms: u64, outcome: Outcome, status: u16, body: &str) -> Self {
        self.at(ms, Event::Got { id: "r".into(), outcome, status, body: body.into() })
    }

    fn start(self, ms: u64, id: &str, attempt: u32, pid: u32) -> Self {
        self.at(ms, Event::Start { id: id.into(), job: format!("job-{id}"), attempt, pid })
    }

    fn end(self, ms: u64, id: &str, attempt: u32, pid: u32) -> Self {
        self.at(ms, Event::End { id: id.into(), attempt, pid })
    }

    fn worker(self, pid: u32) -> Self {
        self.at(0, Event::Up { pid, class: "rust".into() })
    }

    fn kill(self, ms: u64, pid: u32) -> Self {
        self.at(ms, Event::Kill { pid, class: "rust".into() })
    }

    fn pushed(self, ms: u64) -> Self {
        self.at(ms, Event::Push { id: "b".into() }).at(ms, Event::Pushed { id: "b".into() })
    }

    fn redis(self, from: u64, to: u64, keeps: Persistence) -> Self {
        self.at(from, Event::RedisDown { killed: true, keeps }).at(to, Event::RedisUp { keeps })
    }

    /// The rules that are broken, each once.
    fn broken(mut self) -> Vec<&'static str> {
        self.0.sort_by_key(|line| line.t);
        let mut rules: Vec<_> = check(&Book::new(&self.0), None).0.iter().map(|finding| finding.rule).collect();
        rules.sort_unstable();
        rules.dedup();
        rules
    }
}

/// Two workers, and a request that the first has begun.
fn begun(kind: Kind) -> Story {
    Story::default().worker(1).worker(2).sent(10, kind).start(20, "r", 1, 1)
}

const NONE: [&str; 0] = [];

#[test]
fn what_is_well_passes() {
    assert_eq!(
        begun(Kind::GetQuick).end(21, "r", 1, 1).got(30, Outcome::Whole, 200, "chaos r 1 0 1 1\n").broken(),
        NONE
    );
    let parts = "chaos r 1 0 2 1\nchaos r 1 1 2 1\n";
    assert_eq!(begun(Kind::Stream).got(30, Outcome::Whole, 200, parts).broken(), NONE);
    let again = begun(Kind::GetSlow).kill(50, 1).start(150, "r", 2, 2);
    assert_eq!(again.got(300, Outcome::Whole, 200, "chaos r 2 0 1 2\n").broken(), NONE);
    assert_eq!(begun(Kind::PostSlow).kill(50, 1).got(200, Outcome::Whole, 502, "502").broken(), NONE);
    assert_eq!(
        begun(Kind::Stream).kill(50, 1).got(200, Outcome::Cut, 200, "chaos r 1 0 2 1\nchaos r 1").broken(),
        NONE
    );
}

#[test]
fn outcomes() {
    assert_eq!(begun(Kind::GetQuick).broken(), ["I1"], "none");
    let twice = begun(Kind::GetQuick).got(30, Outcome::Whole, 200, "chaos r 1 0 1 1\n");
    assert_eq!(twice.got(31, Outcome::Whole, 200, "chaos r 1 0 1 1\n").broken(), ["I1"], "two");
    assert_eq!(begun(Kind::GetQuick).got(30, Outcome::Lost, 0, "").broken(), ["I1"], "its front lives");
    let down = begun(Kind::GetQuick).at(25, Event::FrontDown { front: 0 }).got(30, Outcome::Lost, 0, "");
    assert_eq!(down.broken(), NONE);
    assert_eq!(begun(Kind::GetQuick).got(20_000, Outcome::Silent, 0, "").broken(), ["I1"]);
    assert_eq!(begun(Kind::GetQuick).got(30, Outcome::Whole, 500, "oh").broken(), ["I1"]);
}

#[test]
fn failures_need_a_cause_in_their_time() {
    assert_eq!(begun(Kind::PostSlow).got(200, Outcome::Whole, 502, "502").broken(), ["I1"]);
    assert_eq!(begun(Kind::GetSlow).kill(50, 1).got(200, Outcome::Whole, 502, "502").broken(), ["I1"], "one death");
    assert_eq!(begun(Kind::GetSlow).got(15_010, Outcome::Whole, 504, "504").broken(), ["I1"]);
    assert_eq!(
        begun(Kind::GetSlow).kill(50, 1).got(15_010, Outcome::Whole, 504, "504").broken(),
        ["I1"],
        "early death"
    );
    assert_eq!(
        begun(Kind::GetSlow).kill(14_000, 1).got(15_010, Outcome::Whole, 504, "504").broken(),
        NONE,
        "late death"
    );
    let away = begun(Kind::PostSlow).redis(100, 300, Persistence::None);
    assert_eq!(away.got(15_010, Outcome::Whole, 504, "504").broken(), NONE);
    let refused = |started: bool| {
        let story = Story::default().worker(1).sent(10, Kind::PostQuick).redis(5, 50, Persistence::None);
        let story = if started { story.start(20, "r", 1, 1) } else { story };
        story.got(30, Outcome::Whole, 503, "503").broken()
    };
    assert_eq!(refused(false), NONE);
    assert_eq!(refused(true), ["I1"], "no worker can have seen it");
    assert_eq!(
        begun(Kind::Stream).got(30, Outcome::Cut, 200, "chaos r 1 0 2 1\n").broken(),
        ["I1"],
        "its worker lives"
    );
    let cut = begun(Kind::Stream).kill(20, 1).got(30, Outcome::Cut, 200, "chaos r 1 0 2 1\n");
    let again = cut.at(100, Event::Up { pid: 1, class: "rust".into() }).kill(200, 1);
    assert_eq!(again.broken(), NONE, "a later process has the id of the one that died");
    let calm = begun(Kind::GetSlow).start(150, "r", 2, 2).got(300, Outcome::Whole, 200, "chaos r 2 0 1 2\n");
    assert_eq!(calm.broken(), ["I1"], "tried again for nothing");
}

#[test]
fn answers_of_others_and_of_older_attempts() {
    assert_eq!(begun(Kind::GetQuick).got(30, Outcome::Whole, 200, "chaos q 1 0 1 1\n").broken(), ["I3"]);
    assert_eq!(begun(Kind::GetQuick).got(30, Outcome::Whole, 200, "hello\n").broken(), ["I3"]);
    assert_eq!(
        begun(Kind::GetQuick).got(30, Outcome::Whole, 200, "chaos r 1 0 1 9\n").broken(),
        ["I3"],
        "never began it"
    );
    let fenced = begun(Kind::GetSlow).kill(50, 1).start(150, "r", 2, 2);
    assert_eq!(fenced.got(300, Outcome::Whole, 200, "chaos r 1 0 1 1\n").broken(), ["I2"]);
    let mixed = begun(Kind::Stream).kill(50, 1).start(150, "r", 2, 2);
    let parts = "chaos r 1 0 2 1\nchaos r 2 1 2 2\n";
    assert_eq!(mixed.got(300, Outcome::Whole, 200, parts).broken(), ["I2"]);
    assert_eq!(
        begun(Kind::Stream).got(30, Outcome::Whole, 200, "chaos r 1 1 2 1\n").broken(),
        ["I1"],
        "a part is missing"
    );
    let contradiction = Story::default().at(1, Event::Mixed { what: "path r, header q".into() });
    assert_eq!(contradiction.broken(), ["I3"]);
}

#[test]
fn starts() {
    let twice = |kind, attempt| {
        let story = begun(kind).kill(50, 1).start(150, "r", attempt, 2);
        story.got(300, Outcome::Whole, 200, &format!("chaos r {attempt} 0 1 2\n")).broken()
    };
    assert_eq!(twice(Kind::PostSlow, 2), ["I4"]);
    assert_eq!(twice(Kind::PostKeyed, 2), NONE);
    assert_eq!(twice(Kind::GetSlow, 1), ["I4"], "twice under one attempt");
}

#[test]
fn background_jobs() {
    let done = || Story::default().worker(1).worker(2).pushed(10).start(20, "b", 1, 1);
    assert_eq!(done().end(30, "b", 1, 1).broken(), NONE);
    assert_eq!(done().broken(), ["I5"], "never done");
    assert_eq!(done().redis(40, 60, Persistence::None).broken(), NONE, "forgotten");
    assert_eq!(done().redis(40, 60, Persistence::Always).broken(), ["I5"], "must not be forgotten");
    assert_eq!(done().redis(9_000, 9_100, Persistence::Everysec).broken(), ["I5"], "long before");
    assert_eq!(done().redis(40, 60, Persistence::Everysec).broken(), NONE, "a moment before");
    let again = done().end(30, "b", 1, 1).start(3_000, "b", 2, 2).end(3_010, "b", 2, 2);
    assert_eq!(again.broken(), ["I5"], "its worker was well");
    let again = |attempt| done().kill(25, 1).start(200, "b", attempt, 2).end(210, "b", attempt, 2).broken();
    assert_eq!(again(2), NONE);
    let on_its_way = done().kill(19, 1).start(200, "b", 2, 2).end(210, "b", 2, 2);
    assert_eq!(on_its_way.broken(), NONE, "a kill is written down before it is done");
    assert_eq!(again(1), ["I5"], "not told that it had crashed one");
    let acknowledged = done().end(30, "b", 1, 1).kill(2_500, 1).start(3_000, "b", 2, 2).end(3_010, "b", 2, 2);
    assert_eq!(acknowledged.broken(), ["I5"], "it must have been acknowledged long before the kill");
}

#[test]
fn deaths_are_noticed_in_time() {
    let deaths = |late: u64| {
        let mut story = Story::default();
        for number in 0..6 {
            let (at, pid, id) = (number * 10_000, number as u32 + 10, format!("r{number}"));
            story = story.at(at, Event::Up { pid, class: "rust".into() });
            story = story.at(at, Event::Sent { id: id.clone(), kind: Kind::GetSlow, front: 0 });
            story = story.start(at + 1, &id, 1, pid).kill(at + 2, pid).start(at + 2 + late, &id, 2, 9);
            let body = format!("chaos {id} 2 0 1 9\n");
            story = story.at(at + 9_000, Event::Got { id, outcome: Outcome::Whole, status: 200, body });
        }
        story.broken()
    };
    assert_eq!(deaths(150), NONE);
    assert_eq!(deaths(1_500), ["D"]);
}
