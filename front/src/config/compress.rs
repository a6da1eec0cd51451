//! Compression of answers on the way to the client: which ones, and how many at a time.
//!
//! Off unless it is switched on, for all routes or for one. It costs the reactor's own time, which a worker or a proxy
//! with more cores may have cheaper; and only the application knows whether a page holds a secret beside what a stranger
//! may put there, which compression would give away by its length (BREACH).

use super::section::Section;
use super::value::{boolean, bytes, count, list, one_of, pattern};
use super::{Pattern, SOME};

/// Compression.
#[derive(Clone, Debug)]
pub struct Compress {
    /// For the routes that say nothing of it.
    pub on: bool,
    /// Bytes of a body below which it is left as it is.
    pub least: usize,
    /// Media types that are compressed; `*` is any text.
    pub types: Vec<Pattern>,
    /// Codings; of those that a client likes alike, the first is taken.
    pub codings: Vec<Coding>,
    /// Bodies longer than a piece that one reactor compresses at a time; further ones are sent as they are.
    pub at_once: usize,
}

/// How a body is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// RFC 8878.
    Zstd,
    /// RFC 7932.
    Brotli,
    /// RFC 1952.
    Gzip,
}

impl Coding {
    /// Its name in HTTP.
    pub fn name(self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
            Self::Brotli => "br",
            Self::Gzip => "gzip",
        }
    }
}

/// Text in its many names; images, sound and archives are compressed already.
const TYPES: [&str; 11] = [
    "text/*",
    "application/json",
    "application/*+json",
    "application/javascript",
    "application/xml",
    "application/*+xml",
    "application/x-ndjson",
    "application/wasm",
    "image/svg+xml",
    "font/ttf",
    "font/otf",
];
const CODINGS: &[(&str, Coding)] = &[("zstd", Coding::Zstd), ("br", Coding::Brotli), ("gzip", Coding::Gzip)];

/// Reads `[compress]`.
pub(super) fn read(mut section: Section<'_>) -> Compress {
    let s = &mut section;
    let compress = Compress {
        on: s.get("on", boolean, false),
        least: s.get("least", bytes(0), super::KIB),
        types: s.get("types", list(pattern), TYPES.map(Pattern::new).to_vec()),
        codings: s.get("codings", list(one_of(CODINGS)), vec![Coding::Zstd, Coding::Brotli, Coding::Gzip]),
        at_once: s.get("at_once", count(SOME), 64),
    };
    section.finish();
    compress
}
