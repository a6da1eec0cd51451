//! Reading the logs of channels with history.
//!
//! A page is as many entries as are likely to fit into 64 KiB, so that one reader's past does not hold up
//! everybody else's present. It must not know what an entry means to whom, or keep anything.

use bytes::Bytes;
use redis_protocol::resp2::types::BytesFrame;
use tempest_protocol::LogId;

use super::{Broker, Command};

/// Bytes of a page, about.
const PAGE_BYTES: usize = 64 * 1024;
/// Entries of the first page, of which it is not known yet how large they are, and of the largest.
const ENTRIES: (usize, usize) = (4, 256);

/// A message in a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// Its id.
    pub id: LogId,
    /// The one before it, where whoever wrote it said so.
    pub prev: Option<LogId>,
    /// What was published; None: a stranger's entry without a field `data`, which is no message.
    pub payload: Option<Bytes>,
}

/// Redis did not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoReply;

/// Which part of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// Behind this message.
    After(LogId),
    /// From this moment on, in ms by the clock of Redis.
    Time(u64),
}

/// Reads a log page by page.
#[derive(Clone, Copy, Debug)]
pub struct LogReader {
    entries: usize,
}

impl Default for LogReader {
    fn default() -> Self {
        Self { entries: ENTRIES.0 }
    }
}

impl LogReader {
    /// The next entries, in order, up to `to`; fewer than there are. Empty: there are none.
    pub async fn page(
        &mut self,
        broker: &Broker,
        key: &str,
        from: From,
        to: Option<LogId>,
    ) -> Result<Vec<LogEntry>, NoReply> {
        let start = match from {
            From::After(id) => format!("({id}"),
            From::Time(ms) => format!("{ms}-0"),
        };
        let (end, count) = (to.map_or("+".to_owned(), |to| to.to_string()), self.entries.to_string());
        let parts =
            [b"XRANGE".as_slice(), key.as_bytes(), start.as_bytes(), end.as_bytes(), b"COUNT", count.as_bytes()];
        let page = entries(broker.call_bulk(Command::new(&parts)).await.map_err(|_| NoReply)?)?;
        let bytes: usize = page.iter().filter_map(|entry| entry.payload.as_ref()).map(Bytes::len).sum();
        let fit = self.entries * PAGE_BYTES / bytes.max(1);
        self.entries = fit.clamp(1, ENTRIES.1);
        Ok(page)
    }
}

/// The id of a log's last entry; `0-0` where there is none.
pub async fn last_of(broker: &Broker, key: &str) -> Result<LogId, NoReply> {
    let command = Command::new(&[b"XREVRANGE", key.as_bytes(), b"+", b"-", b"COUNT", b"1"]);
    let last = entries(broker.call_bulk(command).await.map_err(|_| NoReply)?)?;
    Ok(last.first().map_or(LogId::ZERO, |entry| entry.id))
}

fn entries(reply: BytesFrame) -> Result<Vec<LogEntry>, NoReply> {
    match reply {
        BytesFrame::Array(entries) => entries.into_iter().map(|entry| read(entry).ok_or(NoReply)).collect(),
        BytesFrame::Null => Ok(Vec::new()),
        other => {
            tracing::warn!("a log cannot be read: {}", super::text_of(&other));
            Err(NoReply)
        }
    }
}

fn read(entry: BytesFrame) -> Option<LogEntry> {
    let BytesFrame::Array(parts) = entry else { return None };
    let [BytesFrame::BulkString(id), BytesFrame::Array(fields)] = &parts[..] else { return None };
    let number = |text: &Bytes| std::str::from_utf8(text).ok()?.parse().ok();
    let field = |name: &str| {
        fields.chunks_exact(2).find_map(|pair| match pair {
            [BytesFrame::BulkString(key), BytesFrame::BulkString(value)] if *key == name => Some(value.clone()),
            _ => None,
        })
    };
    Some(LogEntry { id: number(id)?, prev: field("prev").as_ref().and_then(number), payload: field("data") })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &'static str) -> BytesFrame {
        BytesFrame::BulkString(Bytes::from_static(text.as_bytes()))
    }

    #[test]
    fn entries_of_strangers_are_read_as_far_as_they_go() {
        let entry = |fields: &[&'static str]| {
            let fields = fields.iter().map(|field| text(field)).collect();
            BytesFrame::Array(vec![text("7-2"), BytesFrame::Array(fields)])
        };
        let id = LogId { ms: 7, number: 2 };
        let whole = LogEntry { id, prev: Some(LogId { ms: 7, number: 1 }), payload: Some(Bytes::from_static(b"hi")) };
        assert_eq!(read(entry(&["prev", "7-1", "data", "hi"])), Some(whole));
        let data = LogEntry { id, prev: None, payload: Some(Bytes::from_static(b"hi")) };
        assert_eq!(read(entry(&["other", "x", "data", "hi"])), Some(data));
        assert_eq!(read(entry(&["prev", "scribble"])), Some(LogEntry { id, prev: None, payload: None }));
        assert_eq!(read(text("7-2")), None);
    }
}
