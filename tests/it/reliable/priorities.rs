//! Priorities: what is urgent goes first, what is not goes at last, and nobody polls for either.

use tempest_tests::{Claimer, Http, World, wait_until};

fn world() -> World {
    let mut tables = String::new();
    for class in ["high", "low", "normal"] {
        tables += &format!("[[route]]\npath = \"/{class}/{{rest...}}\"\nqueue = \"web\"\npriority = \"{class}\"\n");
    }
    World::builder().table(&tables).start()
}

/// Sends requests one after the other, each once the one before is in its list.
fn send(world: &mut World, paths: &[String]) -> Vec<Http> {
    let mut clients = Vec::new();
    for (before, path) in (0..).zip(paths) {
        let mut http = world.http();
        http.request("POST", path, &[], b"");
        clients.push(http);
        wait_until("the job to be queued", || world.count("tempest_jobs_pushed_total", &[]) == before + 1);
    }
    clients
}

#[test]
fn urgent_jobs_go_first_and_nobody_starves() {
    let mut world = world();
    let paths: Vec<String> =
        ["low", "normal", "high"].iter().flat_map(|c| (0..20).map(move |n| format!("/{c}/{n}"))).collect();
    let clients = send(&mut world, &paths);
    let mut worker = Claimer::start(&world.redis, "w");
    let claims = worker.claim_now(30, 30);
    let class =
        |at: usize| claims[at].job["path"].as_str().expect("a path").split('/').nth(1).expect("a class").to_owned();
    let count = |wanted: &str| (0..30).filter(|at| class(*at) == wanted).count();
    // The very first job of all found the list that workers wait at empty, and so stands in it.
    assert_eq!(
        (count("high"), count("normal") + count("low")),
        (20, 10),
        "{:?}",
        (0..30).map(class).collect::<Vec<_>>()
    );
    assert!((0..10).any(|at| class(at) == "low"), "one of ten claims is for the least urgent");
    assert!((0..10).any(|at| class(at) == "normal"));
    drop(clients);
    worker.leave();
    world.redis.cmd(&["DEL", "tempest:web", "{tempest:web}:high", "{tempest:web}:low"]);
    world.finish();
}

#[test]
fn a_worker_that_waits_is_woken_by_any_priority() {
    let world = world();
    let mut worker = Claimer::start(&world.redis, "w");
    for class in ["low", "high", "normal"] {
        let path = format!("/{class}/a");
        let mut http = world.http();
        http.request("GET", &path, &[], b"");
        let claim = worker.claim(1);
        assert_eq!(claim.job["path"], path);
        worker.finish(&claim, class);
        assert_eq!(http.response().text(), class);
    }
    worker.leave();
    world.finish();
}

#[test]
fn a_worker_that_knows_one_list_gets_the_others_too() {
    let mut world = world();
    let paths = ["/normal/1", "/low/2", "/high/3"].map(str::to_owned);
    let mut clients = send(&mut world, &paths);
    assert_eq!(world.redis.llen("{tempest:web}:high") + world.redis.llen("{tempest:web}:low"), 2);
    for expected in ["/normal/1", "/high/3", "/low/2"] {
        let job = world.take();
        assert_eq!(job["path"], *expected);
        world.ok(&job, expected);
    }
    for (http, path) in clients.iter_mut().zip(&paths) {
        assert_eq!(http.response().text(), *path);
    }
    world.finish();
}

#[test]
fn limits_and_withdrawals_hold_for_every_priority() {
    let mut world = World::builder()
        .set("limits.queue_depth = 2")
        .table("[[route]]\npath = \"/{rest...}\"\nqueue = \"web\"\npriority = \"high\"")
        .start();
    let clients = send(&mut world, &["/1".to_owned(), "/2".to_owned()]);
    let refused = world.http().get("/3");
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")));
    assert_eq!(world.redis.llen("{tempest:web}:high") + world.redis.llen("tempest:web"), 2);
    drop(clients);
    wait_until("the jobs to be withdrawn", || {
        world.redis.llen("{tempest:web}:high") + world.redis.llen("tempest:web") == 0
    });
    world.finish();
}
