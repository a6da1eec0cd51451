//! Compression of answers: which are compressed, in which coding, and what their heads say of it.
//!
//! Of the libraries the encoders alone are used: tower-http's layer and `async-compression` hide when bytes are
//! compressed and flushed, and here both matter. Never touched: event streams and held connections, parts and answers
//! without a body, what is coded already, what says `no-transform`, and what is too short to gain anything.

mod coded;
mod encoder;

use std::cell::Cell;
use std::io;
use std::rc::Rc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use http_body::Body as _;

pub(super) use self::coded::Coded;
use self::coded::Place;
use self::encoder::Encoder;
use super::{Body, accept};
use crate::config::{self, Coding};

/// Bytes that are compressed at once: about half a millisecond.
const PIECE: usize = 32 * 1024;

/// The compression of one reactor.
pub(super) struct Compress {
    settings: config::Compress,
    under_way: Rc<Cell<usize>>,
}

impl Compress {
    pub(super) fn new(settings: &config::Compress) -> Rc<Self> {
        Rc::new(Self { settings: settings.clone(), under_way: Rc::default() })
    }

    /// The coding that a client likes best; of several alike, the one that stands first in the settings.
    pub(super) fn coding(&self, headers: &HeaderMap) -> Option<Coding> {
        if !headers.contains_key(header::ACCEPT_ENCODING) {
            return None;
        }
        let weighted =
            self.settings.codings.iter().map(|coding| (accept::coding_weight(headers, coding.name()), *coding));
        let best =
            weighted.filter(|(weight, _)| *weight > 0).reduce(|best, next| if next.0 > best.0 { next } else { best });
        best.map(|(_, coding)| coding)
    }

    /// Compresses an answer where that may be and the client takes `coding`; says in any case that it depends on it.
    pub(super) fn apply(&self, coding: Option<Coding>, response: &mut Response<Body>) {
        if !self.may_be(response) {
            return;
        }
        accept::add_vary(response.headers_mut(), "Accept-Encoding");
        let Some(coding) = coding else { return };
        match response.body_mut().take_whole(PIECE) {
            Some(whole) => match compress(coding, &whole) {
                Ok(short) if short.len() < whole.len() => {
                    *response.body_mut() = Body::whole(short);
                    mark(response.headers_mut(), coding);
                }
                _ => *response.body_mut() = Body::whole(whole),
            },
            None => self.wrap(coding, response),
        }
    }

    fn wrap(&self, coding: Coding, response: &mut Response<Body>) {
        if self.under_way.get() >= self.settings.at_once {
            return;
        }
        let Ok(encoder) = Encoder::new(coding) else { return };
        self.under_way.set(self.under_way.get() + 1);
        let place = Place(Rc::clone(&self.under_way));
        let inner = std::mem::replace(response.body_mut(), Body::whole(""));
        *response.body_mut() = Body::coded(Coded::new(inner, encoder, place));
        mark(response.headers_mut(), coding);
    }

    fn may_be(&self, response: &Response<Body>) -> bool {
        let (headers, body) = (response.headers(), response.body());
        let bodiless = [StatusCode::NO_CONTENT, StatusCode::PARTIAL_CONTENT, StatusCode::NOT_MODIFIED];
        !bodiless.contains(&response.status())
            && !headers.contains_key(header::CONTENT_ENCODING)
            && !headers.contains_key(header::CONTENT_RANGE)
            && self.is_of_a_type(headers)
            && !says_no_transform(headers)
            && !body.is_held()
            && body.size_hint().exact().is_none_or(|length| length >= self.settings.least.max(1) as u64)
    }

    fn is_of_a_type(&self, headers: &HeaderMap) -> bool {
        let Some(Ok(kind)) = headers.get(header::CONTENT_TYPE).map(HeaderValue::to_str) else { return false };
        let kind = kind.split(';').next().unwrap_or(kind).trim().to_ascii_lowercase();
        kind != "text/event-stream" && self.settings.types.iter().any(|pattern| pattern.matches(&kind))
    }
}

fn says_no_transform(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|list| list.split(',')).any(|item| item.trim().eq_ignore_ascii_case("no-transform"))
}

/// What is sent has other bytes now: neither their number nor parts of them are known, and it is the same thing only in
/// meaning.
fn mark(headers: &mut HeaderMap, coding: Coding) {
    headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(coding.name()));
    headers.remove(header::CONTENT_LENGTH);
    headers.remove(header::ACCEPT_RANGES);
    let strong = headers.get(header::ETAG).filter(|tag| tag.as_bytes().first() == Some(&b'"'));
    if let Some(weak) = strong.and_then(|tag| HeaderValue::from_bytes(&[b"W/", tag.as_bytes()].concat()).ok()) {
        headers.insert(header::ETAG, weak);
    }
}

fn compress(coding: Coding, whole: &Bytes) -> io::Result<Vec<u8>> {
    let mut encoder = Encoder::new(coding)?;
    encoder.write(whole)?;
    encoder.finish()
}

#[cfg(test)]
mod tests;
