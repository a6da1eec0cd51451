//! Pages of other sites do not act with a session of ours.

use serde_json::json;
use tempest_tests::World;

use super::{Client, KEYS, patch, world};

/// Sends a request that must not become a job; gives its status.
fn refused(world: &World, client: &Client, method: &str, headers: &[&str]) -> u16 {
    let cookie = client.header().expect("a cookie");
    let mut all = headers.to_vec();
    all.push(&cookie);
    let mut http = world.http();
    http.request(method, "/", &all, b"x");
    http.response().status
}

#[test]
fn a_foreign_page_cannot_change_anything_with_a_session() {
    let mut world = world("origins = [\"https://app.example\"]");
    let mut client = Client::default();
    client.visit(&mut world, patch(json!({"user": "ann"})));
    for method in ["POST", "PUT", "PATCH", "DELETE"] {
        for headers in [
            vec!["sec-fetch-site: cross-site", "origin: https://evil.test"],
            vec!["sec-fetch-site: same-site", "origin: https://sister.localhost"],
            vec!["origin: https://evil.test"],
            vec!["origin: null"],
        ] {
            assert_eq!(refused(&world, &client, method, &headers), 403, "{method} {headers:?}");
        }
    }
    assert_eq!(world.count("tempest_requests_refused_total", &["origin"]), 16);
    let host = "origin: http://test".to_owned();
    for headers in [
        vec![],
        vec!["sec-fetch-site: same-origin", host.as_str()],
        vec!["sec-fetch-site: none"],
        vec![host.as_str()],
        vec!["sec-fetch-site: cross-site", "origin: https://app.example"],
    ] {
        let (job, response) = client.send(&mut world, "POST", &headers, |_| json!({}));
        assert_eq!((&job["session"], response.status), (&json!({"user": "ann"}), 200), "{headers:?}");
    }
    let foreign = ["sec-fetch-site: cross-site", "origin: https://evil.test"];
    let (job, _) = client.send(&mut world, "GET", &foreign, |_| json!({}));
    assert_eq!(job["session"], json!({"user": "ann"}), "a link from elsewhere");
    let (job, _) = Client::default().send(&mut world, "POST", &foreign, |_| json!({}));
    assert_eq!(job["session"], json!({}), "without a session there is nothing to misuse");
    world.finish();
}

#[test]
fn the_check_can_be_the_applications() {
    let mut world = World::builder().table(&format!("[session]\n{KEYS}\ncheck_origin = false")).start();
    let mut client = Client::default();
    client.visit(&mut world, patch(json!({"user": "ann"})));
    let (job, _) = client.send(&mut world, "POST", &["origin: https://evil.test"], |_| json!({}));
    assert_eq!(job["session"], json!({"user": "ann"}));
    world.finish();
}
