//! The pages of the examples in a real browser.

use std::process::Command;

use tempest_tests::browser::Browser;
use tempest_tests::{RAW_LANGUAGES, Signal, Up, free_port, kill};

fn browse(up: &Up, name: &str) -> Browser {
    let browser = Browser::start(name, up.dir().join("profile"), up.mark());
    browser.open(&format!("http://{}/", up.front.address()));
    browser
}

const LIVE: &str = "return document.querySelector('#sse-state').dataset.state === 'live'";

/// What a user types, with the port of this run.
fn redis_cli_publish(up: &Up, channel: &str, text: &str) {
    let port = up.redis_port().to_string();
    let status = Command::new("redis-cli")
        .args(["-p", &port, "publish", channel, text])
        .output()
        .expect("redis-cli runs")
        .status;
    assert!(status.success());
}

fn feed_shows(text: &str) -> String {
    format!("return [...document.querySelectorAll('#feed li .data')].some(e => e.textContent === {text:?})")
}

#[test]
fn the_counters_of_hello_fill_for_every_language_and_its_feed_is_live() {
    let up = Up::example("hello", &[]);
    let browser = browse(&up, "hello");
    for language in RAW_LANGUAGES {
        let script = format!("return Number(document.querySelector('[data-lang={language}] .count')?.textContent) > 0");
        browser.wait(&format!("a count for {language}"), &script);
    }
    browser.wait("the feed to be live", LIVE);
    redis_cli_publish(&up, "test", "hello");
    browser.wait("the message to appear", &feed_shows("hello"));
    redis_cli_publish(&up, "test", "<b>not markup</b>\nsecond line");
    browser.wait("the text to appear as text", &feed_shows("<b>not markup</b>\nsecond line"));
    redis_cli_publish(&up, "test", "[\"greeting\",\"good evening\"]");
    browser.wait(
        "the named event",
        "return document.querySelector('#feed li[data-event=greeting] .data')?.textContent === 'good evening'",
    );
    assert_eq!(browser.text("#failed"), "0", "{}", browser.text("#problem"));
    browser.screenshot("live");

    for pid in up.processes("redis-server") {
        kill(pid, Signal::KILL);
    }
    browser.wait("answers to come again", "const n = Number(document.querySelector('#total').textContent); const before = window.seen ?? n; window.seen = before; return n > before + 20");
    wait_for_subscription(&up, "test");
    redis_cli_publish(&up, "test", "after the restart of Redis");
    browser.wait("the feed to go on", &feed_shows("after the restart of Redis"));
    drop(browser);
    up.finish();
}

fn wait_for_subscription(up: &Up, channel: &str) {
    let subscribed = || {
        let mut redis = tempest_tests::Resp::connect(up.redis_port()).ok()?;
        let reply = redis.try_cmd(&["PUBSUB", "NUMSUB", channel]).ok()?;
        matches!(&reply, tempest_tests::Value::Array(pair) if pair.get(1) == Some(&tempest_tests::Value::Int(1)))
            .then_some(())
    };
    tempest_tests::wait_until("the channel to be subscribed", || subscribed().is_some());
}

#[test]
fn hello_comes_back_after_the_front_was_gone() {
    let address = format!("127.0.0.1:{}", free_port());
    let mut first = Up::example("hello", &["--listen", &address]);
    let browser = Browser::start("hello-again", first.dir().join("profile"), first.mark());
    browser.open(&format!("http://{address}/"));
    browser.wait("the feed to be live", LIVE);
    first.front.process.signal(Signal::TERM);
    assert!(first.front.process.wait().success());
    browser.wait("the page to notice", "return document.querySelector('#sse-state').dataset.state !== 'live'");
    let second = Up::example("hello", &["--listen", &address]);
    browser.wait("the feed to be live again", LIVE);
    wait_for_subscription(&second, "test");
    redis_cli_publish(&second, "test", "from the second run");
    browser.wait("the message to appear", &feed_shows("from the second run"));
    drop(browser);
    second.finish();
    first.finish_after_end();
}

#[test]
fn the_clock_ticks_in_both_forms() {
    let up = Up::example("clock", &[]);
    let browser = browse(&up, "clock");
    browser.wait("the stream to be live", LIVE);
    browser.wait(
        "ticks of both forms",
        "const n = id => Number(document.querySelector(id).textContent); return n('#messages') > 0 && n('#events') > 0 && n('#ticks') >= 3",
    );
    let time = browser.text("#clock");
    assert!(time.len() == 8 && time.as_bytes()[2] == b':', "{time}");
    browser.screenshot("ticking");
    drop(browser);
    up.finish();
}

#[test]
fn what_is_said_in_the_chat_is_seen_by_everybody_and_by_who_comes_later() {
    let up = Up::example("chat", &[]);
    let folder = |name: &str| up.dir().join(name);
    let open = |name: &str| {
        let browser = Browser::start(name, folder(name), up.mark());
        browser.open(&format!("http://{}/", up.front.address()));
        browser.wait("the stream to be live", LIVE);
        browser
    };
    let (ann, bob) = (open("chat-ann"), open("chat-bob"));
    let say = |browser: &Browser, name: &str, text: &str| {
        let script = format!(
            "document.querySelector('#name').value = {name:?}; document.querySelector('#text').value = {text:?}; \
             document.querySelector('#say').click(); return true"
        );
        browser.wait("the form", &script);
    };
    let shows = |text: &str| {
        format!("return [...document.querySelectorAll('#said li')].some(e => e.lastChild.textContent === {text:?})")
    };
    say(&ann, "ann", "<b>hello</b> gr\u{fc}\u{df}e");
    bob.wait("what ann said, as text", &shows("<b>hello</b> gr\u{fc}\u{df}e"));
    say(&bob, "bob", "good morning");
    ann.wait("what bob said", &shows("good morning"));
    let late = open("chat-late");
    late.wait("what was said before", &shows("<b>hello</b> gr\u{fc}\u{df}e"));
    late.wait("all of it", "return document.querySelectorAll('#said li').length === 2");
    late.screenshot("late");
    for pid in up.processes("chat:app") {
        kill(pid, Signal::KILL);
    }
    say(&ann, "ann", "still here");
    late.wait("an answer of the next process", &shows("still here"));
    drop((ann, bob, late));
    up.finish();
}
