//! Which request goes where: paths, methods, hosts; what has no route.

use tempest_tests::{World, WorldBuilder};

const ROUTES: &str = r#"
[[route]]
path = "/users/{id}"
methods = ["GET", "DELETE"]
queue = "users"

[[route]]
path = "/users/{id}"
methods = ["POST"]
queue = "signup"

[[route]]
path = "/files/{rest...}"
queue = "files"

[[route]]
path = "/only/host"
host = "admin.test"
queue = "admin"

[[route]]
path = "/exact"
queue = "exact"
"#;

fn routed() -> WorldBuilder {
    World::builder().table(ROUTES)
}

#[test]
fn the_first_route_that_matches_names_the_queue() {
    let mut world = routed().start();
    for (method, target, host, queue) in [
        ("GET", "/users/5", "a", "users"),
        ("DELETE", "/users/%2F", "a", "users"),
        ("POST", "/users/5?x=/y/z", "a", "signup"),
        ("GET", "/files/", "a", "files"),
        ("GET", "/files/a/b/c", "a", "files"),
        ("GET", "/only/host", "admin.test", "admin"),
        ("GET", "/only/host", "ADMIN.test:8080", "admin"),
        ("PATCH", "/exact", "a", "exact"),
    ] {
        let mut http = world.http();
        http.send(format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        let job = world.take_from(&format!("tempest:{queue}"));
        assert_eq!(job["queue"], queue, "{method} {target}");
        world.ok(&job, queue);
        assert_eq!(http.response().text(), queue);
    }
    world.finish();
}

#[test]
fn no_route_is_a_404_and_a_wrong_method_a_405_that_names_the_right_ones() {
    let world = routed().start();
    for target in ["/", "/users", "/users/", "/users/5/6", "/Users/5", "/exact/", "/only/host", "/filesx"] {
        assert_eq!(world.http().get(target).status, 404, "{target}");
    }
    let mut http = world.http();
    http.request("PUT", "/users/5", &[], b"");
    let response = http.response();
    assert_eq!(response.status, 405);
    let mut allowed: Vec<_> = response.header("allow").expect("Allow").split(", ").map(str::to_owned).collect();
    allowed.retain(|method| !matches!(method.as_str(), "HEAD" | "OPTIONS"));
    allowed.sort();
    assert_eq!(allowed, ["DELETE", "GET", "POST"]);
    world.finish();
}
