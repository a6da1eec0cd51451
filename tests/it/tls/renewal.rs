//! Certificates that change while the front runs.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;

use tempest_tests::{Certificate, Http, Trust, tempest, wait_until};

use super::Names;

/// Greetings, one after another, until the end.
struct Greetings {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<Vec<String>>>,
}

impl Greetings {
    fn start(address: SocketAddr, trust: &Trust) -> Self {
        let (stop, done) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let thread = || {
            let (stop, done, trust) = (Arc::clone(&stop), Arc::clone(&done), trust.clone());
            std::thread::spawn(move || {
                let mut failed = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    match Http::try_connect_tls(address, "shop.test", &trust) {
                        Ok(_) => drop(done.fetch_add(1, Ordering::Relaxed)),
                        Err(error) => failed.push(error.to_string()),
                    }
                }
                failed
            })
        };
        let threads = (0..2).map(|_| thread()).collect();
        Self { stop, done, threads }
    }

    #[track_caller]
    fn go_on(&self, more: usize) {
        let from = self.done.load(Ordering::Relaxed);
        wait_until("more greetings", || self.done.load(Ordering::Relaxed) >= from + more);
    }

    fn end(self) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().flat_map(|thread| thread.join().expect("it does not panic")).collect()
    }
}

#[test]
fn a_newer_certificate_takes_over_without_a_failed_greeting() {
    let names = Names::new();
    let world = names.world().start();
    let newer = Certificate::of(&["shop.test"]);
    let address = world.front.tls_address();
    let greetings = Greetings::start(address, &Trust::of(&[&names.shop, &newer]));
    greetings.go_on(20);
    let shows = |certificate: &Certificate| {
        let connection = Http::connect_tls(address, "shop.test", &Trust::of(&[&names.shop, &newer]));
        connection.tls_certificate().is_some_and(|shown| certificate.is(&shown))
    };
    assert!(shows(&names.shop));
    newer.write(&names.dir, "shop");
    wait_until("the newer one to be shown", || shows(&newer));
    greetings.go_on(20);
    assert_eq!(greetings.end(), Vec::<String>::new());
    assert_eq!(world.count("tempest_tls_certificates_replaced_total", &[]), 1);
    world.finish();
}

#[test]
fn a_broken_pair_changes_nothing_and_is_said() {
    let names = Names::new();
    let world = names.world().start();
    let other = Certificate::of(&["shop.test"]);
    let key = names.dir.join("shop.key");
    let good = std::fs::read(&key).expect("it was written");
    let elsewhere = other.write(world.dir(), "other").1;
    std::fs::copy(elsewhere, &key).expect("the folder is writable");
    wait_until("it to be noticed", || world.count("tempest_tls_certificate_failures_total", &[]) == 1);
    world.front.process.log.wait_for("the old one stays");
    let address = world.front.tls_address();
    assert_eq!(Http::connect_tls(address, "shop.test", &names.trust()).get("/sub/").status, 400);
    let url = world.redis.url();
    wait_until("the problem to be in the record", || {
        tempest(world.dir(), &["status", "--redis", &url], &[], "").ok().contains("do not go together")
    });
    // What is repaired is good again, though it is what was there before.
    std::fs::write(&key, good).expect("the folder is writable");
    wait_until("it to be taken up", || world.count("tempest_tls_certificates_replaced_total", &[]) == 1);
    world.finish();
}

#[test]
fn a_certificate_that_cannot_be_used_is_an_error_at_the_start() {
    let names = Names::new();
    let dir = names.dir.clone();
    std::fs::write(dir.join("empty.pem"), "nothing\n").expect("the folder is writable");
    let pair = |cert: &str, key: &str| {
        format!(
            "[front]\nadmin = false\n[[front.tls]]\nlisten = \"127.0.0.1:0\"\ncertificates = [{{ cert = \"{cert}\", key = \"{key}\" }}]"
        )
    };
    for (cert, key, word) in [
        ("missing.pem", "shop.key", "missing.pem cannot be read"),
        ("empty.pem", "shop.key", "empty.pem has no certificate"),
        ("shop.pem", "empty.pem", "empty.pem has no private key"),
        ("shop.pem", "blog.key", "do not go together"),
    ] {
        std::fs::write(dir.join("tempest.toml"), pair(cert, key)).expect("the folder is writable");
        let ran = tempest(&dir, &["front", "--listen", "127.0.0.1:0"], &[], "");
        assert_eq!(ran.code, 1, "{ran:?}");
        assert!(ran.err.contains(word), "{word} in {}", ran.err);
    }
}
