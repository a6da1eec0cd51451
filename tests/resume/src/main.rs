//! The resume run: readers that come and go, and come back with their last event id to any of three fronts, while fronts
//! and Redis are killed and started again. What each of them got is held to the numbers that were published.
//!
//! It must not know how the front does it: what it speaks is HTTP, and the script of the contract.

mod chance;
mod publisher;
mod reader;
mod stage;

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;

use crate::chance::Chance;
use crate::reader::{Counts, Reader};
use crate::stage::Stage;

/// Channels, each with one publisher.
const CHANNELS: usize = 10;
/// Time between two messages of a channel.
const EVERY: Duration = Duration::from_millis(100);
/// Messages kept in the run that must lose nothing: all of them.
const KEPT: usize = 10_000_000;
/// Messages kept in the run that must lose some, and how many are published while its readers are away.
const FEW: (usize, u64) = (20, 100);
/// In which every reader must have got everything, once nothing is killed any more.
const CATCH_UP: Duration = Duration::from_secs(90);

/// Kills fronts and Redis under readers that come and go, and checks that each gets everything, once and in order.
#[derive(Debug, Parser)]
#[command(
    name = "resume",
    bin_name = "./dev resume",
    after_help = "Exit codes: 0 nothing was lost, doubled or out of order; 1 something was."
)]
struct Arguments {
    /// How long things are killed.
    #[arg(long, value_name = "N", default_value_t = 5.0)]
    minutes: f64,
    /// Readers, at most 10,000.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    clients: u64,
    /// Repeats the choices of a run.
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let seed = arguments.seed.unwrap_or_else(|| u64::from(std::process::id()));
    progress(&format!("seed {seed}, {} readers, {} minutes", arguments.clients, arguments.minutes));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut stage = Stage::start();
    let counts = Arc::new(Counts::default());
    let broken =
        runtime.block_on(tokio::task::LocalSet::new().run_until(strict(&mut stage, &arguments, seed, &counts)));
    let told = runtime.block_on(tokio::task::LocalSet::new().run_until(losing(&mut stage, seed)));
    stage.end();
    let report = format!("{}\n{told}\n", counts.table());
    let _ = std::io::stdout().write_all(report.as_bytes());
    if broken + counts.faults() == 0 && told.starts_with("losses") { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Everything is kept, so nothing may be missing. Gives how many readers have not got everything in the end.
async fn strict(stage: &mut Stage, arguments: &Arguments, seed: u64, counts: &Arc<Counts>) -> u64 {
    let publishers = publisher::start_all(stage.redis_port(), "log", CHANNELS, KEPT, EVERY);
    let fronts = stage.fronts();
    let mut readers = Vec::new();
    for nth in 0..arguments.clients {
        let mut chance = Chance::new(seed ^ nth.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        // Every tenth reads two channels in one stream.
        let first = nth as usize % CHANNELS;
        let mut channels = vec![first];
        channels.extend((nth % 10 == 9).then(|| (first + 1 + chance.below(CHANNELS - 1)) % CHANNELS));
        let reader = Reader::new("log", &channels, chance, Arc::clone(&fronts), Arc::clone(counts));
        readers.push(tokio::task::spawn_local(reader.run()));
    }
    let until = Instant::now() + Duration::from_secs_f64(arguments.minutes * 60.0);
    stage.kill_until(until, Chance::new(seed)).await;
    progress("nothing is killed any more");
    let last = publishers.stop().await;
    counts.end_at(&last);
    let deadline = tokio::time::Instant::now() + CATCH_UP;
    let mut missing = 0;
    for reader in readers {
        missing += u64::from(tokio::time::timeout_at(deadline, reader).await.is_err());
    }
    progress(&format!("{} messages; {missing} readers have not got them all", last.iter().sum::<u64>()));
    missing
}

/// A few messages are kept, so a reader that was away too long must be told exactly how many are gone.
async fn losing(stage: &mut Stage, seed: u64) -> String {
    let (kept, published) = FEW;
    let counts = Arc::new(Counts::default());
    let mut reader = Reader::new("few", &[0], Chance::new(seed), stage.fronts(), Arc::clone(&counts));
    let port = stage.redis_port();
    let mut next = publisher::publish_some(port, "few", kept, 0, 5).await;
    let mut right = 0;
    const ROUNDS: u64 = 20;
    for _ in 0..ROUNDS {
        reader.read_to(next).await;
        next = publisher::publish_some(port, "few", kept, next, published).await;
        // It has all up to `next - published`; the last `kept` are left.
        let told = reader.read_loss_and_to(next).await;
        right += u64::from(told == Some(published - kept as u64));
    }
    if right == ROUNDS {
        format!("losses on purpose: {ROUNDS} of {ROUNDS} announced with the right number")
    } else {
        format!("LOSSES ON PURPOSE: {right} of {ROUNDS} announced with the right number")
    }
}

/// What happens, while it happens.
fn progress(text: &str) {
    let _ = writeln!(std::io::stderr(), "resume: {text}");
}
