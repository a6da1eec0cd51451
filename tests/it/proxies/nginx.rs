//! A real nginx in front, with what README.md says.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use tempest_tests::{Http, Process, Sse, World, free_port, repository, wait_until};

use super::{facts, job_of};

/// Where Debian puts the module that passes bytes on.
const STREAM: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

/// The first block of README.md in this language that has `text`.
fn of_readme(language: &str, text: &str) -> String {
    let readme = fs::read_to_string(repository().join("README.md")).expect("it is there");
    let begin = format!("```{language}\n");
    let mut blocks = readme.split(&begin).skip(1).filter_map(|block| block.split("```").next());
    blocks.find(|block| block.contains(text)).expect("such a block").to_owned()
}

/// Starts nginx with these blocks; its processes end with the world.
fn start(world: &mut World, port: u16, main: &str, blocks: &str) -> SocketAddr {
    let folder = world.dir().join("nginx");
    fs::create_dir_all(&folder).expect("the world's folder is writable");
    // Started by root its workers would be somebody else, who cannot reach the folder.
    let user = if rustix::process::geteuid().is_root() { "user root;" } else { "" };
    let config = format!(
        "{main}\n{user}\ndaemon off; worker_processes 1; pid nginx.pid; error_log stderr;\n\
         events {{ worker_connections 100; }}\n{blocks}\n"
    );
    let file = folder.join("nginx.conf");
    fs::write(&file, config).expect("the folder is writable");
    let mut command = Command::new("nginx");
    command.arg("-p").arg(&folder).arg("-c").arg(&file).args(["-e", "stderr"]);
    let process = Process::start("nginx", world.mark(), command);
    world.adopt(process);
    let address = ([127, 0, 0, 1], port).into();
    wait_until("nginx to listen", || Http::try_connect(address).is_ok());
    address
}

fn http_block(port: u16, location: &str) -> String {
    format!(
        "http {{ access_log off; client_body_temp_path c; proxy_temp_path p; fastcgi_temp_path f; uwsgi_temp_path u; \
         scgi_temp_path s;\nserver {{ listen 127.0.0.1:{port};\n{location}\n}} }}"
    )
}

/// A front on a port that is known beforehand, with `[front]` as in README.md.
fn world(listen: u16) -> World {
    let settings = of_readme("toml", "trusted_proxies").replace("[front]\n", "");
    let lines = settings.lines().map(|line| format!("front.{line}"));
    let builder = World::builder().set(&format!("front.listen = [\"127.0.0.1:{listen}\"]"));
    lines.fold(builder, |builder, line| builder.set(&line)).start()
}

#[test]
fn what_the_readme_says_makes_the_client_known_and_lets_streams_through() {
    let (front, nginx) = (free_port(), free_port());
    let mut world = world(front);
    let location = of_readme("nginx", "proxy_pass").replace("127.0.0.1:1337", &format!("127.0.0.1:{front}"));
    let address = start(&mut world, nginx, "", &http_block(nginx, &location));

    let mut http = Http::connect(address);
    let local = http.local_address().ip();
    let job = job_of(&mut world, &mut http, &["X-Forwarded-For: 198.51.100.9", "X-Forwarded-Proto: https"]);
    // Both ends of this proxy are on one machine, which is trusted: the walk goes on to what the client itself has said.
    assert_eq!(facts(&job), ["198.51.100.9:0", "http", "test"], "what the client says of the scheme is overwritten");
    let job = job_of(&mut world, &mut http, &[]);
    assert_eq!(facts(&job), [format!("{local}:0").as_str(), "http", "test"]);

    let mut stream = Sse::open(address, "/sub/news");
    assert_eq!(stream.comment(), "tempest");
    for n in 0..3 {
        world.redis.publish("news", n.to_string());
        assert_eq!(stream.data(), n.to_string(), "at once, not when a buffer is full");
    }
    drop((stream, http));
    world.finish();
}

#[test]
fn nginx_passes_bytes_on_with_the_proxy_protocol() {
    assert!(Path::new(STREAM).exists(), "the package libnginx-mod-stream is missing: ./dev test installs it");
    let nginx = free_port();
    let mut world = World::builder()
        .set("front.trusted_proxies = [\"127.0.0.1\"]")
        .set("front.proxy_protocol = \"required\"")
        .start();
    let front = world.front.address();
    let stream = format!("stream {{ server {{ listen 127.0.0.1:{nginx}; proxy_pass {front}; proxy_protocol on; }} }}");
    let address = start(&mut world, nginx, &format!("load_module {STREAM};"), &stream);
    let mut http = Http::connect(address);
    for _ in 0..2 {
        let job = job_of(&mut world, &mut http, &[]);
        assert_eq!(job["peer"], http.local_address().to_string(), "with its port");
        assert_eq!(job["server"], address.to_string());
    }
    let mut events = Sse::open(address, "/sub/news");
    events.comment();
    world.redis.publish("news", "hello");
    assert_eq!(events.data(), "hello");
    drop((events, http));
    world.finish();
}
