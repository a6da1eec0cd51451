//! Each rule of the contract is needed: without it the search finds a broken promise. A model that finds nothing wrong
//! proves little; one that finds what was taken out of it proves that it looks.
//!
//! `TEMPEST_MODEL_TRACE=1` prints the shortest way to each.

use std::io::Write as _;

use tempest_model::Kind::{Background, Get, Post};
use tempest_model::{Budget, Rules, System, search};

const NOTHING: Budget = System::new(&[]).budget;
const MOST: usize = 1_000_000;

#[track_caller]
fn breaks(system: System, promise: &str) {
    let outcome = search(&system, MOST);
    let (fault, way) = outcome.fault.expect("the rule that was left out is needed");
    if std::env::var_os("TEMPEST_MODEL_TRACE").is_some() {
        let trace = tempest_model::trace(&way);
        let _ = writeln!(std::io::stderr(), "{system:?}\n{fault}, after {} steps:\n{trace}", way.len());
    }
    assert!(fault.contains(promise), "{fault}, and not {promise}");
    // The same system with the rule, so that it is the rule that matters.
    let kept = search(&System { rules: Rules::ALL, ..system }, MOST).fault;
    assert!(kept.is_none(), "{kept:?}");
}

#[test]
fn to_acknowledge() {
    let rules = Rules { acknowledge: false, ..Rules::ALL };
    breaks(System { rules, ..System::new(&[Background]) }, "keeps claims");
}

#[test]
fn to_drop_answers_of_older_attempts() {
    let rules = Rules { fence: false, ..Rules::ALL };
    let budget = Budget { front_cuts: 1, ..NOTHING };
    breaks(System { rules, budget, ..System::new(&[Get]) }, "I2");
}

#[test]
fn to_answer_before_the_acknowledgement() {
    let rules = Rules { answer_first: false, ..Rules::ALL };
    let budget = Budget { kills: 1, ..NOTHING };
    breaks(System { rules, budget, ..System::new(&[Get]) }, "I1");
}

#[test]
fn to_keep_others_from_the_lost_jobs_by_a_lease() {
    let rules = Rules { lease: false, ..Rules::ALL };
    breaks(System { rules, ..keepers(Budget { kills: 2, ..NOTHING }) }, "I1");
}

#[test]
fn not_to_retry_a_post_that_was_started() {
    let rules = Rules { start_once: false, ..Rules::ALL };
    let budget = Budget { kills: 1, ..NOTHING };
    breaks(System { rules, budget, ..System::new(&[Post]) }, "I4");
}

/// What a process wrote before it died arrives behind `reap.lua`.
#[test]
fn to_end_the_connections_of_a_process_before_it_is_reaped() {
    let rules = Rules { end_connections: false, ..Rules::ALL };
    let budget = Budget { kills: 1, ..NOTHING };
    breaks(System { rules, budget, ..System::new(&[Background]) }, "in landing");
}

/// What a worker wrote to the connection that broke arrives behind `recover.lua`.
#[test]
fn to_end_the_connection_that_broke_before_another_is_registered() {
    let rules = Rules { end_connections: false, ..Rules::ALL };
    let budget = Budget { cuts: 1, ..NOTHING };
    breaks(System { rules, budget, ..System::new(&[Background]) }, "keeps claims");
}

#[test]
fn to_wait_for_the_last_claim_before_signing_off() {
    let rules = Rules { wait_for_claim: false, ..Rules::ALL };
    let budget = Budget { departures: 1, ..NOTHING };
    breaks(System { rules, budget, ..System::new(&[Background]) }, "I5");
}

/// A `trim.lua` of the connection that broke arrives when the same front has the lease again.
#[test]
fn to_take_the_lease_under_another_name_after_a_lost_connection() {
    let rules = Rules { tenures: false, ..Rules::ALL };
    breaks(System { rules, ..keepers(Budget { kills: 2, front_cuts: 1, ..NOTHING }) }, "I1");
}

fn keepers(budget: Budget) -> System {
    System { fronts: 2, begun: true, parents: false, suspicion: false, budget, ..System::new(&[Post, Post]) }
}
