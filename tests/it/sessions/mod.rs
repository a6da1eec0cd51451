//! Sessions: what one answer leaves, the next job of the same client finds, and nobody else.

mod bounds;
mod cookies;
mod grants;
mod in_redis;
mod origin;

use serde_json::{Value, json};
use tempest_tests::{Job, Response, World};

/// What seals in these tests, as `session.keys` has it.
const KEYS: &str = "keys = [\"0123456789abcdef0123456789abcdef\"]";

/// A world with sessions, of further settings.
fn world(settings: &str) -> World {
    World::builder().table(&format!("[session]\n{KEYS}\n{settings}")).start()
}

/// A browser, as far as sessions go: it sends the cookies that it has been given.
#[derive(Debug, Default)]
struct Client {
    cookies: Vec<(String, String)>,
}

impl Client {
    /// Asks for `/`, hands the job to `work`, which answers, and takes what cookies come.
    fn visit(&mut self, world: &mut World, work: impl FnOnce(&Job) -> Value) -> (Job, Response) {
        self.send(world, "GET", &[], work)
    }

    fn send(
        &mut self,
        world: &mut World,
        method: &str,
        headers: &[&str],
        work: impl FnOnce(&Job) -> Value,
    ) -> (Job, Response) {
        let mut http = world.http();
        let cookies = self.header();
        let mut all = headers.to_vec();
        all.extend(cookies.as_deref());
        http.request(method, "/", &all, b"");
        let job = world.take();
        let fields = work(&job);
        world.answer(&job, fields, "");
        let response = http.response();
        self.take(&response);
        (job, response)
    }

    /// The job that a visit becomes, unchanged by its answer.
    fn job(&mut self, world: &mut World) -> Job {
        self.visit(world, |_| json!({})).0
    }

    /// The session that the next job carries.
    fn session(&mut self, world: &mut World) -> Value {
        self.job(world)["session"].clone()
    }

    fn header(&self) -> Option<String> {
        let pairs: Vec<String> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        (!pairs.is_empty()).then(|| format!("cookie: {}", pairs.join("; ")))
    }

    fn take(&mut self, response: &Response) {
        for value in response.all("set-cookie") {
            let pair = value.split(';').next().expect("a pair");
            let (name, text) = pair.split_once('=').expect("name and value");
            self.cookies.retain(|(known, _)| known != name);
            if !value.contains("Max-Age=0") {
                self.cookies.push((name.to_owned(), text.to_owned()));
            }
        }
    }
}

/// An answer that patches.
fn patch(patch: Value) -> impl FnOnce(&Job) -> Value {
    move |_| json!({"session": patch})
}
