//! The ten-line workers: all seven languages on one queue, through a Redis restart, with input that breaks quoting.

use std::collections::BTreeSet;

use tempest_tests::{RAW_LANGUAGES, Response, World, wait_until};

/// The language that answered, by the header every example sets.
fn language(response: &Response) -> String {
    response.header("x-worker").expect("an example names itself").to_owned()
}

/// Asks until every language has answered.
#[track_caller]
fn all_answer(world: &World) {
    let expected: BTreeSet<String> = RAW_LANGUAGES.iter().map(ToString::to_string).collect();
    let mut seen = BTreeSet::new();
    wait_until("every language to answer", || {
        let mut clients: Vec<_> = (0..14).map(|_| world.http()).collect();
        for http in &mut clients {
            http.request("GET", "/who", &[], b"");
        }
        for http in &mut clients {
            let response = http.response();
            assert_eq!(response.status, 200, "{response:?}");
            let language = language(&response);
            assert!(response.text().starts_with(&format!("hello from {language}, GET /who")), "{}", response.text());
            seen.insert(language);
        }
        seen == expected
    });
}

#[test]
fn seven_languages_answer_on_one_queue_and_survive_a_restart_of_redis() {
    let mut world = World::start();
    for language in RAW_LANGUAGES {
        world.raw_worker(language);
    }
    all_answer(&world);
    world.restart_redis();
    all_answer(&world);
    world.finish();
}

#[test]
fn no_language_stumbles_over_what_a_client_chooses() {
    for language in RAW_LANGUAGES {
        let mut world = World::start();
        world.raw_worker(language);
        let mut http = world.http();
        let hostile = ["X-A: \",\"id\":\"fake\",\"reply_to\":\"other", "X-B: $(reboot) `x` ' \\ %s \u{e9}"];
        http.request("POST", "/a%20b/%22,%22id%22?x='\\", &hostile, b"\n\0{\"id\":\"fake\"}\n\xff");
        let response = http.response();
        assert_eq!((response.status, response.header("x-worker")), (200, Some(language)), "{response:?}");
        assert!(response.text().contains("POST /a%20b/%22,%22id%22"), "{}", response.text());
        world.finish();
    }
}

#[test]
fn a_worker_stops_when_told_to() {
    let mut world = World::start();
    for language in RAW_LANGUAGES {
        world.raw_worker(language);
    }
    all_answer(&world);
    world.stop_workers();
    world.finish();
}
