//! A door for the fuzz targets and nobody else: finding a token, and reading its head.

use std::sync::LazyLock;

use http::HeaderMap;

use super::{bearer, token};
use crate::config::{Config, Tokens};
use crate::origin::is_from_us;

static LIMITS: LazyLock<Tokens> = LazyLock::new(|| Config::default().channels.tokens);

/// Looks for a token in a request and at its head, as every request with one does before a key is asked.
pub(crate) fn look(headers: &HeaderMap, query: Option<&str>, host: Option<&str>) {
    if let Some((_, text)) = bearer::find(headers, query, &LIMITS.cookie) {
        assert!(!text.is_empty(), "an empty token is none");
        token_head(text.as_bytes());
    }
    is_from_us(headers, host, &["https://app.example".to_owned()]);
}

/// The head of a token.
pub fn token_head(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(header) = token::head(text, &LIMITS) {
        assert!(text.len() <= LIMITS.bytes && header.crit.is_none());
    }
}
