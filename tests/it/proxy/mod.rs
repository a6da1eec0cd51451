//! Routes to another HTTP server: what is passed on, what is not, and what a client gets when the server fails.

mod failures;
mod upstream;

use std::fs;
use std::io::Read;
use std::net::TcpStream;
use std::process::Command;
use std::sync::Mutex;
use std::sync::mpsc;

use tempest_tests::{Chunk, Folder, Process, World, free_port, wait_until};
use upstream::Upstream;

/// A front whose paths below `/old` go to a server.
fn front(server: &str, settings: &str) -> World {
    let table = format!("[[route]]\npath = \"/old/{{rest...}}\"\nproxy = \"{server}\"\n{settings}");
    World::builder().table(&table).start()
}

fn to(upstream: &Upstream, settings: &str) -> World {
    front(&format!("http://{}", upstream.address), settings)
}

#[test]
fn a_request_and_its_answer_are_passed_on() {
    let upstream = Upstream::start(|_, out| {
        let head = "HTTP/1.1 418 Teapot\r\nx-own: 1\r\nset-cookie: a=1\r\nset-cookie: b=2\r\nconnection: x-hop\r\nx-hop: 1\r\nkeep-alive: timeout=5\r\ncontent-length: 3\r\n\r\ntea";
        out.write_all(head.as_bytes()).is_ok()
    });
    let world = to(&upstream, "");
    let mut http = world.http();
    let headers = [
        "X-Mine: 1",
        "Connection: X-Hop",
        "X-Hop: 1",
        "TE: trailers",
        "X-Forwarded-For: 6.6.6.6",
        "X-Forwarded-Host: evil",
        "Forwarded: for=6.6.6.6",
        "Cookie: a=1",
        "Cookie: b=2",
    ];
    http.request("PUT", "/old/a%2Fb/?q=%20", &headers, b"body");
    let response = http.response();
    assert_eq!((response.status, response.text().as_str()), (418, "tea"));
    assert_eq!((response.header("x-own"), response.all("set-cookie")), (Some("1"), vec!["a=1", "b=2"]));
    assert_eq!((response.header("x-hop"), response.header("keep-alive")), (None, None));
    let [asked] = &upstream.asked()[..] else { panic!("one request") };
    assert_eq!((asked.line.as_str(), asked.body.as_slice()), ("PUT /old/a%2Fb/?q=%20 HTTP/1.1", &b"body"[..]));
    for (name, value) in [
        ("x-mine", Some("1")),
        ("x-hop", None),
        ("te", None),
        ("host", Some("test")),
        ("x-forwarded-for", Some("127.0.0.1")),
        ("x-forwarded-proto", Some("http")),
        ("x-forwarded-host", Some("test")),
        ("forwarded", Some("for=127.0.0.1;proto=http;host=\"test\"")),
        ("cookie", Some("a=1; b=2")),
        ("x-request-id", response.header("x-request-id")),
        ("content-length", Some("4")),
    ] {
        assert_eq!(asked.header(name), value, "{name}");
    }
    assert_eq!(world.metrics().sum("tempest_proxy_requests_total", &["answered"]), 1.0);
    world.finish();
}

#[test]
fn the_server_may_have_its_own_host_and_shorter_paths() {
    let upstream = Upstream::saying("ok");
    let world = to(&upstream, "strip_prefix = \"/old\"\nupstream_host = \"upstream\"");
    assert_eq!(world.http().get("/old/x?y").text(), "ok");
    let asked = upstream.asked();
    assert_eq!(asked[0].line, "GET /x?y HTTP/1.1");
    assert_eq!(asked[0].header("host"), Some(upstream.address.to_string().as_str()));
    assert_eq!(asked[0].header("x-forwarded-host"), Some("test"));
    world.finish();
}

#[test]
fn a_server_on_a_unix_socket_answers() {
    let dir = Folder::new();
    Upstream::once_at(&dir.join("s"), "from a socket");
    let world = front(&format!("http://unix:{}", dir.join("s").display()), "");
    assert_eq!(world.http().get("/old/").text(), "from a socket");
    world.finish();
}

#[test]
fn a_server_in_python_is_passed_on_to() {
    let dir = Folder::new();
    fs::create_dir_all(dir.join("old")).expect("a folder");
    fs::write(dir.join("old/file.txt"), "by python").expect("a file");
    let port = free_port();
    let mut command = Command::new("python3");
    command.args(["-m", "http.server", "--bind", "127.0.0.1", &port.to_string()]).current_dir(&*dir);
    let mut world = front(&format!("http://127.0.0.1:{port}"), "");
    let server = Process::start("python", world.mark(), command);
    world.adopt(server);
    wait_until("the server", || TcpStream::connect(("127.0.0.1", port)).is_ok());
    let mut http = world.http();
    let response = http.get("/old/file.txt");
    assert_eq!((response.status, response.text().as_str()), (200, "by python"));
    http.request("HEAD", "/old/file.txt", &[], b"");
    let head = http.head_response();
    assert_eq!((head.status, head.header("content-length")), (200, Some("9")));
    assert_eq!(http.get("/old/missing").status, 404);
    world.finish();
}

#[test]
fn bodies_are_streamed_whole_both_ways() {
    let upstream = Upstream::start(|asked, out| {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", asked.body.len());
        out.write_all(head.as_bytes()).and_then(|()| out.write_all(&asked.body)).is_ok()
    });
    let world = to(&upstream, "");
    let body: Vec<u8> = (0..=250).cycle().take(3_000_000).collect();
    let mut http = world.http();
    http.request("POST", "/old/", &[], &body);
    assert!(http.response().body == body, "by length");
    let mut chunked = b"POST /old/ HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for piece in body.chunks(100_000) {
        chunked.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
        chunked.extend_from_slice(piece);
        chunked.extend_from_slice(b"\r\n");
    }
    chunked.extend_from_slice(b"0\r\n\r\n");
    http.send(chunked);
    assert!(http.response().body == body, "in chunks");
    world.finish();
}

#[test]
fn an_answer_that_nobody_reads_takes_no_memory() {
    const LENGTH: usize = 64 << 20;
    let upstream = Upstream::start(|_, out| {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {LENGTH}\r\n\r\n");
        out.write_all(head.as_bytes()).and_then(|()| out.write_all(&vec![b'x'; LENGTH])).is_ok()
    });
    let world = to(&upstream, "");
    let before = world.front.process.rss_bytes();
    let mut http = world.http();
    http.request("GET", "/old/", &[], b"");
    assert_eq!(http.read_head().expect("a head").status, 200);
    http.read_exact(&mut vec![0; 1 << 20]).expect("a part of it");
    let grown = world.front.process.rss_bytes().saturating_sub(before);
    assert!(grown < 16 << 20, "{grown} bytes");
    drop(http);
    world.finish();
}

#[test]
fn events_of_the_server_arrive_one_by_one() {
    let (tell, told) = mpsc::channel::<()>();
    let told = Mutex::new(told);
    let upstream = Upstream::start(move |_, out| {
        let head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
        let mut sent = out.write_all(head);
        for _ in 0..3 {
            sent = sent.and_then(|()| out.write_all(b"9\r\ndata: x\n\n\r\n"));
            told.lock().expect("no holder panics").recv().expect("the test reads on");
        }
        sent.and_then(|()| out.write_all(b"0\r\n\r\n")).is_ok()
    });
    let world = to(&upstream, "compress = true");
    let mut http = world.http();
    http.request("GET", "/old/events", &["Accept-Encoding: gzip"], b"");
    let head = http.read_head().expect("a head");
    assert_eq!((head.header("content-type"), head.header("content-encoding")), (Some("text/event-stream"), None));
    for _ in 0..3 {
        assert_eq!(http.chunk(), Chunk::Data(b"data: x\n\n".to_vec()), "before the next is there");
        tell.send(()).expect("the server waits");
    }
    assert_eq!(http.chunk(), Chunk::End);
    world.finish();
}

#[test]
fn connections_are_used_again_and_no_more_than_so_many_are_open() {
    let upstream = Upstream::saying("ok");
    let world = to(&upstream, "connections = 2");
    let mut http = world.http();
    for _ in 0..5 {
        assert_eq!(http.get("/old/").text(), "ok");
    }
    assert!(upstream.asked().iter().all(|asked| asked.connection == 0), "one after the other");
    let mut clients: Vec<_> = (0..20).map(|_| world.http()).collect();
    for client in &mut clients {
        client.request("GET", "/old/", &[], b"");
    }
    for client in &mut clients {
        assert_eq!(client.response().text(), "ok", "it waits for its turn");
    }
    assert!(upstream.asked().iter().all(|asked| asked.connection < 2));
    world.finish();
}

#[test]
fn a_length_beside_chunks_never_reaches_the_server() {
    let upstream = Upstream::saying("ok");
    let world = to(&upstream, "");
    let mut http = world.http();
    http.send(
        "POST /old/ HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n\
         13\r\nGET /x HTTP/1.1\r\n\r\n\r\n0\r\n\r\n",
    );
    assert_eq!(http.response().text(), "ok");
    assert_eq!(upstream.asked().len(), 1, "what is in the chunk is no request");
    for asked in upstream.asked() {
        assert_eq!(asked.header("content-length"), None);
        assert_eq!((asked.line.as_str(), asked.body.len()), ("POST /old/ HTTP/1.1", 0x13));
    }
    drop(http);
    world.finish();
}
