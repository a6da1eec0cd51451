//! Static files from a folder on the disk, asked for as a client would.

use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicUsize, Ordering};

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
        let mut request = Request::builder().method(method).uri("/x?q=1");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        serve(&self.public(), rest, &request.body(()).expect("a request")).await
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
    let request = Request::get("/").body(()).expect("a request");
    let failure = serve(Path::new("/no/such/folder"), "", &request).await.map(|_| ()).expect_err("no folder");
    assert!(matches!(failure, Failure::Overload(_)), "{failure:?}");
}
