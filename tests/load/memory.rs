//! Memory over a long run: what the front holds after many requests and reconnects, against what it held after a few.

use std::rc::Rc;
use std::time::Instant;

use tokio::task::LocalSet;

use crate::report::Report;
use crate::requests::{Tally, client};
use crate::stage::Stage;

const CLIENTS: usize = 64;
/// After these the first figure is taken.
const FIRST: u64 = 10_000;
/// Requests and reconnects of the full run, which takes minutes, and of the short one.
const FULL: (u64, u64) = (1_000_000, 100);
const SHORT: (u64, u64) = (100_000, 10);
/// The second figure may be this much of the first.
const MOST: f64 = 1.1;

pub(crate) async fn measure(full: bool, stage: &mut Stage, report: &mut Report) {
    let (requests, reconnects) = if full { FULL } else { SHORT };
    stage.worker("rust");
    run(stage, FIRST).await;
    let first = stage.memory();
    report.add("memory: after 10,000 requests", first / 1024, "KiB");
    let start = Instant::now();
    let mut outcomes = (0, 0, 0);
    for _ in 0..reconnects {
        let cut = cut_front(stage);
        report.check(cut > 0, "a reconnect cuts the front's connections");
        let tally = run(stage, (requests - FIRST) / reconnects).await;
        outcomes.0 += tally.good.get();
        outcomes.1 += tally.other.get();
        outcomes.2 += tally.broken.get();
    }
    let last = stage.memory();
    let ratio = last as f64 / first as f64;
    report.add("memory: requests in all", FIRST + outcomes.0 + outcomes.1 + outcomes.2, "requests");
    report.add("memory: reconnects", reconnects, "times");
    report.add("memory: not 200", outcomes.1 + outcomes.2, "requests");
    report.add("memory: after all of them", last / 1024, "KiB");
    report.add("memory: last to first", ratio, "times");
    report.add("memory: requests per second", requests as f64 / start.elapsed().as_secs_f64(), "1/s");
    report.check(ratio <= MOST, "memory after all requests is at most 1.1 times that after 10,000");
    report.check(outcomes.1 + outcomes.2 == 0, "a cut connection to Redis costs no request");
}

async fn run(stage: &Stage, requests: u64) -> Rc<Tally> {
    let tally = Tally::up_to(requests);
    let address = stage.address();
    let all = async {
        let clients: Vec<_> =
            (0..CLIENTS).map(|_| tokio::task::spawn_local(client(address, Rc::clone(&tally)))).collect();
        for client in clients {
            client.await.expect("a client ends");
        }
    };
    LocalSet::new().run_until(all).await;
    tally
}

/// Ends the front's connections to Redis while requests go on; the workers' stay.
fn cut_front(stage: &Stage) -> usize {
    stage.world.redis.cut_clients_named("tempest:")
}
