//! Many streams: what it takes to open and to hold them, and what those that do not read do to the others.

use std::net::SocketAddr;

use tempest_tests::wait_until;

use super::{Usage, number, times};
use crate::load::{Child, Hold, OPENING, Phase, Sources, Spec};
use crate::machine;
use crate::peers::Server;
use crate::plan::Sample;

/// A load that holds streams of a server at one of its addresses, none of them open yet; so many will be opened at a time.
fn holder(
    server: &Server,
    address: SocketAddr,
    count: usize,
    at_a_time: usize,
    reads: bool,
) -> Result<(Child, Sources), String> {
    let streams = server.streams.as_ref().ok_or("it serves no streams")?;
    let path = streams.paths.first().ok_or("it serves no streams")?.clone();
    let sources = Sources::take(count);
    let by = streams.by.clone();
    let (child, _) = Child::start(&Spec::Hold(Hold { address, by, path, count, sources, at_a_time, reads }))?;
    Ok((child, sources))
}

/// Opens `count` streams at each of `addresses` and holds them; all must be open in the end.
pub(crate) fn held(server: &Server, addresses: &[SocketAddr], count: usize) -> Result<Sample, String> {
    let kernel = machine::kernel_memory();
    let all = (count * addresses.len()) as f64;
    let (mut sample, mut children, mut seconds) = (Sample::new(), Vec::new(), 0.0);
    for address in addresses {
        let (mut child, _) = holder(server, *address, count, OPENING, true)?;
        let usage = Usage::now(server, &child);
        let result = child.phase()?;
        seconds += number(&result, "seconds");
        // Of the last address; fronts are alike, and one load is measured at a time.
        usage.into_sample(server, &child, count as f64, "open_", &mut sample);
        times(&result, "open_", &mut sample);
        children.push(child);
    }
    let memory = machine::memory(&server.pids());
    let kernel = machine::kernel_memory().saturating_sub(kernel);
    for child in &mut children {
        let closed = number(&child.phase()?, "closed");
        if closed > 0.0 {
            return Err(format!("{closed} streams were closed while nothing happened"));
        }
    }
    drop(children);
    // The next case must not find them.
    for address in addresses {
        wait_until("all streams to be closed", || machine::connections(*address).is_empty());
    }
    sample.insert("open_s".into(), seconds);
    sample.insert("open_per_s".into(), all / seconds);
    sample.insert("idle_kb".into(), memory.saturating_sub(server.memory) as f64 / 1024.0 / all);
    sample.insert("kernel_kb".into(), kernel as f64 / 1024.0 / all);
    sample.insert("memory_mb".into(), memory as f64 / 1e6);
    Ok(sample)
}

/// Opens `count` streams, one after another, and holds all of them: what the server takes once, and what for each further
/// stream, by the line that lies nearest to its memory at each `step` (least squares). Many that are opened at a time have
/// buffers at the same time, which are used for later streams then: the line would bend.
pub(crate) fn grown(server: &Server, step: usize, count: usize) -> Result<Sample, String> {
    let (mut children, mut points) = (Vec::new(), Vec::new());
    for open in (step..=count).step_by(step) {
        let (mut child, _) = holder(server, server.address, step, 1, true)?;
        child.phase()?;
        children.push(child);
        points.push((open as f64, machine::memory(&server.pids()) as f64));
    }
    for child in &mut children {
        let closed = number(&child.phase()?, "closed");
        if closed > 0.0 {
            return Err(format!("{closed} streams were closed while nothing happened"));
        }
    }
    drop(children);
    wait_until("all streams to be closed", || machine::connections(server.address).is_empty());
    let begin = server.memory as f64;
    let (once, slope) = line(&points);
    let (first, last) = points.split_at(points.len() / 2);
    let (first, last) = (line(first).1, line(last).1);
    let off = points.iter().map(|(open, memory)| (memory - once - slope * open).abs()).fold(0.0, f64::max);
    let mut sample = Sample::from([
        ("begin_mb".into(), begin / 1e6),
        ("once_mb".into(), (once - begin) / 1e6),
        ("slope_bytes".into(), slope),
        ("first_bytes".into(), first),
        ("last_bytes".into(), last),
        ("bend".into(), last / first.max(1.0)),
        ("off_mb".into(), off / 1e6),
        ("memory_mb".into(), points.last().map_or(begin, |(_, memory)| *memory) / 1e6),
    ]);
    // No columns, but kept: whoever doubts the line can draw the points.
    sample.extend(points.iter().map(|(open, memory)| (format!("mb_at_{open}"), memory / 1e6)));
    Ok(sample)
}

/// Where the line nearest to these points begins, and how much it grows by each further one.
fn line(points: &[(f64, f64)]) -> (f64, f64) {
    let count = points.len().max(1) as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let spread: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
    let slope = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum::<f64>() / spread.max(1.0);
    (y - slope * x, slope)
}

/// Readers, and what they get, where some clients do not read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StalledWork {
    /// Those that read, and are measured.
    pub(crate) readers: usize,
    /// Those that do not.
    pub(crate) stalled: usize,
    /// Messages a second, and how many, that fill what lies between the server and who does not read.
    pub(crate) fill: (f64, u64),
    /// The same, of what is measured.
    pub(crate) rate: (f64, u64),
}

/// The same messages to the same readers, alone and beside those that do not read.
pub(crate) fn stalled(server: &Server, work: StalledWork) -> Result<Sample, String> {
    let mut sample = Sample::new();
    for (prefix, stalled) in [("alone_", 0), ("beside_", work.stalled)] {
        let streams = server.streams.clone().ok_or("it serves no streams")?;
        let (mut holding, sources) = holder(server, server.address, stalled, OPENING, false)?;
        holding.phase()?;
        let phases = [work.fill, work.rate].map(|(per_second, messages)| Phase::Rate { per_second, messages }).into();
        let spec = Spec::Streams { address: server.address, streams, count: work.readers, phases };
        let (mut child, _) = Child::start(&spec)?;
        child.phase()?;
        child.phase()?;
        let stuck = || {
            let all = machine::connections(server.address).into_iter();
            all.filter(|one| sources.has(one.client) && one.unsent > 0).count() as f64
        };
        sample.insert(format!("{prefix}stuck"), stuck());
        let usage = Usage::now(server, &child);
        let result = child.phase()?;
        usage.into_sample(server, &child, number(&result, "deliveries"), prefix, &mut sample);
        times(&result, prefix, &mut sample);
        sample.insert(format!("{prefix}stuck_after"), stuck());
        drop((child, holding));
        wait_until("all streams to be closed", || machine::connections(server.address).is_empty());
    }
    let p99 = |prefix: &str| sample.get(&format!("{prefix}p99_ms")).copied().unwrap_or_default();
    let ratio = p99("beside_") / p99("alone_").max(0.001);
    sample.insert("p99_ratio".into(), ratio);
    Ok(sample)
}
