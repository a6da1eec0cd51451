//! What the kernel knows: processor time and memory of process trees, and how busy the whole machine is. Linux only.

use std::collections::HashMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};

/// Clock ticks a second in `/proc`: fixed at 100 in what Linux shows to programs (proc(5), `sysconf(_SC_CLK_TCK)`).
const TICKS: f64 = 100.0;
/// Bytes in which the kernel counts the buffers of TCP, on the processors that this runs on.
const PAGE: u64 = 4096;

/// One process in `/proc/PID/stat`.
struct Stat {
    parent: u32,
    ticks: u64,
}

fn stat(pid: u32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may contain anything, so fields are counted from its end.
    let fields: Vec<&str> = text.rsplit_once(") ")?.1.split(' ').collect();
    let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
    Some(Stat { parent: u32::try_from(number(1)?).ok()?, ticks: number(11)? + number(12)? })
}

/// A process and all its descendants.
pub(crate) fn tree(root: u32) -> Vec<u32> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        if let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok())
            && let Some(stat) = stat(pid)
        {
            children.entry(stat.parent).or_default().push(pid);
        }
    }
    let mut all = vec![root];
    let mut at = 0;
    while at < all.len() {
        all.extend(children.remove(&all[at]).unwrap_or_default());
        at += 1;
    }
    all
}

/// Seconds of processor time that these processes have used, user and system.
pub(crate) fn cpu_seconds(pids: &[u32]) -> f64 {
    pids.iter().filter_map(|pid| stat(*pid)).map(|stat| stat.ticks as f64).sum::<f64>() / TICKS
}

/// The same to the nanosecond, of threads that still run: for processes that do next to nothing, of which a clock tick
/// would be a good part.
pub(crate) fn fine_cpu_seconds(pids: &[u32]) -> f64 {
    let of_thread = |entry: fs::DirEntry| {
        let text = fs::read_to_string(entry.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    };
    let of = |pid: &u32| {
        let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        threads.filter_map(of_thread).sum::<u64>()
    };
    pids.iter().map(of).sum::<u64>() as f64 / 1e9
}

/// The same of this process.
pub(crate) fn own_cpu_seconds() -> f64 {
    cpu_seconds(&[std::process::id()])
}

/// Memory of these processes in bytes: their proportional share of resident pages, so that what several have in common
/// (a fork's pages, shared memory) counts once.
pub(crate) fn memory(pids: &[u32]) -> u64 {
    let of = |pid: &u32| {
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
        line.trim().trim_end_matches(" kB").trim().parse::<u64>().ok()
    };
    pids.iter().filter_map(of).sum::<u64>() * 1024
}

/// Memory of the kernel in bytes: its own objects, sockets among them, and what waits in the buffers of TCP. Of the whole
/// machine, and so of both ends of a connection.
pub(crate) fn kernel_memory() -> u64 {
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let slab = memory.lines().find_map(|line| line.strip_prefix("Slab:"));
    let slab = slab.and_then(|text| text.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or_default();
    let sockets = fs::read_to_string("/proc/net/sockstat").unwrap_or_default();
    let words = sockets.lines().find(|line| line.starts_with("TCP:")).map(|line| line.split(' ').collect::<Vec<_>>());
    let pages = words.and_then(|words| words.last()?.parse::<u64>().ok()).unwrap_or_default();
    slab * 1024 + pages * PAGE
}

/// A connection as its server's end sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Connection {
    /// The client's address.
    pub(crate) client: Ipv4Addr,
    /// Bytes that the kernel has not got rid of yet.
    pub(crate) unsent: u64,
}

/// The connections that a server has open, or has not closed yet.
pub(crate) fn connections(server: SocketAddr) -> Vec<Connection> {
    let SocketAddr::V4(server) = server else { return Vec::new() };
    let local = format!("{:08X}:{:04X}", u32::from_le_bytes(server.ip().octets()), server.port());
    let table = fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    let rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    // 01 is ESTABLISHED, 08 CLOSE_WAIT: the client has closed and the server has not.
    let rows = rows.filter(|row| row.get(1) == Some(&local.as_str()) && matches!(row.get(3), Some(&"01" | &"08")));
    let hexadecimal = |text: &str| u64::from_str_radix(text, 16).ok();
    let connection = |row: Vec<&str>| {
        let client = u32::try_from(hexadecimal(row.get(2)?.split(':').next()?)?).ok()?;
        let unsent = hexadecimal(row.get(4)?.split(':').next()?)?;
        Some(Connection { client: Ipv4Addr::from(client.to_le_bytes()), unsent })
    };
    rows.filter_map(connection).collect()
}

/// Seconds in which the machine's processors were busy, and seconds they had, since it started.
pub(crate) fn machine_seconds() -> (f64, f64) {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let ticks: Vec<f64> =
        text.lines().next().unwrap_or_default().split_whitespace().filter_map(|word| word.parse().ok()).collect();
    // user nice system idle iowait irq softirq steal; the guests' are in user already (proc(5)).
    let all: f64 = ticks.iter().take(8).sum();
    let idle: f64 = ticks.iter().skip(3).take(2).sum();
    ((all - idle) / TICKS, all / TICKS)
}

/// The machine in a line: processors, memory, kernel.
pub(crate) fn describe() -> String {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let count = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = rustix::system::uname();
    let model = model.trim_start_matches([' ', '\t', ':']);
    format!("{count} × {model}, Linux {}", kernel.release().to_string_lossy())
}
