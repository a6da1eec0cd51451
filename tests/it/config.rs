//! `tempest config`: what holds and who said so, the reference, and that nothing shows a secret.

use std::fs;

use tempest_tests::{Folder, Redis, Signal, Up, scratch, tempest, wait_until};

fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

#[test]
fn every_setting_is_shown_with_its_source() {
    let dir = Folder::new();
    fs::write(dir.join("tempest.toml"), "\n[limits]\npending = 7\n[[route]]\npath = \"/a\"\nqueue = \"a\"\n")
        .expect("a file");
    let out = tempest(&dir, &["config", "--listen", "127.0.0.1:7"], &[("TEMPEST_REACTORS", "3")], "").ok();
    let line = |setting: &str| {
        let found = out.lines().find(|line| line.trim_start().starts_with(&format!("{setting} ")));
        words(found.unwrap_or_else(|| panic!("{setting} in {out}")))
    };
    assert_eq!(line("front.listen"), ["front.listen", "127.0.0.1:7", "--listen"]);
    assert_eq!(line("front.reactors"), ["front.reactors", "3", "TEMPEST_REACTORS"]);
    assert_eq!(line("limits.pending"), ["limits.pending", "7", "tempest.toml:3"]);
    assert_eq!(line("limits.answer_bytes"), ["limits.answer_bytes", "\"1MiB\"", "default"]);
    assert_eq!(line("redis.dir"), ["redis.dir", "not", "set", "default"]);
    assert_eq!(line("route \"/a\" queue")[3..], ["\"a\"", "tempest.toml:6"]);
    let empty = Folder::new();
    let out = tempest(&empty, &["config"], &[], "").ok();
    let public = out.lines().find(|line| line.contains("channels.public")).expect("a line");
    assert!(public.contains("[\"*\"]") && public.ends_with("assumed on loopback without a file"), "{public}");
    let front = tempest(&empty, &["config", "--for", "front"], &[], "").ok();
    assert!(front.contains("\"redis://127.0.0.1:6379/0\"") && front.contains("/sub/{channel...}"), "{front}");
    assert_eq!(tempest(&empty, &["config", "--reactors", "0"], &[], "").code, 2);
}

#[test]
fn the_reference_is_a_good_configuration() {
    let dir = Folder::new();
    let reference = tempest(&dir, &["config", "reference"], &[], "").ok();
    fs::write(dir.join("tempest.toml"), &reference).expect("a file");
    assert!(tempest(&dir, &["config", "check"], &[], "").ok().contains("good"));
    assert!(reference.contains("[limits]") && reference.contains("# [[channels.rule]]"));
}

/// Planted where secrets stand; neither may be seen anywhere.
const PASSWORD: &str = "hunter2-of-redis";
const SECRET: &str = "hunter2-of-tokens-at-least-32-bytes";
const OTHER: &str = "hunter2-of-tokens-that-came-later-on";
const ENV: &str = "hunter2-of-a-worker";

fn assert_none(what: &str, text: &str) {
    assert!(!text.contains("hunter2"), "{what}: {text}");
}

#[test]
fn no_secret_is_shown_anywhere() {
    let (dir, mark) = scratch();
    let mut redis = Redis::start(&dir.join("redis"), &mark);
    redis.cmd(&["ACL", "SETUSER", "app", "on", &format!(">{PASSWORD}"), "allkeys", "allchannels", "allcommands"]);
    let url = redis.url().replace("redis://", &format!("redis://app:{PASSWORD}@"));
    let config = |secret: &str, more: &str| {
        format!(
            "redis.url = \"{url}\"\nlog.level = \"trace\"\nfront.admin = \"127.0.0.1:0\"\nfront.listen = \"127.0.0.1:0\"\n{more}\n\
             [[channels.key]]\nname = \"a\"\nalg = \"HS256\"\nsecret = \"{secret}\"\n\
             [workers.w]\ncommand = \"sleep 1000\"\nenv = {{ TOKEN = \"{ENV}\" }}\n"
        )
    };
    let mut up = Up::start_with_redis(&dir, &mark, &config(SECRET, ""));
    wait_until("it to be ready", || up.front.is_ready());
    let admin = up.front.admin_address().to_string();
    let run = |args: &[&str]| tempest(&dir, args, &[], "");
    let look = |what: &str, args: &[&str]| {
        let ran = run(args);
        assert_none(what, &format!("{ran:?}"));
        ran
    };
    assert!(look("config", &["config"]).ok().contains("***"));
    look("config of a front", &["config", "--for", "front"]);
    look("config check", &["config", "check"]);
    assert!(look("status", &["status"]).ok().contains("redis://app:***@"));
    look("status as JSON", &["status", "--json"]);
    fs::write(dir.join("tempest.toml"), config(OTHER, "")).expect("written");
    assert!(look("reload", &["reload", "--admin", &admin]).ok().contains("\u{2026}changed"));
    let broken = config(SECRET, "limits.pending = 0").replace(&url, &format!("redis://{PASSWORD}@h"));
    fs::write(dir.join("tempest.toml"), broken.replace(SECRET, "hunter2-short")).expect("written");
    assert_eq!(look("a refused reload", &["reload", "--admin", &admin]).code, 1);
    look("a broken check", &["config", "check"]);
    fs::write(dir.join("tempest.toml"), config(OTHER, "").replace(PASSWORD, "hunter2-new").replace(ENV, "hunter2-env"))
        .expect("written");
    let refused = look("another password", &["reload", "--admin", &admin]);
    assert!(
        refused.err.contains("restart needed for redis.url") && refused.err.contains("workers.w.env.TOKEN"),
        "{refused:?}"
    );
    wait_until("the problem in the status", || {
        look("status after", &["status", "--redis", &url]).out.contains("reload-refused")
    });
    for path in ["/status", "/metrics", "/ready"] {
        assert_none(path, &up.front.admin().get(path).text());
    }
    up.front.process.signal(Signal::HUP);
    up.front.process.log.wait_for("the configuration is refused");
    up.front.process.signal(Signal::INT);
    assert!(up.front.process.wait().success());
    let lines = up.front.process.log.lines();
    assert!(lines.len() > 10, "it was looked at something");
    lines.iter().for_each(|line| assert_none("the log", line));
    redis.kill();
    up.finish_after_end();
}
