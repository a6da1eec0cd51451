//! A door for the fuzz targets and nobody else: what a request that publishes says.

use http::HeaderMap;

use super::message::{Content, Form, Wanted, key_of, many, one};
use crate::config::Channels;
use crate::http::subscribe::channel_name;

/// Reads such a request as the front does; panics where a message comes out that no channel takes.
pub(in crate::http) fn request(
    headers: &HeaderMap,
    query: Option<&str>,
    channel: Option<&str>,
    body: &[u8],
    channels: &Channels,
) {
    let (Ok(content), Ok(wanted), Ok(key)) = (Content::of(headers), Wanted::read(query), key_of(headers)) else {
        return;
    };
    let form = |_: &str| Form::Array;
    let messages = match channel {
        Some(encoded) => {
            let Ok(name) = channel_name(encoded, channels.name_bytes) else { return };
            one(name, content, body, &wanted, key, form).map(|message| vec![message])
        }
        None => many(content, body, &wanted, key.as_deref(), channels.publish_batch, form),
    };
    for message in messages.unwrap_or_default() {
        assert!(message.key.is_none_or(|key| !key.is_empty() && key.len() < 300 && key.is_ascii()));
    }
}
