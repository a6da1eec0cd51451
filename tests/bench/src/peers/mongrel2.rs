//! mongrel2: the server whose idea ours is nearest to. It holds the connections and passes requests to handlers in any
//! language, over ZeroMQ where ours has Redis, and without queues that outlive a process, deadlines or retries.
//!
//! Its handler is a process of ours in Rust, as the worker it is compared with is. It must do no more than that.
//!
//! Tuning, after its manual ("Tweakable Expert Settings"): no access log, room for all connections
//! (`superpoll.max_fd`), half of them taken for active (`superpoll.hot_dividend`, which is to be lowered where few are
//! idle), and the limits that would close connections for being slow or idle switched off, as nothing here is to be
//! punished. The handler is reached over unix sockets and asked in tnetstrings, which its manual has as the quicker
//! way.

use std::fs;
use std::process::Command;

use tempest_tests::free_port;

use super::{Missing, Place, Server, find, loopback, own_server, ready};

/// One mongrel2, one handler.
pub(crate) fn one_handler(place: &Place) -> Result<Server, Missing> {
    if !cfg!(feature = "mongrel2") {
        return Err(Missing("built without its handler, which needs libzmq: tests/bench/install".into()));
    }
    let mongrel2 = find::program("mongrel2", "mongrel2-core")?;
    let m2sh = find::program("m2sh", "mongrel2-core")?;
    let address = loopback(free_port());
    for folder in ["run", "logs", "tmp"] {
        fs::create_dir_all(place.dir.join(folder)).expect("the folder of a place is writable");
    }
    fs::write(place.dir.join("mongrel2.conf"), config(address.port())).expect("the folder of a place is writable");
    let mut load = Command::new(m2sh);
    load.args(["load", "-config", "mongrel2.conf", "-db", "config.sqlite"]).current_dir(&place.dir);
    let loaded = load.output().expect("a program that is there can be started");
    assert!(loaded.status.success(), "m2sh load: {}", String::from_utf8_lossy(&loaded.stderr));
    let mut command = Command::new(mongrel2);
    command.args(["config.sqlite", "bench"]);
    let server = place.start("mongrel2", command);
    let handler = place.start("handler", own_server(&["mongrel2", "ipc://run/requests", "ipc://run/answers"]));
    ready::answers(address, "/hello?n=00000000");
    let tuning = "1 mongrel2 (1 thread), 1 handler in Rust, unix sockets".into();
    Ok(Server { processes: vec![server, handler], address, tuning, streams: None, memory: 0 })
}

fn config(port: u16) -> String {
    format!(
        r#"handler = Handler(
    send_spec='ipc://run/requests', send_ident='bench',
    recv_spec='ipc://run/answers', recv_ident='', protocol='tnetstring')
main = Server(
    uuid='bench', name='bench', chroot='./', default_host='localhost', bind_addr='127.0.0.1', port={port},
    access_log='/logs/access.log', error_log='/logs/error.log', pid_file='/run/mongrel2.pid',
    hosts=[Host(name='localhost', routes={{'/': handler}})])
servers = [main]
settings = {{
    'control_port': 'ipc://run/control', 'server.daemonize': 0, 'disable.access_logging': 1, 'zeromq.threads': 1,
    'superpoll.max_fd': 19500, 'superpoll.hot_dividend': 2, 'limits.content_length': 1048576,
    'limits.min_ping': 0, 'limits.min_write_rate': 0, 'limits.min_read_rate': 0 }}
"#
    )
}
