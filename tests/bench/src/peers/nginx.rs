//! nginx in two roles: a bare reverse proxy before hyper or gunicorn, and, with nchan, a server of streams.
//!
//! The proxy shows what a front costs that does less than ours: no queue, no worker to wait for, no deadline. It must
//! pass everything on: nothing is cached or answered here.
//!
//! Tuning, after the nginx manual: a worker per processor (`worker_processes`), a listening socket per worker
//! (`listen … reuseport`, without which one worker may take nearly all connections), connections to the upstream that
//! are kept (`keepalive`, with `proxy_http_version 1.1` and an empty `Connection`), no limit on requests over one
//! connection (`keepalive_requests`), bodies in memory, and no access log.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use tempest_tests::{Process, free_port};

use super::{
    By, Missing, Place, Publish, Server, Speaks, Streams, find, gunicorn, loopback, own_server, tls, wait_listening,
};

/// Where Debian's nginx has its modules.
const NCHAN: &str = "/usr/lib/nginx/modules/ngx_nchan_module.so";
/// The channel that all streams read.
const CHANNEL: &str = "bench";

/// A reverse proxy before bare hyper on one thread.
pub(crate) fn proxy(place: &Place) -> Result<Server, Missing> {
    let nginx = find::program("nginx", "nginx")?;
    let upstream = loopback(free_port());
    let hyper = place.start("hyper", own_server(&["hyper", &upstream.to_string(), "1"]));
    wait_listening(upstream);
    let address = loopback(free_port());
    let process = start(place, &nginx, "nginx", 2, "", &proxy_to(upstream, address));
    wait_listening(address);
    let tuning = "nginx 2 workers, kept upstream connections, hyper 1 thread".into();
    Ok(Server { processes: vec![process, hyper], address, tuning, streams: None, memory: 0 })
}

/// A reverse proxy before gunicorn, which takes slow clients away from it: gunicorn's documents advise it.
pub(crate) fn before_gunicorn(place: &Place) -> Result<Server, Missing> {
    let nginx = find::program("nginx", "nginx")?;
    let mut server = gunicorn::gthread(place)?;
    let address = loopback(free_port());
    let process = start(place, &nginx, "nginx", 2, "", &proxy_to(server.address, address));
    wait_listening(address);
    server.processes.insert(0, process);
    server.address = address;
    server.tuning = format!("nginx 2 workers before gunicorn {}", server.tuning);
    Ok(server)
}

/// Streams by nchan.
///
/// Messages stay in shared memory until every reader has them; the buffer is longer than any backlog here and a
/// message's time longer than any run's delays, so none is dropped, and a new reader gets new messages only
/// (nchan's manual, `nchan_message_buffer_length`, `nchan_message_timeout`, `nchan_subscriber_first_message`). The
/// shared memory is twice its default: too little would drop messages, and what is not used is not resident.
pub(crate) fn streams(place: &Place) -> Result<Server, Missing> {
    streams_with(place, 2, By::Plain, "")
}

/// The same by TLS, with one worker.
///
/// Sessions are kept as nginx's documents on HTTPS advise (`ssl_session_cache shared`, `ssl_protocols` without the broken
/// ones); buffers for what is written are given back while nothing is (nginx asks OpenSSL for that by itself), so
/// `ssl_buffer_size` is an idle stream's only where `buffer` says so.
pub(crate) fn streams_by_tls(place: &Place, speaks: Speaks, buffer: Option<&str>) -> Result<Server, Missing> {
    let (certificate, key) = tls::certificate(place);
    let buffer = buffer.map(|size| format!("ssl_buffer_size {size};")).unwrap_or_default();
    let settings = format!(
        "ssl_certificate {}; ssl_certificate_key {}; ssl_protocols TLSv1.2 TLSv1.3;
         ssl_session_cache shared:tls:10m; {buffer}",
        certificate.display(),
        key.display(),
    );
    streams_with(place, 1, By::Tls(certificate, speaks), &settings)
}

/// Streams with so many workers; `settings` are those of the server.
fn streams_with(place: &Place, workers: usize, by: By, settings: &str) -> Result<Server, Missing> {
    let nginx = find::program("nginx", "nginx")?;
    if !Path::new(NCHAN).is_file() {
        return Err(Missing("nchan is not installed (the package libnginx-mod-nchan): tests/bench/install".into()));
    }
    let address = loopback(free_port());
    let protocol = match by {
        By::Plain => "",
        By::Tls(_, Speaks::Http1) => "ssl",
        By::Tls(_, Speaks::Http2(_)) => "ssl http2",
    };
    let http = format!(
        "nchan_shared_memory_size 256m;
         server {{
             listen {address} {protocol} reuseport backlog=4096;
             {settings}
             location = /sub/{CHANNEL} {{
                 nchan_subscriber eventsource;
                 nchan_channel_id {CHANNEL};
                 nchan_subscriber_first_message newest;
                 nchan_subscriber_timeout 0;
             }}
             location = /pub/{CHANNEL} {{
                 nchan_publisher http;
                 nchan_channel_id {CHANNEL};
                 nchan_message_buffer_length 1000;
                 nchan_message_timeout 60s;
             }}
         }}"
    );
    let process = start(place, &nginx, "nginx", workers, &format!("load_module {NCHAN};"), &http);
    wait_listening(address);
    let streams = Streams {
        paths: vec![format!("/sub/{CHANNEL}")],
        publish: Publish::Post {
            address,
            path: format!("/pub/{CHANNEL}"),
            headers: vec!["content-type: text/plain".into()],
            before: String::new(),
            after: String::new(),
        },
        by,
    };
    Ok(Server {
        processes: vec![process],
        address,
        tuning: format!("nginx {workers} worker{}, nchan", if workers == 1 { "" } else { "s" }),
        streams: Some(streams),
        memory: 0,
    })
}

/// A small HTTP server whose one answer never changes: `headers` are `name value;` for `add_header`.
pub(super) fn fixed(
    place: &Place,
    address: SocketAddr,
    content_type: &str,
    headers: &[String],
) -> Result<Process, Missing> {
    let nginx = find::program("nginx", "nginx")?;
    let headers: String = headers.iter().map(|header| format!("add_header {header};")).collect();
    let http = format!(
        "server {{
             listen {address} reuseport backlog=4096;
             location / {{ default_type {content_type}; {headers} return 200 ''; }}
         }}"
    );
    let process = start(place, &nginx, "origin", 2, "", &http);
    wait_listening(address);
    Ok(process)
}

fn proxy_to(upstream: SocketAddr, address: SocketAddr) -> String {
    format!(
        "upstream worker {{ server {upstream}; keepalive 1024; keepalive_requests 1000000000; }}
         server {{
             listen {address} reuseport backlog=4096;
             client_body_buffer_size 128k;
             proxy_buffers 16 8k;
             location / {{
                 proxy_pass http://worker;
                 proxy_http_version 1.1;
                 proxy_set_header Connection '';
             }}
         }}"
    )
}

/// Starts an nginx in the foreground with a configuration and folders of its own. Connections per worker leave room
/// for one to the upstream for each of a client, and for the sixteenth that nginx keeps free: beyond it, it closes those whose
/// greeting of TLS is under way (`ngx_drain_connections`), which 19,000 streams of one worker would meet.
fn start(place: &Place, nginx: &Path, role: &str, workers: usize, main: &str, http: &str) -> Process {
    let folder = place.dir.join(role);
    fs::create_dir_all(&folder).expect("the folder of a place is writable");
    // Workers would run as nobody, who cannot reach the folder, where root starts it. Others get a warning for it.
    let user = if rustix::process::geteuid().is_root() { "user root;" } else { "" };
    let config = format!(
        "{main} {user}
         worker_processes {workers};
         daemon off;
         error_log stderr error;
         pid nginx.pid;
         events {{ worker_connections 21000; }}
         http {{
             access_log off;
             keepalive_requests 1000000000;
             client_body_temp_path client; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
             uwsgi_temp_path uwsgi; scgi_temp_path scgi;
             {http}
         }}\n"
    );
    let file = folder.join("nginx.conf");
    fs::write(&file, config).expect("the folder of a place is writable");
    let mut command = Command::new(nginx);
    command.arg("-p").arg(&folder).arg("-c").arg(&file).args(["-e", "stderr"]);
    place.start(role, command)
}
