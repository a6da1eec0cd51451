//! What the front puts around answers, whoever gives them: headers, pages of other origins, pages for failures.

use std::fs;

use serde_json::json;
use tempest_tests::{Folder, Front, Job, Response, World, scratch, tempest};

fn ask(world: &mut World, method: &str, target: &str, headers: &[&str], fields: serde_json::Value) -> Response {
    let mut http = world.http();
    http.request(method, target, headers, b"");
    let job: Job = world.take();
    world.answer(&job, fields, "answer");
    http.try_response(method == "HEAD").expect("a response")
}

#[test]
fn headers_are_given_and_taken_as_the_settings_say() {
    let dir = Folder::new();
    fs::create_dir_all(dir.join("public")).expect("a folder");
    fs::write(dir.join("public/a.txt"), "a").expect("a file");
    let files = dir.join("public");
    let tables = format!(
        "[headers]\nsecurity = true\nset = {{ X-All = \"1\" }}\nremove = [\"Server\"]\n\
         [[route]]\npath = \"/own\"\nqueue = \"web\"\nheaders = {{ security = false, set = {{ X-All = \"own\" }}, default = {{ Cache-Control = \"no-store\" }} }}\n\
         [[route]]\npath = \"/files/{{file...}}\"\nkind = \"files\"\ndir = \"{}\"\n[[route]]\npath = \"/sub/{{channel...}}\"\nkind = \"subscribe\"\n\
         [[route]]\npath = \"/w/{{rest...}}\"\nqueue = \"web\"",
        files.display()
    );
    let mut world = World::builder().table(&tables).start();
    let worker = json!({"headers": {"server": "secret/1.0", "x-frame-options": "DENY", "x-all": "worker"}});
    let plain = ask(&mut world, "GET", "/w/", &[], worker.clone());
    for (name, value) in [
        ("server", None),
        ("x-all", Some("1")),
        ("x-frame-options", Some("DENY")),
        ("x-content-type-options", Some("nosniff")),
        ("referrer-policy", Some("strict-origin-when-cross-origin")),
        ("content-security-policy", Some("frame-ancestors 'self'")),
        ("strict-transport-security", None),
    ] {
        assert_eq!(plain.header(name), value, "{name}");
    }
    let own = ask(&mut world, "GET", "/own", &[], worker);
    assert_eq!(
        (own.header("x-all"), own.header("server"), own.header("cache-control")),
        (Some("own"), None, Some("no-store"))
    );
    assert_eq!(own.header("referrer-policy"), None);
    for (target, status) in [("/files/a.txt", 200), ("/files/missing", 404), ("/nowhere", 404)] {
        let response = world.http().get(target);
        assert_eq!((response.status, response.header("x-all")), (status, Some("1")), "{target}");
    }
    let mut stream = world.http();
    stream.request("GET", "/sub/news", &[], b"");
    assert_eq!(stream.read_head().expect("a head").header("x-all"), None, "event streams have heads of their own");
    drop(stream);
    world.finish();
}

const CORS: &str = "[[route]]\npath = \"/api/{rest...}\"\nqueue = \"web\"\nmethods = [\"GET\", \"PUT\"]\ntimeout = \"300ms\"\n\
    cors = { origins = [\"https://app.test\"], methods = [\"GET\", \"PUT\"], headers = [\"x-mine\"], expose = [\"x-total\"], credentials = true, max_age = \"1m\" }\n\
    [[route]]\npath = \"/any/{rest...}\"\nqueue = \"web\"\ncors = { origins = [\"*\"] }\n\
    [[route]]\npath = \"/{rest...}\"\nqueue = \"web\"";

#[test]
fn a_browser_that_asks_first_is_answered_without_a_worker() {
    let mut world = World::builder().table(CORS).start();
    let preflight = |target: &str, origin: &str, method: &str| {
        let mut http = world.http();
        let lines = [format!("Origin: {origin}"), format!("Access-Control-Request-Method: {method}")];
        http.request("OPTIONS", target, &lines.iter().map(String::as_str).collect::<Vec<_>>(), b"");
        http.response()
    };
    let good = preflight("/api/x", "https://app.test", "PUT");
    assert_eq!(good.status, 204);
    for (name, value) in [
        ("access-control-allow-origin", "https://app.test"),
        ("access-control-allow-methods", "GET, PUT"),
        ("access-control-allow-headers", "x-mine"),
        ("access-control-allow-credentials", "true"),
        ("access-control-max-age", "60"),
        ("vary", "Origin"),
    ] {
        assert_eq!(good.all(name), [value], "{name}");
    }
    let other = preflight("/api/x", "https://evil.test", "PUT");
    assert_eq!((other.status, other.header("access-control-allow-origin")), (204, None));
    assert_eq!(other.header("access-control-allow-methods"), None);
    let any = preflight("/any/x", "https://evil.test", "POST");
    assert_eq!((any.header("access-control-allow-origin"), any.header("vary")), (Some("*"), None));
    assert_eq!(any.header("access-control-allow-credentials"), None);
    // A route without the setting leaves it to its worker, and so does a plain OPTIONS.
    let asking = ["Origin: https://app.test", "Access-Control-Request-Method: PUT"];
    assert_eq!(ask(&mut world, "OPTIONS", "/x", &asking, json!({})).text(), "answer");
    assert_eq!(ask(&mut world, "OPTIONS", "/any/x", &["Origin: https://app.test"], json!({})).text(), "answer");
    world.finish();
}

#[test]
fn an_answer_says_who_may_read_it_and_a_failure_too() {
    let mut world = World::builder().table(CORS).start();
    let worker = json!({"headers": {"access-control-allow-origin": "*", "vary": "Accept"}});
    let good = ask(&mut world, "GET", "/api/x", &["Origin: https://app.test"], worker.clone());
    assert_eq!(good.all("access-control-allow-origin"), ["https://app.test"], "not what the worker says");
    assert_eq!(
        (good.all("vary"), good.header("access-control-expose-headers")),
        (vec!["Accept", "Origin"], Some("x-total"))
    );
    let other = ask(&mut world, "GET", "/api/x", &["Origin: https://evil.test"], worker.clone());
    assert_eq!((other.header("access-control-allow-origin"), other.all("vary")), (None, vec!["Accept", "Origin"]));
    let same = ask(&mut world, "GET", "/api/x", &[], worker);
    assert_eq!(same.header("access-control-allow-origin"), None);
    let mut http = world.http();
    http.request("GET", "/api/x", &["Origin: https://app.test"], b"");
    let late = http.response();
    assert_eq!((late.status, late.header("access-control-allow-origin")), (504, Some("https://app.test")));
    world.finish();
}

#[test]
fn failures_have_the_pages_of_the_operator() {
    let dir = Folder::new();
    let page = "<title>{{title}}</title>{{status}} {{detail}} <i>{{request_id}}</i>";
    fs::write(dir.join("404.html"), page).expect("a file");
    fs::write(dir.join("5xx.html"), "sorry: {{status}}").expect("a file");
    let tables = format!(
        "[errors]\n404 = \"{0}/404.html\"\n5xx = \"{0}/5xx.html\"\n[[route]]\npath = \"/w/{{rest...}}\"\nmethods = \"GET\"\nqueue = \"web\"",
        dir.display()
    );
    let mut world = World::builder().table(&tables).start();
    let missing = world.http().get("/nowhere");
    assert_eq!((missing.status, missing.header("content-type")), (404, Some("text/html; charset=utf-8")));
    let id = missing.header("x-request-id").expect("an id").to_owned();
    let expected = format!("<title>Not Found</title>404 nothing is served at this path <i>{id}</i>");
    assert_eq!((missing.text(), missing.header("cache-control")), (expected, Some("no-store")));
    let mut http = world.http();
    http.request("GET", "/nowhere", &["Accept: application/json"], b"");
    assert_eq!(http.response().header("content-type"), Some("application/problem+json"));
    http.request("POST", "/w/", &[], b"");
    assert_eq!(http.response().header("content-type"), Some("text/plain; charset=utf-8"), "405 has no page");
    http.request("GET", "/w/", &[], b"");
    let job = world.take();
    world.push(&job, format!("{{\"id\":\"{}\",\"status\":1}}", job.id()));
    let broken = http.response();
    assert_eq!((broken.status, broken.text().as_str()), (502, "sorry: 502"));
    let own = ask(&mut world, "GET", "/w/", &[], json!({"status": 404}));
    assert_eq!((own.status, own.text().as_str()), (404, "answer"), "the worker's page is the worker's");
    world.finish();
}

#[test]
fn a_page_that_is_not_there_is_an_error_at_the_start() {
    let (dir, _) = scratch();
    let config = "[front]\nlisten = \"127.0.0.1:0\"\nadmin = false\n[errors]\n404 = \"missing.html\"";
    let file = Front::write_config(&dir, config);
    let ran = tempest(&dir, &["front", "--config", &file.display().to_string()], &[], "");
    assert!(ran.code != 0 && ran.err.contains("missing.html"), "{}", ran.err);
    let _ = fs::remove_dir_all(dir);
}

#[test]
fn all_of_it_changes_with_a_reload_or_not_at_all() {
    let dir = Folder::new();
    fs::write(dir.join("404.html"), "old page").expect("a file");
    let page = dir.join("404.html").display().to_string();
    let tables = format!(
        "[errors]\n404 = \"{page}\"\n[headers]\nset = {{ X-All = \"1\" }}\n[[route]]\npath = \"/w\"\nqueue = \"web\""
    );
    let mut world = World::builder().table(&tables).start();
    let get = |world: &World| {
        let response = world.http().get("/nowhere");
        (response.text(), response.header("x-all").map(str::to_owned))
    };
    assert_eq!(get(&world), ("old page".to_owned(), Some("1".to_owned())));
    fs::write(dir.join("404.html"), "new page").expect("a file");
    world.configure(|text| text.replace("X-All = \"1\"", "X-All = \"2\""));
    assert!(world.hang_up());
    assert_eq!(get(&world), ("new page".to_owned(), Some("2".to_owned())));
    world.configure(|text| text.replace("404.html", "missing.html").replace("X-All = \"2\"", "X-All = \"3\""));
    assert!(!world.hang_up(), "a page that is not there");
    assert_eq!(get(&world), ("new page".to_owned(), Some("2".to_owned())));
    world.finish();
}
