//! A worker names a file and the front sends it: who may see it is the worker's to say, the bytes pass it by.

use std::fs;

use serde_json::{Value as Json, json};
use tempest_tests::{Folder, Job, World, wait_until};

/// A front with a folder that only workers open, behind a worker that answers with the headers the test asks for.
fn world(dir: &Folder, internal: bool) -> World {
    fs::create_dir_all(dir.join("private")).expect("a folder");
    fs::write(dir.join("private/a b.pdf"), "0123456789").expect("a file");
    fs::write(dir.join("private/.hidden"), "hidden").expect("a file");
    fs::write(dir.join("secret.txt"), "secret").expect("a file");
    let (files, internal) = (dir.join("private"), if internal { "internal = true" } else { "" });
    let route = format!(
        "[[route]]\npath = \"/files/{{file...}}\"\nkind = \"files\"\ndir = \"{}\"\n{internal}\n[[route]]\npath = \"/{{rest...}}\"\nqueue = \"web\"",
        files.display()
    );
    World::builder().table(&route).start()
}

/// Asks, and answers as the worker with these fields.
fn ask(world: &mut World, method: &str, headers: &[&str], fields: Json) -> tempest_tests::Response {
    let mut http = world.http();
    http.request(method, "/download", headers, b"");
    let job: Job = world.take();
    world.answer(&job, fields, "the body of the worker");
    http.try_response(method == "HEAD").expect("a response")
}

fn naming(path: &str) -> Json {
    json!({"headers": {"X-Accel-Redirect": path, "content-type": "application/pdf"}})
}

#[test]
fn the_file_comes_with_what_the_worker_says_of_it() {
    let dir = Folder::new();
    let mut world = world(&dir, true);
    for name in ["x-accel-redirect", "X-Sendfile"] {
        let fields = json!({"headers": {
            name: "/files/a%20b.pdf", "content-type": "application/pdf", "content-disposition": "attachment",
            "set-cookie": ["a=1", "b=2"], "cache-control": "private", "etag": "\"worker\"",
        }});
        let response = ask(&mut world, "GET", &[], fields);
        assert_eq!((response.status, response.text().as_str()), (200, "0123456789"));
        for (name, value) in
            [("content-type", "application/pdf"), ("content-disposition", "attachment"), ("cache-control", "private")]
        {
            assert_eq!(response.header(name), Some(value));
        }
        assert_eq!(response.all("set-cookie"), ["a=1", "b=2"]);
        assert_ne!(response.header("etag"), Some("\"worker\""), "the validator is the file's");
        assert_eq!((response.header("x-accel-redirect"), response.header("x-sendfile")), (None, None));
    }
    world.finish();
}

#[test]
fn conditions_ranges_and_statuses_are_kept() {
    let dir = Folder::new();
    let mut world = world(&dir, true);
    let path = "/files/a%20b.pdf?version=2";
    let head = ask(&mut world, "HEAD", &[], naming(path));
    assert_eq!((head.status, head.header("content-length")), (200, Some("10")));
    let tag = head.header("etag").expect("a validator").to_owned();
    let part = ask(&mut world, "GET", &["Range: bytes=2-4"], naming(path));
    assert_eq!((part.status, part.text().as_str()), (206, "234"));
    assert_eq!(part.header("content-type"), Some("application/pdf"));
    let fresh = ask(&mut world, "GET", &[&format!("If-None-Match: {tag}")], naming(path));
    assert_eq!((fresh.status, fresh.body.len(), fresh.header("content-type")), (304, 0, None));
    let mut fields = naming(path);
    fields["status"] = json!(403);
    let page = ask(&mut world, "POST", &["Range: bytes=2-4"], fields);
    assert_eq!((page.status, page.text().as_str()), (403, "0123456789"), "another status has the whole file");
    let mut fields = naming(path);
    fields["status"] = json!(204);
    assert_eq!(ask(&mut world, "GET", &[], fields).status, 204);
    world.finish();
}

#[test]
fn no_client_reaches_the_folder() {
    let dir = Folder::new();
    let mut world = world(&dir, true);
    let mut http = world.http();
    http.request("GET", "/files/a%20b.pdf", &["X-Accel-Redirect: /files/a%20b.pdf"], b"");
    let job = world.take();
    world.ok(&job, "the route of the worker");
    assert_eq!(http.response().text(), "the route of the worker");
    world.finish();
}

#[test]
fn what_is_no_file_there_is_refused_and_noted() {
    let dir = Folder::new();
    let mut world = world(&dir, true);
    for (path, status) in [
        ("/elsewhere/a.pdf", 502),
        ("/download", 502),
        ("files/a.pdf", 502),
        ("", 502),
        ("/files/none.pdf", 404),
        ("/files/", 404),
        ("/files/../secret.txt", 404),
        ("/files/%2e%2e/secret.txt", 404),
        ("/files/.hidden", 404),
    ] {
        let response = ask(&mut world, "GET", &[], naming(path));
        assert_eq!(response.status, status, "{path}: {response:?}");
        assert_eq!(response.header("x-accel-redirect"), None);
        assert!(!response.text().contains(path) || path.is_empty(), "{}", response.text());
    }
    wait_until("the problem", || world.front.admin().get("/status").text().contains("no route with internal = true"));
    world.front.process.log.wait_for("x-accel-redirect");
    world.finish();
}

#[test]
fn a_folder_that_clients_reach_is_none_that_workers_name() {
    let dir = Folder::new();
    let mut world = world(&dir, false);
    assert_eq!(world.http().get("/files/a%20b.pdf").text(), "0123456789");
    assert_eq!(ask(&mut world, "GET", &[], naming("/files/a%20b.pdf")).status, 502);
    world.finish();
}

#[test]
fn a_streamed_answer_may_name_one_too() {
    let dir = Folder::new();
    let mut world = world(&dir, true);
    let mut fields = naming("/files/a%20b.pdf");
    (fields["n"], fields["more"]) = (json!(0), json!(true));
    assert_eq!(ask(&mut world, "GET", &[], fields).text(), "0123456789");
    world.finish();
}
