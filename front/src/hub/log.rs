//! A channel's log as its readers follow it: what came last, and what has to be read because something was missed.
//!
//! Announcements are quick, the log is the truth. Where an announcement names another message before it than the one that
//! came last, or announcements may have been lost, everything behind the last one is read, once for all readers of the
//! channel. It must not know who reads.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::{Rc, Weak};
use std::time::Duration;

use bytes::Bytes;
use tempest_protocol::{Announcement, LogId, Payload, decode_payload};
use tokio::time::sleep;

use super::Hub;
use super::channel::{Channel, Message};
use super::frame::Frame;
use crate::backoff::Backoff;
use crate::broker::log::{From, LogEntry, LogReader, last_of};
use crate::config::History;
use crate::telemetry::PublicationKind;

/// Announcements kept while the log is read; those beyond it are in the log as well.
const EARLY: usize = 1024;
/// Waits between tries to read.
pub(super) const AGAIN: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

/// What is known of a channel's log.
pub(super) struct ChannelLog {
    /// Its key, and the channel of its announcements.
    pub(super) key: String,
    /// What is kept.
    pub(super) history: History,
    /// The message that came last; None: not asked yet.
    pub(super) last: Cell<Option<LogId>>,
    reading: Cell<bool>,
    early: RefCell<VecDeque<Early>>,
}

struct Early {
    id: LogId,
    prev: LogId,
    payload: Bytes,
}

/// Messages that a reader has missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Loss {
    /// How many; None: that cannot be known.
    pub(super) missing: Option<u64>,
    /// What the reader had last; None: it said something else than an id.
    pub(super) after: Option<LogId>,
    /// What comes next; None: what is published from now on.
    pub(super) next: Option<LogId>,
}

impl Loss {
    /// What proves that nothing lies between `after` and the first entry behind it, if that entry says so.
    pub(super) fn between(after: LogId, first: &LogEntry) -> Option<Self> {
        // Whoever writes to a log without our script names nothing: it proves nothing, and nothing speaks against it.
        let prev = first.prev?;
        let loss = Self { missing: after.missing_before(first.id), after: Some(after), next: Some(first.id) };
        (prev != after).then_some(loss)
    }

    /// All from behind `after` to `until` are gone.
    pub(super) fn up_to(after: LogId, until: LogId) -> Self {
        Self { missing: after.missing_before(until).map(|between| between + 1), after: Some(after), next: None }
    }

    /// The event that tells a reader.
    pub(super) fn event(&self, channel: &str) -> Vec<u8> {
        let text = |id: Option<LogId>| id.map(|id| id.to_string());
        let data = serde_json::json!({
            "after": text(self.after), "channel": channel, "missed": self.missing, "next": text(self.next),
        });
        format!("event: $lost\ndata: {data}\n\n").into_bytes()
    }
}

impl ChannelLog {
    pub(super) fn new(key: String, history: History) -> Self {
        Self { key, history, last: Cell::new(None), reading: Cell::new(false), early: RefCell::default() }
    }

    fn keep(&self, early: Early) {
        let mut all = self.early.borrow_mut();
        if all.len() == EARLY {
            all.pop_front();
        }
        all.push_back(early);
    }
}

impl Hub {
    /// A message came on the channel of a log's announcements.
    pub(super) fn announced(self: &Rc<Self>, channel: &Rc<Channel>, message: &[u8]) {
        let Some(log) = &channel.kind.log else { return };
        let Some(Announcement { id, prev, payload }) = Announcement::read(message) else { return };
        match log.last.get() {
            Some(last) if id <= last => {}
            Some(last) if prev == last && !log.reading.get() => self.deliver_logged(channel, log, id, payload),
            known => {
                log.keep(Early { id, prev, payload: Bytes::copy_from_slice(payload) });
                if known.is_some() {
                    self.catch_up_with(channel);
                }
            }
        }
    }

    /// The id of the channel's last message, asked for once.
    pub(super) async fn last_known(self: &Rc<Self>, channel: &Rc<Channel>, log: &ChannelLog) -> Option<LogId> {
        if log.last.get().is_none() {
            let last = last_of(&self.broker, &log.key).await.ok()?;
            if log.last.get().is_none() {
                log.last.set(Some(last));
                // What was announced meanwhile may be behind it.
                if !log.early.borrow().is_empty() {
                    self.catch_up_with(channel);
                }
            }
        }
        log.last.get()
    }

    /// Has everything read that may have been missed.
    pub(super) fn catch_up_with(self: &Rc<Self>, channel: &Rc<Channel>) {
        let Some(log) = &channel.kind.log else { return };
        if log.last.get().is_none() || log.reading.replace(true) {
            return;
        }
        let (hub, channel) = (Rc::clone(self), Rc::downgrade(channel));
        tokio::task::spawn_local(hub.read_missed(channel));
    }

    async fn read_missed(self: Rc<Self>, channel: Weak<Channel>) {
        let (mut pages, mut backoff) = (LogReader::default(), Backoff::new(AGAIN.0, AGAIN.1));
        loop {
            // Held between two waits only: a channel that nobody reads any more goes.
            let Some(held) = channel.upgrade() else { return };
            let Some(log) = &held.kind.log else { return };
            let Some(last) = log.last.get() else { return };
            let (key, known) = (log.key.clone(), log.early.borrow().back().map(|early| early.id));
            drop(held);
            let page = pages.page(&self.broker, &key, From::After(last), None).await;
            let ended = match &page {
                Ok(page) if page.is_empty() => last_of(&self.broker, &key).await,
                _ => Ok(last),
            };
            let Some(held) = channel.upgrade() else { return };
            let Some(log) = &held.kind.log else { return };
            match (page, ended) {
                (Ok(page), _) if !page.is_empty() => {
                    self.metrics.log_reads.inc();
                    self.deliver_page(&held, log, page);
                }
                (Ok(_), Ok(ended)) => {
                    if ended < last {
                        // The log was lost, or is an older state of itself.
                        self.deliver_loss(&held, Loss { missing: None, after: Some(last), next: None });
                        log.last.set(Some(ended));
                    }
                    if self.deliver_early(&held, log, known) {
                        log.reading.set(false);
                        return;
                    }
                }
                _ => {
                    let wait = backoff.next_wait();
                    drop(held);
                    sleep(wait).await;
                }
            }
        }
    }

    fn deliver_page(self: &Rc<Self>, channel: &Rc<Channel>, log: &ChannelLog, page: Vec<LogEntry>) {
        for entry in page {
            let last = log.last.get().unwrap_or_default();
            if let Some(loss) = Loss::between(last, &entry) {
                self.deliver_loss(channel, loss);
            }
            match &entry.payload {
                Some(payload) => self.deliver_logged(channel, log, entry.id, payload),
                None => log.last.set(Some(entry.id)),
            }
        }
    }

    /// What was announced while the log was read, which had nothing new: up to `known` it was announced before that. True
    /// where nothing is left that another look at the log has to explain.
    fn deliver_early(self: &Rc<Self>, channel: &Rc<Channel>, log: &ChannelLog, known: Option<LogId>) -> bool {
        loop {
            let last = log.last.get().unwrap_or_default();
            let Some(early) = log.early.borrow_mut().pop_front() else { return true };
            if early.id <= last {
                continue;
            }
            if early.prev != last {
                if Some(early.id) > known {
                    log.early.borrow_mut().push_front(early);
                    return false;
                }
                // The log was read up to its end, so neither this one nor what lies before it is there any more.
                let loss = Loss { missing: last.missing_before(early.id), after: Some(last), next: Some(early.id) };
                self.deliver_loss(channel, loss);
            }
            self.deliver_logged(channel, log, early.id, &early.payload);
        }
    }

    fn deliver_logged(self: &Rc<Self>, channel: &Rc<Channel>, log: &ChannelLog, id: LogId, payload: &[u8]) {
        log.last.set(Some(id));
        self.metrics.publications.inc(PublicationKind::History);
        let payload = decode_payload(payload, channel.kind.array_form, channel.kind.control);
        self.taps.hear(&channel.key, &payload);
        let frame = Frame::of(&payload, Some(id));
        channel.published.set(channel.published.get() + 1);
        self.deliver(channel, Message { frame, id: Some(id), channel: None, ours: false, hole: false });
        channel.time_latest(Duration::from_millis(self.broker.now_ms().saturating_sub(id.ms)));
        if payload == Payload::End {
            channel.end();
        }
    }

    fn deliver_loss(self: &Rc<Self>, channel: &Rc<Channel>, loss: Loss) {
        let frame = Frame::chunk(&loss.event(&channel.kind.name));
        tracing::warn!(channel = channel.kind.name, missing = ?loss.missing, "messages of a channel's history are gone");
        self.deliver(channel, Message { hole: true, ..Message::ours(frame) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> LogId {
        text.parse().expect("an id")
    }

    fn entry(at: &str, prev: Option<&str>) -> LogEntry {
        LogEntry { id: id(at), prev: prev.map(id), payload: Some(Bytes::new()) }
    }

    #[test]
    fn an_entry_that_names_the_last_one_proves_that_nothing_is_missing() {
        assert_eq!(Loss::between(id("5-3"), &entry("6-4", Some("5-3"))), None);
        assert_eq!(Loss::between(LogId::ZERO, &entry("6-1", Some("0-0"))), None);
        assert_eq!(Loss::between(id("5-3"), &entry("6-0", None)), None, "a stranger's");
    }

    #[test]
    fn what_is_missing_is_counted_where_that_is_possible() {
        let loss = Loss::between(id("5-3"), &entry("9-8", Some("8-7"))).expect("a loss");
        assert_eq!((loss.missing, loss.next), (Some(4), Some(id("9-8"))));
        let begun_anew = Loss::between(id("5-3"), &entry("9-2", Some("8-1"))).expect("a loss");
        assert_eq!(begun_anew.missing, None);
        let event = String::from_utf8(loss.event("news")).expect("text");
        assert_eq!(
            event,
            "event: $lost\ndata: {\"after\":\"5-3\",\"channel\":\"news\",\"missed\":4,\"next\":\"9-8\"}\n\n"
        );
    }
}
