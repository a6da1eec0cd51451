//! A stream that begins in the past: what it has missed comes from the log, page by page, until the ring has the rest.
//!
//! Only such streams have this task's state, and only until then. What is published meanwhile waits in the ring; if that
//! runs over, the reader takes a new place at its end and reads on. It costs what was missed, never what is kept.

use std::future::poll_fn;
use std::time::Duration;

use tempest_protocol::{Payload, decode_payload};
use tokio::time::timeout;

use super::channel::Message;
use super::frame::Frame;
use super::log::Loss;
use super::opening::Begin;
use super::stream::Stream;
use crate::broker::log::{From, LogEntry, LogReader};
use crate::telemetry::StreamDrop;

/// A reader that takes nothing for so long while it is sent what it has missed is disconnected.
const STALLED: Duration = Duration::from_secs(30);

/// Why a stream ends before it has caught up.
enum Ended {
    Client,
    Slow,
    /// Redis is away: the reader is to come back.
    Away,
}

impl<G> Stream<G> {
    /// Sends the head and what was missed in each channel; None: the stream goes on; else it has ended, and why.
    pub(super) async fn catch_up(&mut self, begins: Vec<Begin>) -> Option<StreamDrop> {
        match self.catch_up_all(begins).await {
            Ok(()) => None,
            Err(Ended::Client) => Some(StreamDrop::Client),
            Err(Ended::Slow) => Some(StreamDrop::Slow),
            // Closed as it is: the reader comes back by itself, with the id of what it had last.
            Err(Ended::Away) => Some(StreamDrop::Away),
        }
    }

    async fn catch_up_all(&mut self, begins: Vec<Begin>) -> Result<(), Ended> {
        let own = self.take_own();
        self.send(&own).await?;
        for (at, begin) in begins.into_iter().enumerate() {
            if begin.is_behind() {
                self.catch_up_in(at, begin).await?;
            }
        }
        Ok(())
    }

    async fn catch_up_in(&mut self, at: usize, begin: Begin) -> Result<(), Ended> {
        let Begin { at: from, loss, mut page, mut until } = begin;
        if let Some(loss) = loss {
            self.send_loss(at, loss).await?;
        }
        let mut last = from.unwrap_or_default();
        let mut pages = LogReader::default();
        while let Some(end) = page.last().map(|entry| entry.id) {
            let out = self.framed_page(at, std::mem::take(&mut page));
            self.send(&out).await?;
            drop(out);
            last = last.max(end);
            if self.is_draining() {
                // What is left it gets elsewhere.
                break;
            }
            if self.seats()[at].channel.lost(&self.seats()[at].reader) {
                until = self.rejoin(at);
            }
            if last >= until {
                break;
            }
            let (broker, key) = self.log_of(at);
            self.metrics().log_reads.inc();
            page = pages.page(&broker, &key, From::After(last), None).await.map_err(|_| Ended::Away)?;
            // The log is trimmed while it is read.
            let loss = match page.first() {
                Some(first) => Loss::between(last, first),
                None => Some(Loss::up_to(last, until)),
            };
            if let Some(loss) = loss {
                self.send_loss(at, loss).await?;
            }
            last = if page.is_empty() { until } else { last };
        }
        self.had(at, last);
        Ok(())
    }

    async fn send_loss(&mut self, at: usize, loss: Loss) -> Result<(), Ended> {
        let event = loss.event(&self.seats()[at].channel.kind.name);
        let words = Frame::chunk(&event).bytes(self.chunked());
        self.send(&words).await
    }

    fn framed_page(&mut self, at: usize, page: Vec<LogEntry>) -> Vec<u8> {
        let mut out = Vec::new();
        let mut messages = 0;
        for entry in page {
            let Some(payload) = &entry.payload else { continue };
            let kind = &self.seats()[at].channel.kind;
            // A command to end was for those who were there.
            let Payload::Event(event) = decode_payload(payload, kind.array_form, kind.control) else { continue };
            let frame = Frame::of(&Payload::Event(event), Some(entry.id));
            let message = Message { frame, id: Some(entry.id), channel: None, ours: false, hole: false };
            out.extend_from_slice(&self.framed(at, &message));
            messages += 1;
        }
        self.metrics().stream_replayed.add(messages);
        self.metrics().deliveries.add(messages);
        self.metrics().delivery_bytes.add(out.len() as u64);
        out
    }

    async fn send(&mut self, mut bytes: &[u8]) -> Result<(), Ended> {
        while !bytes.is_empty() {
            let some = poll_fn(|cx| self.wire().poll_write(cx, bytes));
            let written = timeout(STALLED, some).await.map_err(|_| Ended::Slow)?.map_err(|_| Ended::Client)?;
            bytes = &bytes[written..];
            self.wrote(written);
        }
        // What TLS has kept of it.
        let rest = timeout(STALLED, poll_fn(|cx| self.wire().poll_flush(cx))).await;
        rest.map_err(|_| Ended::Slow)?.map_err(|_| Ended::Client)
    }
}
