//! What a stream of several channels writes: events that carry the place in each of them, or their channel's name.
//!
//! Such an event is another one for each stream, so it is copied; a stream of one channel shares the bytes of all. It
//! must not write to a socket.

use tempest_protocol::LogId;

use super::channel::{Channel, Message};
use super::frame::{Frame, told};
use super::opening::ids_of;
use super::reader::Reader;

/// Messages taken in one go.
const JOIN: usize = 64;
/// And bytes, one message at least.
const JOIN_BYTES: usize = 64 * 1024;

/// How events are written that are not the same for everybody.
#[derive(Debug)]
pub(super) struct Several {
    /// What has been sent of each channel with history; None: the channel has none.
    ids: Vec<Option<LogId>>,
    tell: bool,
    /// The channel that comes first the next time.
    turn: usize,
}

impl Several {
    pub(super) fn new(ids: Vec<Option<LogId>>, tell: bool) -> Self {
        Self { ids, tell, turn: 0 }
    }

    /// One message of the channel at this place.
    pub(super) fn frame(&mut self, at: usize, channel: &str, message: &Message) -> Frame {
        let mut event = Vec::with_capacity(256);
        if let Some(id) = message.id {
            self.ids[at] = Some(id);
            let ids = ids_of(self.ids.iter().copied()).unwrap_or_default();
            event.extend_from_slice(format!("id: {ids}\n").as_bytes());
        }
        if self.tell && !message.ours {
            event.extend_from_slice(&told(message.channel.as_deref().unwrap_or(channel), message.frame.event()));
        } else {
            event.extend_from_slice(message.frame.event());
        }
        Frame::chunk(&event)
    }

    /// What the channels have for their readers, some of each in turn; gives how many messages.
    pub(super) fn collect<'a>(
        &mut self,
        channels: impl ExactSizeIterator<Item = (&'a Channel, &'a Reader)>,
        chunked: bool,
        out: &mut Vec<u8>,
    ) -> u64 {
        let count = channels.len();
        let mut channels: Vec<_> = channels.enumerate().collect();
        channels.rotate_left(self.turn % count.max(1));
        self.turn = (self.turn + 1) % count.max(1);
        let mut left = JOIN;
        let mut messages = 0;
        for (at, (channel, reader)) in channels {
            if left == 0 || out.len() >= JOIN_BYTES {
                break;
            }
            messages += channel.take_each(reader, |message| {
                out.extend_from_slice(self.frame(at, &channel.kind.name, message).as_slice(chunked));
                left -= 1;
                left > 0 && out.len() < JOIN_BYTES
            });
        }
        messages
    }
}

#[cfg(test)]
mod tests {
    use tempest_protocol::decode_payload;

    use super::*;
    use crate::hub::channel::Kind;

    fn message(text: &str, id: Option<&str>) -> Message {
        let id = id.map(|id| id.parse().expect("an id"));
        let frame = Frame::of(&decode_payload(text.as_bytes(), true, false), id);
        Message { frame, id, channel: None, ours: false, hole: false }
    }

    fn channel(name: &str) -> Channel {
        Channel::new(name, Kind { name: name.into(), array_form: true, ..Kind::default() }, 100, 1 << 20)
    }

    #[test]
    fn an_id_is_the_place_in_every_channel_with_history() {
        let (a, b, c) = (channel("a"), channel("b"), channel("c"));
        let readers = [a.join(0, None), b.join(0, None), c.join(0, None)];
        let mut several = Several::new(vec![Some("1-1".parse().expect("an id")), None, Some(LogId::ZERO)], false);
        a.publish(message("first", Some("2-2")));
        b.publish(message("second", None));
        c.publish(message("third", Some("3-1")));
        let all = [(&a, &*readers[0]), (&b, &*readers[1]), (&c, &*readers[2])];
        let mut out = Vec::new();
        assert_eq!(several.collect(all.into_iter(), false, &mut out), 3);
        let text = String::from_utf8(out).expect("text");
        assert_eq!(text, "id: 2-2,0-0\ndata: first\n\ndata: second\n\nid: 2-2,3-1\ndata: third\n\n");
    }

    #[test]
    fn nobody_is_last_for_ever() {
        let (a, b) = (channel("a"), channel("b"));
        let readers = [a.join(0, None), b.join(0, None)];
        for _ in 0..JOIN {
            a.publish(message("x", None));
        }
        b.publish(message("y", None));
        let mut several = Several::new(vec![None, None], true);
        let both = || [(&a, &*readers[0]), (&b, &*readers[1])].into_iter();
        let (mut first, mut second) = (Vec::new(), Vec::new());
        assert_eq!(several.collect(both(), false, &mut first), JOIN as u64);
        a.publish(message("x", None));
        assert_eq!(several.collect(both(), false, &mut second), 2);
        assert!(second.starts_with(b"data: {\"channel\":\"b\",\"event\":null,\"data\":\"y\"}\n\n"));
    }
}
