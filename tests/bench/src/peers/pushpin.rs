//! pushpin: a proxy that holds streams open on behalf of an application, as ours does on behalf of Redis.
//!
//! Its parts run side by side as its runner would start them, with the same arguments, so that the report can tell
//! what each costs: condure (connections), pushpin-proxy, pushpin-handler (streams), zurl (requests to the
//! application). The application is a small server whose one answer says that a stream of the channel is to be held;
//! it must not be asked for anything else.
//!
//! Tuning: `message_rate` and `message_hwm`, which would drop or delay what goes beyond 2,500 deliveries a second, out
//! of the way; `client_buffer_size` and `stats_connection_ttl` as in its makers' own run with a million connections
//! (pushpin-c1m); a thread of condure per processor, which is its default. Unix sockets between the parts are its
//! default, too.

use std::fs;
use std::process::Command;

use tempest_tests::free_port;

use super::{By, Missing, Place, Publish, Server, Streams, find, loopback, nginx, ready, wait_listening};

/// Streams of one channel.
pub(crate) fn streams(place: &Place) -> Result<Server, Missing> {
    let programs =
        [("condure", "condure"), ("zurl", "zurl"), ("pushpin-proxy", "pushpin"), ("pushpin-handler", "pushpin")];
    for (name, package) in programs {
        find::program(name, package)?;
    }
    let (application, address, control) = (loopback(free_port()), loopback(free_port()), loopback(free_port()));
    let hold = ["Grip-Hold stream".to_owned(), "Grip-Channel bench".to_owned()];
    let origin = nginx::fixed(place, application, "text/event-stream", &hold)?;
    // Relative paths: those of unix sockets must be short.
    fs::create_dir_all(place.dir.join("run")).expect("the folder of a place is writable");
    fs::write(place.dir.join("zurl.conf"), ZURL).expect("the folder of a place is writable");
    fs::write(place.dir.join("pushpin.conf"), pushpin(control.port())).expect("the folder of a place is writable");
    let start = |name: &str, arguments: &[&str]| {
        let mut command = Command::new(name);
        command.args(arguments);
        place.start(name, command)
    };
    let zurl = start("zurl", &["--config=zurl.conf", "--loglevel=1"]);
    let route = format!("--route=* {application}");
    let proxy = start("pushpin-proxy", &["--config=pushpin.conf", "--loglevel=1", "--quiet-check", &route]);
    let handler = start("pushpin-handler", &["--config=pushpin.conf", "--loglevel=1"]);
    let listen = format!("--listen={address},stream");
    let connections = ["--log-level=1", &listen, "--zclient-stream=ipc://run/condure"];
    let tuned = ["--buffer-size=4096", "--stream-maxconn=19000"];
    let condure = start("condure", &[&connections[..], &tuned[..]].concat());
    wait_listening(control);
    ready::answers(address, "/");
    let streams = Streams {
        paths: vec!["/".into()],
        publish: Publish::Post {
            address: control,
            path: "/publish/".into(),
            headers: vec!["content-type: application/json".into()],
            before: r#"{"items":[{"channel":"bench","formats":{"http-stream":{"content":"data: "#.into(),
            after: r#"\n\n"}}}]}"#.into(),
        },
        by: By::Plain,
    };
    let processes = vec![condure, handler, proxy, zurl, origin];
    let tuning = "condure 2 threads, proxy, handler, zurl, an application in nginx".into();
    Ok(Server { processes, address, tuning, streams: Some(streams), memory: 0 })
}

/// As its runner's template has it.
const ZURL: &str = "[General]
in_spec=ipc://run/zurl-in
in_stream_spec=ipc://run/zurl-in-stream
out_spec=ipc://run/zurl-out
defpolicy=allow
max_open_requests=2000
buffer_size=200000
timeout=600
";

/// The sockets are those of its `internal.conf`, in a folder of this contender's own. Those that begin with `m2a` are
/// for mongrel2 in condure's place: nobody is there, but the handler does not start without them.
fn pushpin(control: u16) -> String {
    format!(
        "[global]
rundir=run
ipc_prefix=
stats_connection_ttl=600

[proxy]
condure_in_specs=ipc://run/condure-out
condure_in_stream_specs=ipc://run/condure-out-stream
condure_out_specs=ipc://run/condure-in
zurl_out_specs=ipc://run/zurl-in
zurl_out_stream_specs=ipc://run/zurl-in-stream
zurl_in_specs=ipc://run/zurl-out
handler_inspect_spec=ipc://run/inspect
handler_accept_spec=ipc://run/accept
handler_retry_in_spec=ipc://run/retry
handler_ws_control_in_spec=ipc://run/ws-control-in
handler_ws_control_out_spec=ipc://run/ws-control-out
stats_spec=ipc://run/proxy-stats
command_spec=ipc://run/proxy-command
intreq_in_specs=ipc://run/intreq-in
intreq_in_stream_specs=ipc://run/intreq-in-stream
intreq_out_specs=ipc://run/intreq-out

[handler]
proxy_inspect_spec=ipc://run/inspect
proxy_accept_spec=ipc://run/accept
proxy_retry_out_spec=ipc://run/retry
proxy_ws_control_in_spec=ipc://run/ws-control-out
proxy_ws_control_out_spec=ipc://run/ws-control-in
proxy_stats_spec=ipc://run/proxy-stats
proxy_command_spec=ipc://run/proxy-command
condure_in_stream_specs=ipc://run/condure-out-stream
condure_out_specs=ipc://run/condure-in
m2a_in_stream_specs=ipc://run/m2a-out-stream
m2a_out_specs=ipc://run/m2a-in
proxy_intreq_out_specs=ipc://run/intreq-in
proxy_intreq_out_stream_specs=ipc://run/intreq-in-stream
proxy_intreq_in_specs=ipc://run/intreq-out
push_in_spec=ipc://run/push
push_in_sub_specs=ipc://run/push-sub
push_in_http_addr=127.0.0.1
push_in_http_port={control}
command_spec=ipc://run/command
stats_spec=ipc://run/stats
message_rate=10000000
message_hwm=10000000
"
    )
}
