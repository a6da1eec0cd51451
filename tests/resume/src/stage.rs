//! The processes: one Redis that keeps everything, three fronts on fixed ports, and who kills them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tempest_tests::{Front, Redis, free_port, scratch};
use tokio::time::sleep;

use crate::chance::Chance;
use crate::progress;

const FRONTS: usize = 3;

/// Where readers connect.
pub(crate) type Ports = Arc<[u16; FRONTS]>;

pub(crate) struct Stage {
    redis: Redis,
    fronts: Vec<Option<Front>>,
    ports: Ports,
    dir: PathBuf,
    mark: String,
    killed: (u32, u32, u32),
}

impl Stage {
    pub(crate) fn start() -> Self {
        let (dir, mark) = scratch();
        let mut redis = Redis::start(&dir.join("redis"), &mark);
        // What Redis has said to be published is on the disk: only then is «nothing is lost» the front's to keep.
        redis.keep(Some("always"));
        redis.restart();
        let ports = Arc::new(std::array::from_fn(|_| free_port()));
        let mut stage = Self { redis, fronts: Vec::new(), ports, dir, mark, killed: (0, 0, 0) };
        stage.fronts = (0..FRONTS).map(|nth| Some(stage.front(nth))).collect();
        stage.fronts.iter().flatten().for_each(Front::wait_ready);
        stage
    }

    fn front(&self, nth: usize) -> Front {
        let config = format!(
            "redis.url = \"{}\"\nfront.listen = [\"127.0.0.1:{}\"]\nfront.admin = \"127.0.0.1:0\"\nchannels.public = [\"*\"]\nlog.format = \
             \"json\"\nlog.level = \"error\"\nlimits.connections = 15000\n[[channels.rule]]\npattern = \"*\"\nhistory = {{ messages = 10000000, time \
             = \"1h\" }}",
            self.redis.url(),
            self.ports[nth],
        );
        // It says where it listens at the level of information.
        let config = config.replace("log.level = \"error\"\n", "");
        Front::start(&self.dir.join(format!("front{nth}")), &self.mark, &config)
    }

    pub(crate) fn fronts(&self) -> Ports {
        Arc::clone(&self.ports)
    }

    pub(crate) fn redis_port(&self) -> u16 {
        self.redis.port()
    }

    /// Kills a front every few seconds, Redis now and then, and connections to it, and starts everything again.
    pub(crate) async fn kill_until(&mut self, until: Instant, mut chance: Chance) {
        while Instant::now() < until {
            sleep(chance.ms(1500, 5000)).await;
            match chance.below(10) {
                0 | 1 => {
                    self.redis.kill();
                    self.killed.1 += 1;
                    sleep(chance.ms(0, 1500)).await;
                    self.redis.restart();
                }
                2 => self.killed.2 += self.redis.cut_clients_named("tempest:") as u32,
                // Those by which readers hear, and no others: what is published meanwhile they must get all the same.
                3 => self.killed.2 += self.redis.cut_subscriptions() as u32,
                _ => {
                    let nth = chance.below(FRONTS);
                    if let Some(mut front) = self.fronts[nth].take() {
                        front.process.kill();
                    }
                    self.killed.0 += 1;
                    sleep(chance.ms(0, 2000)).await;
                    self.fronts[nth] = Some(self.front(nth));
                }
            }
        }
        self.fronts.iter().flatten().for_each(Front::wait_ready);
        let (fronts, redis, connections) = self.killed;
        progress(&format!("killed: {fronts} fronts, {redis} times Redis, {connections} connections of fronts"));
    }

    pub(crate) fn end(mut self) {
        for front in self.fronts.iter_mut().flatten() {
            front.terminate();
        }
        self.redis.kill();
        let _ = std::fs::remove_dir_all(&self.dir);
        sleep_a_little();
    }
}

/// The kernel takes a moment to give back what the processes held.
fn sleep_a_little() {
    std::thread::sleep(Duration::from_millis(10));
}
