//! Static files from a folder on the disk, asked for as a client would.

use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::find::PIECE;
use super::*;

/// A folder of its own, gone at the end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let outside = std::env::temp_dir().join(format!("tempest-files-{}-{number}", std::process::id()));
        let folder = Self(outside);
        std::fs::create_dir_all(folder.public().join("docs/empty")).expect("folders");
        for (name, text) in [
            ("secret.txt", "secret"),
            ("public/index.html", "<p>home"),
            ("public/a b.txt", "space"),
            ("public/.hidden", "hidden"),
            ("public/docs/index.html", "<p>docs"),
            ("public/docs/app.js", "1"),
            ("public/data.json", "{}"),
        ] {
            std::fs::write(folder.0.join(name), text).expect("a file");
        }
        folder
    }

    fn public(&self) -> PathBuf {
        self.0.join("public")
    }

    async fn get(&self, rest: &str) -> Result<Response<FileBody>, Failure> {
        self.ask(Method::GET, rest, &[]).await
    }

    async fn ask(&self, method: Method, rest: &str, headers: &[(&str, &str)]) -> Result<Response<FileBody>, Failure> {
        self.ask_of(&FilesRoute::new(self.public()), method, rest, headers).await
    }

    async fn ask_of(
        &self,
        route: &FilesRoute,
        method: Method,
        rest: &str,
        headers: &[(&str, &str)],
    ) -> Result<Response<FileBody>, Failure> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let name: http::HeaderName = name.parse().expect("a name");
            map.append(name, HeaderValue::from_str(value).expect("a value"));
        }
        serve(route, rest, Asked { method: &method, headers: &map, query: Some("q=1") }).await
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

async fn text(response: Response<FileBody>) -> String {
    let bytes = response.into_body().collect().await.expect("a whole body").to_bytes();
    String::from_utf8(bytes.to_vec()).expect("text")
}

#[tokio::test]
async fn files_come_with_type_length_and_tag() {
    let folder = Folder::new();
    for (rest, kind, content) in [
        ("", "text/html; charset=utf-8", "<p>home"),
        ("index.html", "text/html; charset=utf-8", "<p>home"),
        ("a%20b.txt", "text/plain; charset=utf-8", "space"),
        ("docs/", "text/html; charset=utf-8", "<p>docs"),
        ("docs/app.js", "text/javascript; charset=utf-8", "1"),
        ("data.json", "application/json", "{}"),
    ] {
        let response = folder.get(rest).await.unwrap_or_else(|failure| panic!("{rest}: {failure:?}"));
        assert_eq!(response.status(), StatusCode::OK, "{rest}");
        assert_eq!(response.headers()[header::CONTENT_TYPE], kind, "{rest}");
        assert_eq!(response.headers()[header::CONTENT_LENGTH], content.len().to_string(), "{rest}");
        assert_eq!(response.headers()[header::CACHE_CONTROL], "no-cache");
        assert!(response.headers().contains_key(header::ETAG));
        assert_eq!(text(response).await, content, "{rest}");
    }
}

#[tokio::test]
async fn nothing_else_is_served() {
    let folder = Folder::new();
    symlink(folder.0.join("secret.txt"), folder.public().join("out.txt")).expect("a link");
    symlink("/", folder.public().join("root")).expect("a link");
    symlink(".hidden", folder.public().join("in.txt")).expect("a link");
    symlink(folder.0.join("public-2"), folder.public().join("sibling")).expect("a link");
    std::fs::create_dir(folder.0.join("public-2")).expect("a folder whose name begins with the other's");
    std::fs::write(folder.0.join("public-2/x"), "x").expect("a file");
    symlink("loop", folder.public().join("loop")).expect("a link");
    std::os::unix::net::UnixListener::bind(folder.public().join("socket")).expect("a socket");
    for rest in [
        "nothing",
        "../secret.txt",
        "..",
        ".",
        "./",
        "..%2fsecret.txt",
        "%2e%2e/secret.txt",
        "%2e%2e%2fsecret.txt",
        "docs/../../secret.txt",
        "docs/..",
        "..\\secret.txt",
        "%5c..%5c",
        ".hidden",
        "%2ehidden",
        "docs/.hidden",
        "/index.html",
        "//",
        "docs//app.js",
        "%2f",
        "%2findex.html",
        "index.html/",
        "index.html/x",
        "index.html%00",
        "%00",
        "%ff",
        "%0a",
        "out.txt",
        "root/etc/passwd",
        "root/",
        "in.txt",
        "sibling/x",
        "loop",
        "socket",
        "docs/empty",
        "docs/empty/",
        "/etc/passwd",
        "%252e%252e/secret.txt",
        "a+b.txt",
    ] {
        let failure = folder.get(rest).await.map(|response| response.status());
        assert_eq!(failure.expect_err(rest), Failure::NoRoute, "{rest}");
    }
    let long = "x".repeat(5000);
    assert_eq!(folder.get(&long).await.map(|_| ()).expect_err("too long a name"), Failure::NoRoute);
}

#[tokio::test]
async fn links_within_the_folder_are_followed() {
    let folder = Folder::new();
    symlink("docs/app.js", folder.public().join("app.js")).expect("a link");
    assert_eq!(text(folder.get("app.js").await.expect("a file")).await, "1");
}

#[tokio::test]
async fn a_pipe_is_not_waited_for() {
    let folder = Folder::new();
    let made = std::process::Command::new("mkfifo").arg(folder.public().join("pipe")).status().expect("mkfifo runs");
    assert!(made.success());
    assert_eq!(folder.get("pipe").await.map(|_| ()).expect_err("a pipe"), Failure::NoRoute);
}

#[tokio::test]
async fn a_folder_is_asked_for_with_its_slash() {
    let folder = Folder::new();
    let response = folder.get("docs").await.expect("a redirect");
    assert_eq!(response.status(), StatusCode::PERMANENT_REDIRECT);
    assert_eq!(response.headers()[header::LOCATION], "./docs/?q=1");
    std::fs::create_dir_all(folder.public().join("a/b:c")).expect("a folder");
    std::fs::write(folder.public().join("a/b:c/index.html"), "x").expect("a file");
    let response = folder.get("a/b%3ac").await.expect("a redirect");
    assert_eq!(response.headers()[header::LOCATION], "./b%3ac/?q=1");
}

#[tokio::test]
async fn head_has_the_headers_and_no_body() {
    let folder = Folder::new();
    let response = folder.ask(Method::HEAD, "a%20b.txt", &[]).await.expect("a file");
    assert_eq!(response.headers()[header::CONTENT_LENGTH], "5");
    assert_eq!(text(response).await, "");
}

#[tokio::test]
async fn other_methods_are_told_which_ones_work() {
    let folder = Folder::new();
    for method in [Method::POST, Method::OPTIONS, Method::DELETE] {
        let failure = folder.ask(method, "a%20b.txt", &[]).await.map(|_| ()).expect_err("no such method");
        assert_eq!(failure, Failure::Method(vec![Method::GET, Method::HEAD]));
    }
}

#[tokio::test]
async fn what_the_client_has_is_not_sent_again() {
    let folder = Folder::new();
    let first = folder.get("a%20b.txt").await.expect("a file");
    let tag = first.headers()[header::ETAG].to_str().expect("text").to_owned();
    let date = first.headers()[header::LAST_MODIFIED].to_str().expect("text").to_owned();
    let old = "Sun, 06 Nov 1994 08:49:37 GMT";
    for (headers, status) in [
        (vec![("if-none-match", tag.as_str())], 304),
        (vec![("if-none-match", &*format!("\"x\", W/{tag}"))], 304),
        (vec![("if-none-match", "*")], 304),
        (vec![("if-none-match", "\"x\"")], 200),
        (vec![("if-none-match", "\"x\""), ("if-modified-since", &date)], 200),
        (vec![("if-modified-since", &date)], 304),
        (vec![("if-modified-since", old)], 200),
        (vec![("if-modified-since", "yesterday")], 200),
    ] {
        let response = folder.ask(Method::GET, "a%20b.txt", &headers).await.expect("a file");
        assert_eq!(response.status().as_u16(), status, "{headers:?}");
        if status == 304 {
            assert_eq!(response.headers()[header::ETAG], tag);
            assert!(!response.headers().contains_key(header::CONTENT_LENGTH));
            assert_eq!(text(response).await, "");
        }
    }
    std::fs::write(folder.public().join("a b.txt"), "other").expect("a file of the same length");
    let response = folder.ask(Method::GET, "a%20b.txt", &[("if-none-match", &tag)]).await.expect("a file");
    assert_eq!((response.status(), text(response).await), (StatusCode::OK, "other".into()));
}

#[tokio::test]
async fn large_files_come_in_pieces() {
    let folder = Folder::new();
    for length in [0, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE] {
        let content: Vec<u8> = (0..length).map(|n| n as u8).collect();
        std::fs::write(folder.public().join("large.bin"), &content).expect("a file");
        let mut response = folder.get("large.bin").await.expect("a file");
        assert_eq!(response.headers()[header::CONTENT_LENGTH], length.to_string());
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/octet-stream");
        let mut read = Vec::new();
        while let Some(frame) = response.body_mut().frame().await {
            let piece = frame.expect("a piece").into_data().expect("data");
            assert!(piece.len() <= PIECE);
            read.extend_from_slice(&piece);
        }
        assert!(read == content, "{length} bytes");
    }
}

#[tokio::test]
async fn a_file_that_shrinks_breaks_off_and_one_that_grows_keeps_its_length() {
    let folder = Folder::new();
    let path = folder.public().join("log");
    for (then, expected) in [(PIECE, None), (5 * PIECE, Some(3 * PIECE))] {
        std::fs::write(&path, vec![b'x'; 3 * PIECE]).expect("a file");
        let response = folder.get("log").await.expect("a file");
        File::options().write(true).open(&path).and_then(|f| f.set_len(then as u64)).expect("another length");
        let body = response.into_body().collect().await;
        assert_eq!(body.ok().map(|body| body.to_bytes().len()), expected);
    }
}

#[tokio::test]
async fn a_folder_that_is_not_there_is_not_the_clients_fault() {
    let asked = Asked { method: &Method::GET, headers: &HeaderMap::new(), query: None };
    let failure = serve(&FilesRoute::new("/no/such/folder"), "", asked).await.map(|_| ()).expect_err("no folder");
    assert!(matches!(failure, Failure::Overload(_)), "{failure:?}");
}

#[tokio::test]
async fn a_part_of_a_file_is_sent_alone() {
    let folder = Folder::new();
    let content: Vec<u8> = (0..3 * PIECE).map(|n| (n / 7) as u8).collect();
    std::fs::write(folder.public().join("large.bin"), &content).expect("a file");
    std::fs::write(folder.public().join("small.bin"), &content[..100]).expect("a file");
    for (name, length) in [("large.bin", 3 * PIECE), ("small.bin", 100)] {
        for (range, first, last) in [
            ("bytes=0-0", 0, 0),
            ("bytes=10-", 10, length - 1),
            ("bytes=-5", length - 5, length - 1),
            ("bytes=50-9999999", 50, length - 1),
        ] {
            let response = folder.ask(Method::GET, name, &[("range", range)]).await.expect("a file");
            assert_eq!(response.status(), StatusCode::PARTIAL_CONTENT, "{range}");
            assert_eq!(response.headers()[header::CONTENT_RANGE], format!("bytes {first}-{last}/{length}"));
            assert_eq!(response.headers()[header::CONTENT_LENGTH], (last - first + 1).to_string());
            let body = response.into_body().collect().await.expect("a whole body").to_bytes();
            assert!(body == content[first..=last], "{range} of {name}");
        }
        let response = folder.ask(Method::GET, name, &[("range", "bytes=99999999-")]).await.expect("an answer");
        assert_eq!(response.status(), StatusCode::RANGE_NOT_SATISFIABLE);
        assert_eq!(response.headers()[header::CONTENT_RANGE], format!("bytes */{length}"));
        assert_eq!(text(response).await, "");
        let response = folder.ask(Method::HEAD, name, &[("range", "bytes=0-0")]).await.expect("an answer");
        assert_eq!(response.status(), StatusCode::OK, "a range is of a body");
        assert_eq!(response.headers()[header::CONTENT_LENGTH], length.to_string());
    }
}

#[tokio::test]
async fn a_coding_beside_the_file_goes_to_those_who_take_it() {
    let folder = Folder::new();
    for ending in ["br", "zst", "gz"] {
        std::fs::write(folder.public().join(format!("docs/app.js.{ending}")), ending).expect("a file");
    }
    symlink(folder.0.join("secret.txt"), folder.public().join("data.json.br")).expect("a link");
    let mut route = FilesRoute::new(folder.public());
    let asked = |accept: &'static str| [("accept-encoding", accept)];
    let plain = folder.ask_of(&route, Method::GET, "docs/app.js", &asked("br")).await.expect("a file");
    assert!(!plain.headers().contains_key(header::VARY), "only where the route says so");
    assert_eq!(text(plain).await, "1");
    route.precompressed = true;
    let mut tags = std::collections::HashSet::new();
    for (accept, coding, content) in [
        ("gzip, deflate, br, zstd", Some("br"), "br"),
        ("gzip, zstd", Some("zstd"), "zst"),
        ("gzip, br;q=0", Some("gzip"), "gz"),
        ("identity", None, "1"),
    ] {
        let response = folder.ask_of(&route, Method::GET, "docs/app.js", &asked(accept)).await.expect("a file");
        let header = |name| response.headers().get(name).map(|value| value.to_str().expect("text").to_owned());
        assert_eq!(header(header::CONTENT_ENCODING).as_deref(), coding, "{accept}");
        assert_eq!(header(header::CONTENT_TYPE).as_deref(), Some("text/javascript; charset=utf-8"));
        assert_eq!(header(header::VARY).as_deref(), Some("Accept-Encoding"), "{accept}");
        assert!(tags.insert(header(header::ETAG)), "each has a tag of its own");
        assert_eq!(text(response).await, content, "{accept}");
    }
    let outside = folder.ask_of(&route, Method::GET, "data.json", &asked("br")).await.expect("a file");
    assert_eq!(text(outside).await, "{}", "a link out of the folder is not followed");
}

#[tokio::test]
async fn a_page_stands_in_for_paths_that_are_no_files() {
    let folder = Folder::new();
    let route = FilesRoute {
        fallback: Some("index.html".into()),
        cache: HeaderValue::from_static("max-age=60"),
        ..FilesRoute::new(folder.public())
    };
    let page = [("accept", "text/html,*/*;q=0.8")];
    let none: [(&str, &str); 0] = [];
    for (rest, headers, found) in [
        ("users/7", &none[..], true),
        ("users/", &none[..], true),
        ("docs/empty", &none[..], true),
        ("users/jo.doe", &page[..], true),
        ("missing.js", &none[..], false),
        ("../secret", &page[..], false),
        (".hidden", &page[..], false),
    ] {
        let response = folder.ask_of(&route, Method::GET, rest, headers).await;
        assert_eq!(response.is_ok(), found, "{rest}");
        if let Ok(response) = response {
            assert_eq!(response.headers()[header::CACHE_CONTROL], "no-cache", "it may become a file");
            assert_eq!(text(response).await, "<p>home", "{rest}");
        }
    }
    let file = folder.ask_of(&route, Method::GET, "docs/app.js", &none).await.expect("a file");
    assert_eq!(file.headers()[header::CACHE_CONTROL], "max-age=60");
}

#[tokio::test]
async fn a_folder_is_shown_by_the_first_index_that_is_there() {
    let folder = Folder::new();
    let route = |index: &[&str]| FilesRoute {
        index: index.iter().map(|name| (*name).to_owned()).collect(),
        ..FilesRoute::new(folder.public())
    };
    let index = route(&["none.html", "app.js", "index.html"]);
    assert_eq!(text(folder.ask_of(&index, Method::GET, "docs/", &[]).await.expect("an index")).await, "1");
    let nothing = folder.ask_of(&route(&[]), Method::GET, "docs/", &[]).await.map(|_| ());
    assert_eq!(nothing.expect_err("no index"), Failure::NoRoute);
}

#[tokio::test]
async fn of_hidden_names_only_well_known_is_served() {
    let folder = Folder::new();
    for dir in [".well-known", "docs/.well-known"] {
        std::fs::create_dir(folder.public().join(dir)).expect("a folder");
        std::fs::write(folder.public().join(dir).join("x"), "x").expect("a file");
    }
    assert_eq!(text(folder.get(".well-known/x").await.expect("a file")).await, "x");
    assert!(folder.get("docs/.well-known/x").await.is_err(), "at the top only");
    symlink("docs/.well-known", folder.public().join("link")).expect("a link");
    assert!(folder.get("link/x").await.is_err());
}
