//! The limits of the request path.
//!
//! Numbers only; who keeps within them says what happens beyond.

use std::time::Duration;

use super::section::Section;
use super::value::{bytes, count, time};
use super::{ANY, KIB, MIB, SOME, TICK};

/// Every limit of the request path.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Open connections in all; further ones are answered 503 and closed.
    pub connections: usize,
    /// Open connections of one address (IPv6: of one /64), those of trusted proxies left out; further ones are answered
    /// 429 and closed; 0: no limit.
    pub connections_per_address: usize,
    /// Requests on one connection; the last is answered with `Connection: close`; 0: no limit.
    pub requests_per_connection: usize,
    /// Bytes of a request's head.
    pub head_bytes: usize,
    /// Header fields of a request.
    pub headers: usize,
    /// Time from a connection's first byte, or the last answer, to a whole head.
    pub head_time: Duration,
    /// Time an idle keep-alive connection is kept.
    pub idle_time: Duration,
    /// Time for the whole greeting of TLS.
    pub handshake_time: Duration,
    /// Requests and streams at the same time on one connection of HTTP/2.
    pub h2_streams: usize,
    /// Bytes of bodies that a client may send ahead on one connection of HTTP/2.
    pub h2_window: usize,
    /// Bytes of an answer that are held for one stream of HTTP/2 whose client takes nothing.
    pub h2_send_buffer: usize,
    /// Requests that a client may cancel on one connection of HTTP/2 within ten seconds.
    pub h2_resets: usize,
    /// Frames without work (pings, settings, priorities, empty data, needless window updates) on one connection of HTTP/2
    /// within ten seconds.
    pub h2_control_frames: usize,
    /// Time without any byte of a body.
    pub body_time: Duration,
    /// Bytes a second that a body has to come with on average; `body_time` is what it may be late; 0: no such limit.
    pub body_rate: usize,
    /// Bytes of request bodies held in one process.
    pub body_memory: usize,
    /// Requests that wait for an answer in one process.
    pub pending: usize,
    /// Requests of one client address (IPv6: of one /64) being handled in one process; 0: no limit.
    pub requests_per_address: usize,
    /// Bytes of one answer message.
    pub answer_bytes: usize,
    /// Bytes of a streamed answer held for a client that reads slowly, and of messages that came out of order.
    pub answer_buffer: usize,
    /// Messages of a streamed answer held because an earlier one is missing.
    pub answer_reorder: usize,
    /// Jobs in one queue; beyond it requests are refused.
    pub queue_depth: u64,
    /// The list is searched for the job of a client that left only up to this depth.
    pub withdraw_depth: u64,
    /// Bytes in the buffer towards Redis; beyond it requests are refused.
    pub outgoing_bytes: usize,
    /// How often one request is given to a worker, at most.
    pub attempts: u32,
    /// Workers that a job nobody waits for may crash before it is given up.
    pub crashes: u32,
    /// Jobs given up that are kept in a queue's list of dead ones; the oldest go.
    pub dead_letters: usize,
    /// Ids of withdrawn jobs noted in a queue; those with the earliest deadline go.
    pub withdrawn: usize,
}

/// HTTP/2 counts windows with 31 bits.
const H2_MOST: usize = (1 << 31) - 1;

/// Reads `[limits]`.
pub(super) fn read(mut section: Section<'_>) -> Limits {
    let s = &mut section;
    let limits = Limits {
        connections: s.get("connections", count(SOME), 16_384),
        connections_per_address: s.get("connections_per_address", count(ANY), 0),
        requests_per_connection: s.get("requests_per_connection", count(ANY), 0),
        // Hyper's buffer, which holds the head, cannot be made smaller.
        head_bytes: s.get("head_bytes", bytes(8 * KIB), 16 * KIB),
        headers: s.get("headers", count(1..=65_535), 100),
        head_time: s.get("head_time", time(TICK), Duration::from_secs(10)),
        idle_time: s.get("idle_time", time(TICK), Duration::from_secs(75)),
        handshake_time: s.get("handshake_time", time(TICK), Duration::from_secs(10)),
        h2_streams: s.get("h2_streams", count(1..=65_535), 128),
        h2_window: s.get("h2_window", bytes(64 * KIB), 256 * KIB),
        h2_send_buffer: s.get("h2_send_buffer", bytes(KIB), 64 * KIB),
        h2_resets: s.get("h2_resets", count(SOME), 500),
        h2_control_frames: s.get("h2_control_frames", count(SOME), 1000),
        body_time: s.get("body_time", time(TICK), Duration::from_secs(30)),
        body_rate: s.get("body_rate", bytes(0), 512),
        body_memory: s.get("body_memory", bytes(0), 256 * MIB),
        pending: s.get("pending", count(SOME), 16_384),
        requests_per_address: s.get("requests_per_address", count(ANY), 0),
        answer_bytes: s.get("answer_bytes", bytes(KIB), MIB),
        answer_buffer: s.get("answer_buffer", bytes(KIB), 8 * MIB),
        answer_reorder: s.get("answer_reorder", count(ANY), 64),
        queue_depth: s.get("queue_depth", count(SOME), 10_000) as u64,
        withdraw_depth: s.get("withdraw_depth", count(ANY), 200) as u64,
        outgoing_bytes: s.get("outgoing_bytes", bytes(KIB), 64 * MIB),
        attempts: s.get("attempts", count(1..=1000), 3) as u32,
        crashes: s.get("crashes", count(1..=1000), 3) as u32,
        dead_letters: s.get("dead_letters", count(SOME), 10_000),
        withdrawn: s.get("withdrawn", count(SOME), 100_000),
    };
    if limits.answer_buffer < limits.answer_bytes {
        section.problem("answer_buffer", "expected at least limits.answer_bytes, or a single message would not fit");
    }
    for (key, bytes) in [("h2_window", limits.h2_window), ("h2_send_buffer", limits.h2_send_buffer)] {
        if bytes > H2_MOST {
            section.problem(key, "expected less than 2GiB, which is what HTTP/2 can count");
        }
    }
    section.finish();
    limits
}
