//! MessagePack: the other spelling of a message, as far as both jobs and answers need it.
//!
//! A message is one map with the names that JSON has, and the body among them. It is read into the tree that JSON is
//! read into, so whatever is said about fields is said once, elsewhere. This module must not know a field but `body`.

mod read;
mod write;

pub(crate) use read::{Unreadable, each_number, pick, read, read_number};
pub(crate) use write::Pack;

/// How a message is spelled; its first byte tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Codec {
    /// A JSON object and the raw body behind it.
    #[default]
    Json,
    /// One MessagePack map.
    MsgPack,
}

impl Codec {
    /// MessagePack where the message begins like a map of it, and JSON, good or bad, otherwise.
    pub fn of(message: &[u8]) -> Self {
        match message.first() {
            Some(0x80..=0x8f | 0xde | 0xdf) => Self::MsgPack,
            _ => Self::Json,
        }
    }
}
