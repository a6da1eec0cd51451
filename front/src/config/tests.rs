//! The configuration as a whole: layout, defaults, precedence, and every fault at once.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use http::Method;
use tempest_protocol::Codec;

use super::options::{ALL, Setting};
use super::*;

mod reference;

/// A folder of its own, gone at the end.
struct Folder(PathBuf);

impl Folder {
    fn with(name: &str, text: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("tempest-config-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        std::fs::write(folder.join("tempest.toml"), text).expect("a file");
        Self(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn setting(flag: &str) -> &'static Setting {
    ALL.iter().find(|setting| setting.flag == flag).expect("a flag of the table")
}

fn flags(given: &[(&str, &str)]) -> Flags {
    Flags {
        command: Vec::new(),
        settings: given.iter().map(|(flag, text)| (setting(flag), (*text).to_owned())).collect(),
    }
}

fn load_with(mode: Mode, given: &[(&str, &str)], env: &[(&str, &str)], folder: &Path) -> Result<Loaded, Problems> {
    let env: HashMap<String, String> = env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    load(mode, &flags(given), &|name| env.get(name).cloned(), folder)
}

fn faults(text: &str) -> Vec<String> {
    match Config::from_toml(text, Path::new("/base")) {
        Ok(_) => Vec::new(),
        Err(problems) => problems.0.iter().map(Problem::to_string).collect(),
    }
}

fn read(text: &str) -> Config {
    Config::from_toml(text, Path::new("/base")).unwrap_or_else(|problems| panic!("{problems}"))
}

#[test]
fn an_empty_file_gives_the_defaults() {
    let config = read("");
    assert_eq!(config.redis.keys.prefix(), "tempest");
    assert!(config.redis.url.is_none());
    assert_eq!(config.front.listen, [Listen::Tcp(([127, 0, 0, 1], 1337).into())]);
    assert_eq!(config.front.admin, Some(([127, 0, 0, 1], 1338).into()));
    assert_eq!((config.front.reactors, config.front.grace), (1, Duration::from_secs(10)));
    assert_eq!((config.limits.pending, config.limits.answer_bytes), (16_384, 1 << 20));
    assert!(config.channels.public.is_empty());
    assert_eq!(
        config.routes.iter().map(|route| route.path.text.as_str()).collect::<Vec<_>>(),
        ["/sub", "/sub/{channel...}", "/{rest...}"]
    );
    assert_eq!(config.log.access, AccessLog::Off);
}

#[test]
fn reads_every_setting() {
    let config = read(include_str!("tests/full.toml"));
    assert_eq!(config.redis.keys.prefix(), "shop");
    assert_eq!(
        config.redis.url.as_ref().map(ToString::to_string).as_deref(),
        Some("rediss://app:***@redis.example:6380/1")
    );
    assert_eq!(config.redis.dir.as_deref(), Some(Path::new("/base/data")));
    assert_eq!(config.redis.server.as_deref(), Some(Path::new("bin/redis")));
    assert_eq!(config.redis.port, Some(7000));
    assert_eq!((config.redis.stall, config.redis.patience), (Duration::from_secs(2), Duration::ZERO));
    assert_eq!((config.front.listen.len(), &config.front.admin, config.front.reactors), (2, &None, 4));
    let front = &config.front;
    assert_eq!((front.redirect.len(), front.redirect_port, front.unix_mode), (1, Some(8443), 0o600));
    let certificate = Certificate { cert: "/base/a.pem".into(), key: "/etc/a.key".into() };
    let listen = vec![Listen::Unix("/run/secure.sock".into())];
    assert_eq!(front.tls, [Tls { listen, certificates: vec![certificate] }]);
    let limits = &config.limits;
    assert_eq!((limits.handshake_time, limits.h2_streams), (Duration::from_secs(5), 50));
    assert_eq!((limits.h2_window, limits.h2_send_buffer), (1024 * 1024, 16 * 1024));
    assert_eq!((limits.h2_resets, limits.h2_control_frames), (51, 52));
    assert_eq!((config.limits.head_bytes, config.limits.queue_depth), (32 * 1024, 5));
    let (limits, proxies) = (&config.limits, &config.front.proxies);
    assert_eq!((limits.body_time, limits.body_rate), (Duration::from_secs(60), 1024));
    assert_eq!((limits.connections_per_address, limits.requests_per_connection), (12, 13));
    assert_eq!(limits.requests_per_address, 14);
    assert_eq!((proxies.trusted.len(), proxies.trusted_unix, proxies.forwarded_host), (1, true, true));
    assert_eq!((proxies.forwarded, &proxies.protocol), (Forwarded::XForwarded, &ProxyProtocol::Required));
    assert_eq!((config.channels.public.len(), config.channels.prefix.as_str()), (2, "live:"));
    let channels = &config.channels;
    assert_eq!((channels.publish.as_slice(), channels.publish_batch), ([Pattern::new("chat.*")].as_slice(), 11));
    assert_eq!((channels.key_time, channels.count_time), (Duration::from_secs(3600), Duration::from_millis(50)));
    assert_eq!(config.channels.cors, ["https://app.example"]);
    let limits = &config.limits;
    assert_eq!((limits.attempts, limits.crashes, limits.dead_letters, limits.withdrawn), (8, 9, 10, 11));
    let (channels, rule) = (&config.channels, |r: &ChannelRule| (r.control, r.array_form, r.gone));
    let rules: Vec<_> = channels.rules.iter().map(|r| (r.pattern.as_str(), rule(r))).collect();
    let (jobs, chat, news) = ((true, true, false), (false, false, true), (false, true, false));
    assert_eq!(rules, [("jobs.*", jobs), ("chat.*", chat), ("news.*", news)]);
    let history = channels.rule("news.at").and_then(|rule| rule.history);
    assert_eq!(history, Some(History { messages: 12, time: Duration::from_secs(1800) }));
    assert_eq!((channels.patterns.as_slice(), channels.resuming), (&[Pattern::new("orders.*")][..], 15));
    assert_eq!((channels.per_stream, channels.logs_per_stream), (13, 14));
    assert_eq!((channels.streams, channels.streams_per_address, channels.streams_per_user), (8, 60, 61));
    assert_eq!((channels.stream_life, channels.goodbye), (Some(Duration::from_secs(600)), Duration::from_secs(2)));
    let tokens = &config.channels.tokens;
    assert_eq!((tokens.cookie.as_str(), tokens.leeway), ("pass", Duration::from_secs(1)));
    assert_eq!((tokens.bytes, tokens.patterns, tokens.jwks_bytes, tokens.jwks_keys), (4096, 12, 1024, 13));
    assert_eq!((tokens.jwks_refresh, tokens.jwks_pause), (Duration::from_secs(60), Duration::from_secs(2)));
    let [key] = tokens.keys.as_slice() else { panic!("one key") };
    assert_eq!((key.name.as_str(), key.alg, key.issuer.as_deref()), ("one", TokenAlg::EdDsa, Some("us")));
    assert_eq!((config.log.access, config.log.format), (AccessLog::Json, LogFormat::Text));
    assert_eq!(config.log.level, "info,tempest::broker=debug");
}

#[test]
fn reads_routes_in_the_order_of_the_file() {
    let config = read(include_str!("tests/full.toml"));
    let [api, feed, ingest, page, private, old] = config.routes.as_slice() else { panic!("six routes") };
    assert_eq!(api.methods.as_deref(), Some([Method::GET, Method::POST].as_slice()));
    assert_eq!(api.host.as_deref(), Some("app.example"));
    let RouteKind::Queue(route) = &api.kind else { panic!("a queue") };
    assert_eq!((route.queue.as_str(), route.timeout, route.body_limit), ("api", Duration::from_millis(1500), 10 << 20));
    assert_eq!((route.priority, route.retry, route.client_gone), (Priority::High, Retry::Always, ClientGone::Finish));
    assert_eq!(
        (route.when_no_worker, route.queue_depth, route.max_requests, route.max_wait),
        (WhenNoWorker::Fail, Some(100), Some(15), Some(Duration::from_secs(2)))
    );
    assert_eq!(route.codec, Codec::MsgPack);
    assert!(matches!(feed.kind, RouteKind::Subscribe));
    assert!(matches!(&ingest.kind, RouteKind::Publish(route) if !route.batch && route.body_limit == 1024));
    assert!(
        matches!(&page.kind, RouteKind::Files(files) if files.dir == Path::new("/base/public") && files.precompressed)
    );
    assert!(matches!(&old.kind, RouteKind::Proxy(old) if old.connections == 3));
    assert!(private.is_internal() && !page.is_internal());
}

#[test]
fn reads_workers_in_the_order_of_the_file() {
    let config = read(include_str!("tests/full.toml"));
    let [ruby, python] = config.workers.as_slice() else { panic!("two workers") };
    assert_eq!((ruby.name.as_str(), ruby.processes.most, ruby.queue.as_str()), ("ruby", 3, "api"));
    assert_eq!(ruby.command, ["ruby", "my worker.rb"]);
    assert_eq!(ruby.needs.as_deref(), Some("ruby"));
    assert_eq!(ruby.env, [("B".into(), Secret::new("1")), ("A".into(), Secret::new("x"))]);
    assert_eq!((ruby.dir.as_path(), ruby.stop_time), (Path::new("/base/workers"), Duration::from_secs(3)));
    assert_eq!((python.command.len(), python.processes.least, python.queue.as_str()), (2, 1, "web"));
    assert_eq!((python.dir.as_path(), python.stop_time), (Path::new("/base"), Duration::from_secs(10)));
    assert_eq!((ruby.claims, python.claims), (Claims::Base, Claims::Reliable));
    assert_eq!(
        faults("[workers.a]\ncommand = \"x\"\nclaims = \"none\""),
        ["tempest.toml:3: workers.a.claims: expected one of reliable, base, found \"none\""]
    );
}

#[test]
fn reports_every_fault_with_its_line() {
    let text = r#"prefx = "a"

[front]
listen = ["127.0.0.1:80",
  "foo"]
reactors = 0
listn = 1

[redis]
url = "redis://hunter2@h"

[limits]
head_bytes = "1KiB"
head_time = 0
answer_bytes = "16MiB"

[[channels.rule]]
control = "yes"

[[route]]
path = "nowhere"
queue = "Web"
timout = "1s"

[[route]]
path = "/feed/{name}"
kind = "subscribe"

[[route]]
path = "/x"

[workers.a]
processes = -1
"#;
    let expected = [
        "tempest.toml:1: prefx: is no setting; did you mean prefix?",
        "tempest.toml:5: front.listen: expected an address like 127.0.0.1:1337 or unix:/run/x.sock, found \"foo\"",
        "tempest.toml:6: front.reactors: expected a whole number from 1 to 256, found 0",
        "tempest.toml:7: front.listn: is no setting; did you mean listen?",
        "tempest.toml:10: redis.url: expected USER:PASSWORD@ or :PASSWORD@ before the host (write @ : / ? # in them percent-encoded)",
        "tempest.toml:12: limits.answer_buffer: expected at least limits.answer_bytes, or a single message would not fit",
        "tempest.toml:13: limits.head_bytes: expected a size like 64KiB or 1MiB, at least 8KiB, found \"1KiB\"",
        "tempest.toml:14: limits.head_time: expected a time like 500ms, 30s or 2m, at least 1ms and at most a year, found 0",
        "tempest.toml:17: channels.rule.pattern: is missing",
        "tempest.toml:18: channels.rule.control: expected true or false, found \"yes\"",
        "tempest.toml:21: route.path: expected a path that begins with /, found \"nowhere\"",
        "tempest.toml:22: route.queue: `Web` is not a queue name: use 1 to 63 of a-z 0-9 _ . - and begin with a letter or digit",
        "tempest.toml:23: route.timout: is no setting; did you mean timeout?",
        "tempest.toml:26: route.path: expected a part {channel} or {channel...}, which names the channel, or no such part at all",
        "tempest.toml:29: route.kind: expected one of queue, subscribe, publish, files, proxy, or a queue = \"NAME\"",
        "tempest.toml:32: workers.a.command: is missing",
        "tempest.toml:33: workers.a.processes: expected a number of processes like 4, or a range like \"2..8\", from 0 to 1024, found -1",
    ];
    assert_eq!(faults(text), expected);
}

#[test]
fn tables_of_the_wrong_shape_are_faults() {
    assert_eq!(faults("front = 1"), ["tempest.toml:1: front: expected a table"]);
    assert_eq!(faults("\nroute = 1"), ["tempest.toml:2: route: expected tables, each headed [[route]]"]);
    assert_eq!(faults("[workers]\na = 1"), ["tempest.toml:2: workers.a: expected a table"]);
    assert_eq!(faults("route = [1]"), ["tempest.toml:1: route: expected a table"]);
    assert_eq!(
        faults("[front]\nlisten = []"),
        ["tempest.toml:2: front.listen: expected at least one address, found a list"]
    );
    assert_eq!(
        faults("[front]\nreactors = 1.5"),
        ["tempest.toml:2: front.reactors: expected a whole number from 1 to 256, found a number with a fraction"]
    );
    assert_eq!(
        faults("[workers.a]\ncommand = \"x\"\nenv = { B = [] }"),
        ["tempest.toml:3: workers.a.env.B: expected a string without NUL, found a list"]
    );
}

#[test]
fn listeners_with_tls_say_what_is_missing() {
    let tls = "[[front.tls]]\nlisten = \"127.0.0.1:1337\"\ncertificates = [{ cert = \"a\" }]";
    let expected = [
        "tempest.toml:1: front.tls: expected an address of its own, 127.0.0.1:1337 is listened on already",
        "tempest.toml:3: front.tls.certificates.key: is missing",
    ];
    assert_eq!(faults(tls), expected);
    assert_eq!(
        faults("[front]\nredirect = \"127.0.0.1:80\"\nunix_mode = \"rw\""),
        [
            "tempest.toml:2: front.redirect: expected [[front.tls]] with a port to be sent to, or redirect_port",
            "tempest.toml:3: front.unix_mode: expected permissions like \"0660\", found \"rw\"",
        ]
    );
    let none = faults("[[front.tls]]\nlisten = []");
    assert!(none.iter().any(|fault| fault.contains("expected 1 to 256 of { cert")), "{none:?}");
    assert!(none.iter().any(|fault| fault.contains("at least one address")), "{none:?}");
    assert!(
        faults(
            "[front]\nlisten = []\n[[front.tls]]\nlisten = \"unix:/s\"\ncertificates = [{ cert = \"a\", key = \"b\" }]"
        )
        .is_empty()
    );
}

#[test]
fn faults_of_syntax_come_with_the_others_and_without_consequences() {
    let found = faults("[front]\nreactors = \nlisten = \"foo\"\n[[route]]\npath = \"/x\nqueue = \"web\"\n");
    assert!(found.iter().any(|fault| fault.starts_with("tempest.toml:2: ")), "{found:?}");
    assert!(found.iter().any(|fault| fault.starts_with("tempest.toml:3: front.listen: ")), "{found:?}");
    assert!(!found.iter().any(|fault| fault.contains("reactors") || fault.contains("missing")), "{found:?}");
    let twice = faults("prefix = \"a\"\nprefix = \"b\"\n");
    assert!(twice.len() == 1 && twice[0].starts_with("tempest.toml:2: "), "{twice:?}");
}

#[test]
fn a_route_takes_only_what_its_kind_knows() {
    let found = faults("[[route]]\npath = \"/{f...}\"\nkind = \"files\"\ndir = \"p\"\ntimeout = 3\n");
    assert_eq!(
        found,
        [
            "tempest.toml:5: route.timeout: is no setting; known here: path, methods, host, kind, dir, index, cache, fallback, precompressed, internal, compress, headers, cors"
        ]
    );
    assert_eq!(
        faults("[[route]]\npath = \"/{f...}\"\nkind = \"file\"\ndir = \"p\"\n"),
        ["tempest.toml:3: route.kind: expected one of queue, subscribe, publish, files, proxy, found \"file\""]
    );
    assert_eq!(faults("[[route]]\npath = \"/a\"\ndir = \"p\"\n").len(), 1);
    assert_eq!(faults("[[route]]\npath = \"/\"\ndir = \"p\"\nmethods = \"get\"\nhost = \"http://x\"\n").len(), 2);
}

#[test]
fn limits_hold_at_their_edges() {
    assert!(faults("[limits]\nhead_bytes = 8192\nanswer_bytes = \"8MiB\"").is_empty());
    assert_eq!(faults("[limits]\nhead_bytes = 8191").len(), 1);
    assert_eq!(faults("[limits]\nanswer_bytes = 8388609").len(), 1);
    assert_eq!(faults("[limits]\nbody_memory = 10\n[[route]]\npath = \"/\"\nqueue = \"a\"\nbody_limit = 11").len(), 1);
    assert!(faults("[limits]\nbody_memory = 10\n[[route]]\npath = \"/\"\nqueue = \"a\"\nbody_limit = 10").is_empty());
    assert!(faults("[front]\nreactors = 256").is_empty());
    assert_eq!(faults("[front]\nreactors = 257").len(), 1);
    assert!(faults("[front]\nprocesses = 256\ndrain_idle = 0\nready_time = \"1ms\"").is_empty());
    assert_eq!(faults("[front]\nprocesses = 257\nready_time = 0").len(), 2);
}

#[test]
fn two_listeners_need_two_addresses() {
    assert_eq!(faults("[front]\nlisten = [\"127.0.0.1:1\", \"127.0.0.1:1\"]").len(), 1);
    assert!(faults("[front]\nlisten = [\"127.0.0.1:0\", \"127.0.0.1:0\"]").is_empty());
    let folder = Folder::with("listeners", "");
    let same = load_with(Mode::Front, &[("listen", "127.0.0.1:1338")], &[], &folder.0);
    let problems = same.expect_err("the admin listener is there by default");
    assert!(problems.to_string().contains("front.admin: expected an address of its own"), "{problems}");
}

#[test]
fn levels_are_levels() {
    assert!(faults("[log]\nlevel = \"tempest=debug\"").is_empty());
    for bad in ["inof", "tempest=loud", ""] {
        assert_eq!(faults(&format!("[log]\nlevel = \"{bad}\"")).len(), 1, "{bad}");
    }
    assert!(faults("[log]\naccess = false").is_empty());
}

#[test]
fn origins_are_origins() {
    for good in ["*", "https://a.example", "http://localhost:8080"] {
        assert!(faults(&format!("[channels]\ncors = \"{good}\"")).is_empty(), "{good}");
    }
    for bad in ["a.example", "https://", "https://a/", "https://A.example", "null"] {
        assert_eq!(faults(&format!("[channels]\ncors = [\"{bad}\"]")).len(), 1, "{bad}");
    }
}

#[test]
fn a_flag_wins_over_the_environment_and_that_over_the_file() {
    let folder = Folder::with("precedence", "prefix = \"file\"\n[front]\nreactors = 2\ngrace = 3\n");
    let env = [("TEMPEST_PREFIX", "env"), ("TEMPEST_REACTORS", "3"), ("TEMPEST_LOG_LEVEL", "")];
    let given = [("prefix", "flag"), ("listen", "127.0.0.1:0,127.0.0.1:7"), ("admin", "off")];
    let loaded = load_with(Mode::Front, &given, &env, &folder.0).expect("a good configuration");
    assert_eq!(loaded.config.redis.keys.prefix(), "flag");
    assert_eq!((loaded.config.front.reactors, loaded.config.front.grace), (3, Duration::from_secs(3)));
    assert_eq!((loaded.config.front.listen.len(), loaded.config.front.admin), (2, None));
    assert_eq!(loaded.config.log.level, "info");
    assert_eq!(loaded.config.base, folder.0);
    assert_eq!(loaded.file, Some(folder.0.join("tempest.toml")));
}

#[test]
fn faults_of_flags_environment_and_file_come_together() {
    let folder = Folder::with("together", "[front]\nreactors = \"many\"\n");
    let given = [("listen", "foo"), ("reactors", "2")];
    let problems = load_with(Mode::Up, &given, &[("TEMPEST_ADMIN", "bar")], &folder.0).expect_err("three faults");
    let lines: Vec<_> = problems.0.iter().map(ToString::to_string).collect();
    assert_eq!(
        lines,
        [
            "tempest.toml:2: front.reactors: expected a whole number from 1 to 256, found \"many\"",
            "--listen: expected an address like 127.0.0.1:1337 or unix:/run/x.sock, found \"foo\"",
            "TEMPEST_ADMIN: expected an address like 127.0.0.1:1338, or off, found \"bar\"",
        ]
    );
}

#[test]
fn every_flag_reaches_its_setting() {
    let folder = Folder::with("flags", "");
    for setting in ALL.iter().filter(|setting| !setting.key.is_empty()) {
        let wrong = if setting.flag.ends_with("-channels") { continue } else { " " };
        let problems = load_with(Mode::Up, &[(setting.flag, wrong)], &[], &folder.0);
        let problems = problems.expect_err(setting.flag);
        assert!(problems.to_string().starts_with(&format!("--{}: ", setting.flag)), "{problems}");
    }
    let given = [("public-channels", "a,b.*"), ("publish-channels", "c")];
    let channels = load_with(Mode::Front, &given, &[], &folder.0).expect("patterns").config.channels;
    assert_eq!(channels.public, [Pattern::new("a"), Pattern::new("b.*")]);
    assert_eq!(channels.publish, [Pattern::new("c")]);
}

#[test]
fn the_named_file_has_to_be_there() {
    let folder = Folder::with("named", "");
    let missing = load_with(Mode::Up, &[("config", "other.toml")], &[], &folder.0);
    let problems = missing.expect_err("no such file").to_string();
    assert_eq!(problems, "--config: expected a configuration file, but there is no file \"other.toml\"");
    std::fs::write(folder.0.join("other.toml"), [0xff]).expect("a file");
    let problems = load_with(Mode::Up, &[], &[("TEMPEST_CONFIG", "other.toml")], &folder.0).expect_err("no UTF-8");
    assert!(problems.to_string().starts_with("other.toml: cannot be read: "), "{problems}");
}

#[test]
fn channels_are_open_only_for_up_without_a_file_on_loopback() {
    let empty = std::env::temp_dir().join("tempest-config-no-such-folder");
    let public = |mode, given: &[(&str, &str)], folder: &Path| {
        let loaded = load_with(mode, given, &[], folder).expect("a good configuration");
        assert_eq!(loaded.notices.len(), usize::from(given.iter().all(|(flag, _)| *flag != "public-channels")));
        loaded.config.channels.public
    };
    assert_eq!(public(Mode::Up, &[], &empty), [Pattern::new("*")]);
    assert_eq!(public(Mode::Up, &[("public-channels", "a")], &empty), [Pattern::new("a")]);
    assert_eq!(public(Mode::Up, &[("listen", "0.0.0.0:1337")], &empty), []);
    assert_eq!(public(Mode::Front, &[], &empty), []);
    let folder = Folder::with("open", "");
    assert_eq!(public(Mode::Up, &[], &folder.0), []);
    let key = "[[channels.key]]\nname = \"a\"\nalg = \"HS256\"\nsecret_file = \"s\"";
    let folder = Folder::with("keyed", key);
    let loaded = load_with(Mode::Front, &[], &[], &folder.0).expect("a good configuration");
    assert_eq!((loaded.config.channels.public, loaded.notices.len()), (vec![], 0), "tokens open some");
}

#[test]
fn publishing_is_open_with_reading_only_and_has_routes_where_it_is() {
    let empty = std::env::temp_dir().join("tempest-config-no-such-folder");
    let publish = |mode, given: &[(&str, &str)], folder: &Path| {
        let Loaded { config, notices, .. } = load_with(mode, given, &[], folder).expect("a good configuration");
        let routed = config.routes.iter().filter(|route| matches!(route.kind, RouteKind::Publish(_))).count();
        assert_eq!(routed, if config.channels.publish.is_empty() { 0 } else { 2 });
        (config.channels.publish, notices.iter().any(|notice| notice.contains("published on")))
    };
    assert_eq!(publish(Mode::Up, &[], &empty), (vec![Pattern::new("*")], true));
    assert_eq!(publish(Mode::Up, &[("publish-channels", "a")], &empty), (vec![Pattern::new("a")], false));
    for given in [("public-channels", "a"), ("listen", "0.0.0.0:1337")] {
        assert_eq!(publish(Mode::Up, &[given], &empty), (vec![], false));
    }
    assert_eq!(publish(Mode::Front, &[], &empty), (vec![], false));
    let folder = Folder::with("publish", "channels.publish = \"chat.*\"");
    assert_eq!(publish(Mode::Front, &[], &folder.0), (vec![Pattern::new("chat.*")], false));
}

#[test]
fn a_route_that_publishes_is_for_one_channel_or_for_batches() {
    let config = read(
        "[[route]]\npath = \"/p/{channel}\"\nkind = \"publish\"\nbody_limit = 5\n[[route]]\npath = \"/p\"\nkind = \"publish\"\ntimeout = \"1ms\"",
    );
    let [RouteKind::Publish(one), RouteKind::Publish(batch)] = [&config.routes[0].kind, &config.routes[1].kind] else {
        panic!("two routes that publish")
    };
    assert_eq!((one.batch, one.body_limit, one.timeout), (false, 5, Duration::from_secs(5)));
    assert_eq!((batch.batch, batch.body_limit, batch.timeout), (true, 256 * 1024, Duration::from_millis(1)));
    assert_eq!(
        faults("[limits]\nbody_memory = 10\n[[route]]\npath = \"/p\"\nkind = \"publish\"\nbody_limit = 11").len(),
        1
    );
    assert_eq!(faults("[[route]]\npath = \"/p\"\nkind = \"publish\"\nqueue = \"web\"").len(), 1);
    assert!(faults("[channels]\npublish_batch = 10000\nkey_time = \"1ms\"\ncount_time = \"1ms\"").is_empty());
    assert_eq!(faults("[channels]\npublish_batch = 10001\nkey_time = 0\ncount_time = 0").len(), 3);
}

#[test]
fn the_front_alone_has_a_redis_by_default() {
    let empty = std::env::temp_dir().join("tempest-config-no-such-folder");
    let url = |mode| load_with(mode, &[], &[], &empty).expect("a good configuration").config.redis.url;
    assert_eq!((url(Mode::Up), url(Mode::Front)), (None, Some(RedisUrl::tcp("127.0.0.1", 6379))));
}

#[test]
fn clients_take_the_url_of_a_worker() {
    let empty = std::env::temp_dir().join("tempest-config-no-such-folder");
    let url = |mode, given: &[(&str, &str)], env: &[(&str, &str)]| {
        let loaded = load_with(mode, given, env, &empty).expect("a good configuration");
        loaded.config.redis.url.map(|url| url.to_string())
    };
    let worker = [("REDIS_URL", "redis://worker")];
    let both = [("REDIS_URL", "redis://worker"), ("TEMPEST_REDIS", "redis://own")];
    assert_eq!(url(Mode::Client, &[], &worker).as_deref(), Some("redis://worker:6379/0"));
    assert_eq!(url(Mode::Client, &[], &both).as_deref(), Some("redis://own:6379/0"));
    assert_eq!(url(Mode::Client, &[("redis", "redis://flag")], &both).as_deref(), Some("redis://flag:6379/0"));
    assert_eq!(url(Mode::Client, &[], &[]), None);
    let folder = Folder::with("client", "[redis]\nurl = \"redis://file\"");
    let loaded = load_with(Mode::Client, &[], &worker, &folder.0).expect("a good configuration");
    assert_eq!(loaded.config.redis.url, Some(RedisUrl::tcp("file", 6379)));
    let wrong = load_with(Mode::Client, &[], &[("REDIS_URL", "hunter2")], &empty).expect_err("no URL").to_string();
    assert!(wrong.starts_with("REDIS_URL: expected a URL") && !wrong.contains("hunter2"), "{wrong}");
    assert_eq!(url(Mode::Up, &[], &worker), None, "nothing but its own settings decides where `up` keeps data");
}
