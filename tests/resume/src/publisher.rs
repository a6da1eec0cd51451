//! Publishers: each numbers the messages of one channel, and sends a message again, under the same key, until Redis says
//! that it is published. So the numbers have no gap and come once, whatever is killed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tempest_tests::repository;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

/// A reply that takes longer counts as none.
const REPLY: Duration = Duration::from_secs(3);
/// Before it is tried again.
const AGAIN: Duration = Duration::from_millis(50);

/// All publishers of a run.
pub(crate) struct Publishers {
    tasks: Vec<JoinHandle<u64>>,
    stop: Arc<AtomicBool>,
}

impl Publishers {
    /// Stops them; gives how many messages each has published.
    pub(crate) async fn stop(self) -> Vec<u64> {
        self.stop.store(true, Ordering::Relaxed);
        let mut published = Vec::new();
        for task in self.tasks {
            published.push(task.await.expect("no panic"));
        }
        published
    }
}

/// Starts one a channel, `<name>.0` and up.
pub(crate) fn start_all(port: u16, name: &'static str, channels: usize, kept: usize, every: Duration) -> Publishers {
    let stop = Arc::new(AtomicBool::new(false));
    let publisher = |channel| {
        let stop = Arc::clone(&stop);
        tokio::task::spawn_local(async move {
            let mut link = Link::new(port);
            let mut number = 0;
            while !stop.load(Ordering::Relaxed) {
                link.publish(&format!("{name}.{channel}"), number, kept).await;
                number += 1;
                sleep(every).await;
            }
            number
        })
    };
    Publishers { tasks: (0..channels).map(publisher).collect(), stop }
}

/// Publishes so many messages from `first` on; gives the number behind the last.
pub(crate) async fn publish_some(port: u16, name: &str, kept: usize, first: u64, count: u64) -> u64 {
    let mut link = Link::new(port);
    for number in first..first + count {
        link.publish(&format!("{name}.0"), number, kept).await;
    }
    first + count
}

/// A connection that is made again when it breaks.
struct Link {
    port: u16,
    script: String,
    stream: Option<BufReader<TcpStream>>,
}

impl Link {
    fn new(port: u16) -> Self {
        let path = repository().join("worker-sdk/protocol/scripts/publish.lua");
        Self { port, script: std::fs::read_to_string(path).expect("the script"), stream: None }
    }

    async fn publish(&mut self, channel: &str, number: u64, kept: usize) {
        let (log, once) = (format!("tempest:log:{channel}"), format!("{{tempest:log:{channel}}}:once:{number}"));
        let (payload, kept) = (number.to_string(), kept.to_string());
        let parts = ["EVAL", &self.script, "2", &log, &once, &payload, &kept, "3600000", "600000"];
        let mut command = format!("*{}\r\n", parts.len());
        parts.iter().for_each(|part| command += &format!("${}\r\n{part}\r\n", part.len()));
        while !self.try_command(&command).await {
            self.stream = None;
            sleep(AGAIN).await;
        }
    }

    /// True where the reply was a list: the id, and what else the script gives.
    async fn try_command(&mut self, command: &str) -> bool {
        if self.stream.is_none() {
            let Ok(stream) = TcpStream::connect(("127.0.0.1", self.port)).await else { return false };
            self.stream = Some(BufReader::new(stream));
        }
        let Some(stream) = &mut self.stream else { return false };
        let work = async {
            stream.write_all(command.as_bytes()).await.ok()?;
            let mut line = String::new();
            stream.read_line(&mut line).await.ok().filter(|read| *read > 0)?;
            if !line.starts_with('*') {
                // Redis reads its data back, say.
                return None;
            }
            for _ in 0..3 {
                line.clear();
                stream.read_line(&mut line).await.ok().filter(|read| *read > 0)?;
                if let Some(length) = line.strip_prefix('$') {
                    let mut text = vec![0; length.trim().parse::<usize>().ok()? + 2];
                    stream.read_exact(&mut text).await.ok()?;
                }
            }
            Some(())
        };
        matches!(timeout(REPLY, work).await, Ok(Some(())))
    }
}
