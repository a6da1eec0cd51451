//! The contract holds: every system below is searched completely, and no state of it breaks a promise.
//!
//! Each has few dimensions, and together they have all. The states of each are stated as a floor, so that a system that
//! has become empty by mistake is noticed. `TEMPEST_MODEL_STATES=1` prints what each search has seen.

use std::io::Write as _;

use tempest_model::Kind::{Background, Get, Post};
use tempest_model::{Budget, Kind, System, search};

const ONE_OF_EACH: [&[Kind]; 3] = [&[Get], &[Post], &[Background]];
const NOTHING: Budget = System::new(&[]).budget;
const MOST: usize = 3_000_000;

#[track_caller]
fn holds(system: System, at_least: usize) {
    let outcome = search(&system, MOST);
    if std::env::var_os("TEMPEST_MODEL_STATES").is_some() {
        let (states, last) = (outcome.states, outcome.last);
        let _ = writeln!(std::io::stderr(), "{states:8} states, {last:4} last: {system:?}");
    }
    if let Some((fault, way)) = outcome.fault {
        panic!("{fault}\n{}", tempest_model::trace(&way));
    }
    assert!(outcome.states >= at_least, "{} states: the system has shrunk", outcome.states);
    assert!(outcome.last > 0, "nothing ever ends");
}

fn each(budget: Budget, at_least: [usize; 3]) {
    for (requests, at_least) in ONE_OF_EACH.into_iter().zip(at_least) {
        holds(System { budget, ..System::new(requests) }, at_least);
    }
}

const THREE: System = System { fronts: 2, ..System::new(&[Get, Post, Background]) };

#[test]
fn three_jobs_and_a_worker_whose_parent_sees_it_die() {
    let budget = Budget { kills: 1, ..NOTHING };
    holds(System { budget, connections: false, suspicion: false, ..THREE }, 150_000);
}

#[test]
fn three_jobs_and_a_worker_whose_connections_are_seen_to_go() {
    let budget = Budget { kills: 1, ..NOTHING };
    holds(System { budget, parents: false, suspicion: false, ..THREE }, 200_000);
}

#[test]
fn three_jobs_and_a_worker_that_stops_for_ever() {
    let budget = Budget { stops: 1, ..NOTHING };
    holds(System { budget, fronts: 1, parents: false, connections: false, resumes: false, ..THREE }, 30_000);
}

#[test]
fn three_jobs_and_a_front_that_dies_or_reconnects() {
    holds(System { budget: Budget { front_kills: 1, ..NOTHING }, ..THREE }, 25_000);
    holds(System { budget: Budget { front_cuts: 1, ..NOTHING }, ..THREE }, 150_000);
}

#[test]
fn a_worker_stops_and_comes_back() {
    let budget = Budget { stops: 1, ..NOTHING };
    for requests in [&[Get, Post][..], &[Post, Background]] {
        holds(System { budget, fronts: 2, ..System::new(requests) }, 50_000);
    }
    each(Budget { stops: 1, kills: 1, ..NOTHING }, [200_000, 100_000, 40_000]);
}

#[test]
fn a_worker_stops_while_the_lease_changes_hands() {
    let budget = Budget { stops: 1, lapses: 1, ..NOTHING };
    for requests in [&[Post][..], &[Background]] {
        holds(System { budget, fronts: 2, ..System::new(requests) }, 40_000);
    }
}

#[test]
fn a_connection_breaks_and_its_worker_dies() {
    each(Budget { cuts: 1, kills: 1, ..NOTHING }, [400_000, 200_000, 90_000]);
}

#[test]
fn a_connection_breaks_and_its_worker_stops() {
    holds(System { budget: Budget { cuts: 1, stops: 1, ..NOTHING }, ..System::new(&[Background]) }, 200_000);
}

#[test]
fn two_connections_break() {
    let one_worker = |requests| System { workers: 1, ..System::new(requests) };
    for (requests, at_least) in ONE_OF_EACH.into_iter().zip([70_000, 30_000, 12_000]) {
        holds(System { budget: Budget { cuts: 2, ..NOTHING }, ..one_worker(requests) }, at_least);
    }
}

#[test]
fn a_front_reconnects_and_a_worker_dies_or_stops() {
    each(Budget { front_cuts: 1, kills: 1, ..NOTHING }, [100_000, 10_000, 1_000]);
    holds(System { budget: Budget { front_cuts: 1, stops: 1, ..NOTHING }, ..System::new(&[Post]) }, 20_000);
}

#[test]
fn front_and_worker_die() {
    let budget = Budget { front_kills: 1, kills: 1, ..NOTHING };
    for requests in ONE_OF_EACH {
        holds(System { budget, fronts: 2, ..System::new(requests) }, 5_000);
    }
}

#[test]
fn a_dead_worker_is_started_again_under_its_id_and_a_deadline_passes() {
    each(Budget { kills: 1, restarts: 1, deadlines: 1, ..NOTHING }, [15_000, 10_000, 3_000]);
}

#[test]
fn a_worker_signs_off() {
    each(Budget { departures: 1, kills: 1, ..NOTHING }, [30_000, 20_000, 10_000]);
    each(Budget { departures: 1, cuts: 1, ..NOTHING }, [150_000, 90_000, 40_000]);
}

#[test]
fn claims_of_two() {
    for requests in [&[Get, Background][..], &[Post, Get], &[Background, Background]] {
        let system = System { batch: 2, ..System::new(requests) };
        holds(system, 700);
        holds(System { budget: Budget { kills: 1, restarts: 1, ..NOTHING }, workers: 1, ..system }, 9_000);
        holds(System { budget: Budget { cuts: 1, ..NOTHING }, workers: 1, ..system }, 10_000);
        holds(System { budget: Budget { stops: 1, ..NOTHING }, workers: 1, ..system }, 5_000);
    }
    holds(System { budget: Budget { kills: 1, ..NOTHING }, batch: 2, ..System::new(&[Post, Background]) }, 50_000);
}

#[test]
fn a_job_that_crashes_its_workers_becomes_a_dead_letter() {
    let budget = Budget { kills: 2, restarts: 2, ..NOTHING };
    holds(System { budget, workers: 1, crash_limit: 2, ..System::new(&[Background]) }, 4_000);
}

#[test]
fn two_keepers_hand_over_what_two_dead_workers_held() {
    let system = System { fronts: 2, begun: true, parents: false, suspicion: false, ..System::new(&[Post, Post]) };
    for (budget, at_least) in [
        (Budget { kills: 2, ..NOTHING }, 9_000),
        (Budget { kills: 2, front_cuts: 1, ..NOTHING }, 60_000),
        (Budget { kills: 2, lapses: 1, ..NOTHING }, 100_000),
        (Budget { kills: 2, front_kills: 1, ..NOTHING }, 25_000),
    ] {
        holds(System { budget, ..system }, at_least);
    }
}
