//! What a client of HTTP/2 makes a server do, counted frame by frame before hyper sees it.
//!
//! hyper and its `h2` bound what a client can make them hold. They do not bound what it can have them do for nothing: a
//! ping is answered and a cancelled request begun, however many come. The heads of frames (RFC 9113, section 4.1) are
//! enough to know that. It must not know what is in a frame.

use std::time::{Duration, Instant};

/// The time in which the allowed numbers are allowed.
pub(super) const WITHIN: Duration = Duration::from_secs(10);
/// Bytes of the connection's preface.
const PREFACE: usize = 24;
/// Bytes of a frame's head.
const HEAD: usize = 9;
/// Window updates that may come for what was written, at most; and the bytes written for which one more may.
const MOST_CREDIT: usize = 10_000;
const CREDIT_BYTES: usize = 1024;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// Too much of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Excess {
    /// Requests were cancelled.
    Resets,
    /// Frames without work came.
    Control,
}

/// What has come on one connection.
#[derive(Debug)]
pub(super) struct Meter {
    /// Bytes of the preface, or of a frame, that are still to come.
    left: usize,
    head: [u8; HEAD],
    /// Bytes of a frame's head that have come.
    have: usize,
    /// The frame that is under way; DATA between two.
    kind: u8,
    /// A request's head is under way: the frames of it follow on each other.
    head_open: bool,
    /// Since when a frame, or a head of several, that is no DATA is under way.
    pub(super) since: Option<Instant>,
    /// The last stream that was begun.
    pub(super) last_stream: u32,
    resets: Allowance,
    control: Allowance,
    credit: usize,
}

impl Meter {
    /// `resets` and `control`: how many of each may come within [`WITHIN`].
    pub(super) fn new(resets: usize, control: usize, now: Instant) -> Self {
        Self {
            left: PREFACE,
            head: [0; HEAD],
            have: 0,
            kind: DATA,
            head_open: false,
            since: None,
            last_stream: 0,
            resets: Allowance::new(resets, now),
            control: Allowance::new(control, now),
            credit: 0,
        }
    }

    /// Notes what was written: for that, windows may be opened.
    pub(super) fn wrote(&mut self, bytes: usize) {
        self.credit = (self.credit + 1 + bytes / CREDIT_BYTES).min(MOST_CREDIT);
    }

    /// Takes what was read.
    ///
    /// # Errors
    /// More of something came than may.
    pub(super) fn read(&mut self, mut bytes: &[u8], now: Instant) -> Result<(), Excess> {
        while !bytes.is_empty() {
            let skipped = self.left.min(bytes.len());
            self.left -= skipped;
            bytes = &bytes[skipped..];
            let taken = (HEAD - self.have).min(bytes.len());
            self.head[self.have..self.have + taken].copy_from_slice(&bytes[..taken]);
            self.have += taken;
            bytes = &bytes[taken..];
            if self.have == HEAD {
                self.have = 0;
                self.frame(now)?;
            }
        }
        let is_open = self.have > 0 || self.head_open || (self.left > 0 && self.kind != DATA);
        self.since = is_open.then(|| self.since.unwrap_or(now));
        Ok(())
    }

    fn frame(&mut self, now: Instant) -> Result<(), Excess> {
        let [a, b, c, kind, flags, stream @ ..] = self.head;
        self.left = u32::from_be_bytes([0, a, b, c]) as usize;
        self.kind = kind;
        match kind {
            HEADERS | CONTINUATION => {
                self.head_open = flags & END_HEADERS == 0;
                if kind == HEADERS {
                    self.last_stream = u32::from_be_bytes(stream) & (u32::MAX >> 1);
                }
                Ok(())
            }
            RESET => self.resets.take(now).ok_or(Excess::Resets),
            DATA if self.left > 0 || flags & END_STREAM != 0 => Ok(()),
            WINDOW_UPDATE if self.credit > 0 => {
                self.credit -= 1;
                Ok(())
            }
            _ => self.control.take(now).ok_or(Excess::Control),
        }
    }
}

/// So many within a time, all at once if need be.
#[derive(Debug)]
struct Allowance {
    most: f64,
    left: f64,
    at: Instant,
}

impl Allowance {
    fn new(most: usize, now: Instant) -> Self {
        Self { most: most as f64, left: most as f64, at: now }
    }

    fn take(&mut self, now: Instant) -> Option<()> {
        let passed = now.saturating_duration_since(self.at).as_secs_f64() / WITHIN.as_secs_f64();
        self.left = (self.left + passed * self.most).min(self.most);
        self.at = now;
        self.left -= 1.0;
        (self.left >= 0.0).then_some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: u8 = 4;
    const PING: u8 = 6;

    fn frame(kind: u8, flags: u8, payload: usize) -> Vec<u8> {
        let mut bytes = vec![0, (payload >> 8) as u8, payload as u8, kind, flags, 0, 0, 0, 7];
        bytes.resize(HEAD + payload, b'x');
        bytes
    }

    fn begun(resets: usize, control: usize) -> (Meter, Instant) {
        let now = Instant::now();
        let mut meter = Meter::new(resets, control, now);
        meter.read(&[b'p'; PREFACE], now).expect("a preface is no frame");
        (meter, now)
    }

    #[test]
    fn frames_are_counted_however_they_are_cut() {
        let bytes = [frame(SETTINGS, 0, 6), frame(HEADERS, 5, 40), frame(RESET, 0, 4), frame(PING, 0, 8)].concat();
        for size in [1, 2, 7, 9, 50, bytes.len()] {
            let (mut meter, now) = begun(1, 2);
            for piece in bytes.chunks(size) {
                assert_eq!(meter.read(piece, now), Ok(()), "{size}");
            }
            assert_eq!((meter.last_stream, meter.since), (7, None));
            assert_eq!(meter.read(&frame(PING, 0, 0), now), Err(Excess::Control), "{size}");
            assert_eq!(meter.read(&frame(RESET, 0, 0), now), Err(Excess::Resets), "{size}");
        }
    }

    #[test]
    fn what_is_allowed_comes_back_with_time() {
        let (mut meter, now) = begun(10, 1);
        (0..10).for_each(|_| assert_eq!(meter.read(&frame(RESET, 0, 4), now), Ok(())));
        assert_eq!(meter.read(&frame(RESET, 0, 4), now), Err(Excess::Resets));
        let (mut meter, now) = begun(10, 1);
        let later = |n: u32| now + WITHIN / 10 * n;
        (0..1000).for_each(|n| assert_eq!(meter.read(&frame(RESET, 0, 4), later(n)), Ok(())));
    }

    #[test]
    fn windows_may_be_opened_for_what_was_written() {
        let (mut meter, now) = begun(1, 1);
        let update = frame(WINDOW_UPDATE, 0, 4);
        meter.wrote(4 * CREDIT_BYTES);
        (0..5).for_each(|_| assert_eq!(meter.read(&update, now), Ok(())));
        assert_eq!((meter.read(&update, now), meter.read(&update, now)), (Ok(()), Err(Excess::Control)));
    }

    #[test]
    fn data_counts_where_there_is_none_in_it() {
        let (mut meter, now) = begun(1, 1);
        for data in [frame(DATA, 0, 1), frame(DATA, END_STREAM, 0), frame(DATA, 0, 16)] {
            assert_eq!(meter.read(&data, now), Ok(()));
        }
        let empty = frame(DATA, 0, 0);
        assert_eq!((meter.read(&empty, now), meter.read(&empty, now)), (Ok(()), Err(Excess::Control)));
    }

    #[test]
    fn a_head_that_goes_on_has_begun_when_it_began() {
        let (mut meter, now) = begun(1, 1);
        let later = now + Duration::from_secs(1);
        meter.read(&frame(HEADERS, 0, 40), now).expect("one head");
        assert_eq!(meter.since, Some(now));
        meter.read(&frame(CONTINUATION, 0, 40), later).expect("more of it");
        assert_eq!(meter.since, Some(now), "what comes later does not extend its time");
        meter.read(&frame(CONTINUATION, END_HEADERS, 40)[..30], later).expect("almost the rest");
        meter.read(&[b'x'; 19], later).expect("the rest");
        assert_eq!(meter.since, None);
        meter.read(&frame(DATA, 0, 400)[..30], later).expect("a part of a body");
        assert_eq!(meter.since, None, "bodies have a time of their own");
    }
}
