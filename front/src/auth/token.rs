//! One token: what is in it, and whether that holds at a given time.
//!
//! The signature and for whom the token is are the library's to check; the times are checked here, by a clock that is
//! given, since the end of the token is also the end of the streams it opens.

use std::time::{Duration, Instant};

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{DecodingKey, Header, Validation};
use serde::Deserialize;

use crate::config::{Pattern, Tokens};
use crate::telemetry::TokenFault as Fault;

/// A time further away than this is as good as none.
const FAR: f64 = 1e9;

/// A token that was found good.
#[derive(Clone, Debug)]
pub(super) struct Token {
    pub(super) user: Option<String>,
    pub(super) grants: Grants,
    pub(super) expires: Instant,
}

/// What it opens.
#[derive(Clone, Debug, Default)]
pub(super) struct Grants {
    pub(super) subscribe: Vec<Pattern>,
    pub(super) publish: Vec<Pattern>,
    pub(super) patterns: Vec<String>,
}

/// What vouches for a request instead of a token: a session, which the front itself has sealed.
#[derive(Clone, Debug)]
pub struct Voucher {
    /// Whose it is.
    pub user: Option<String>,
    /// What it opens, in the form of the claim `tempest`.
    pub grants: Option<serde_json::Value>,
    /// When it ends.
    pub expires: Instant,
}

impl Voucher {
    /// As a token of the same content; None: what it opens is malformed, or too much.
    pub(super) fn token(self, limits: &Tokens) -> Option<Token> {
        let lists: Lists = self.grants.map(serde_json::from_value).transpose().ok()?.unwrap_or_default();
        Some(Token { user: self.user, grants: lists.compiled(limits)?, expires: self.expires })
    }
}

/// The claims that are read here; times may have fractions (RFC 7519, section 2).
#[derive(Deserialize)]
struct Claims {
    exp: Option<f64>,
    nbf: Option<f64>,
    sub: Option<String>,
    tempest: Option<Lists>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Lists {
    subscribe: Vec<String>,
    publish: Vec<String>,
    patterns: Vec<String>,
}

impl Lists {
    /// None: more patterns than one may have.
    fn compiled(self, limits: &Tokens) -> Option<Grants> {
        let Self { subscribe, publish, patterns } = self;
        let compiled = |list: Vec<String>| list.into_iter().map(Pattern::new).collect();
        let count = subscribe.len() + publish.len() + patterns.len();
        (count <= limits.patterns).then(|| Grants {
            subscribe: compiled(subscribe),
            publish: compiled(publish),
            patterns,
        })
    }
}

/// What a client is told, and no more: nothing of keys or of what was expected.
pub(super) fn reason(fault: Fault) -> &'static str {
    match fault {
        Fault::Malformed => "the token is malformed",
        Fault::Large => "the token is too large",
        Fault::Signature => "the token is not signed by a key that is known here",
        Fault::Audience => "the token is not for this server",
        Fault::Claims => "a claim of the token is missing or malformed",
        Fault::Early => "the token is not valid yet",
        Fault::Expired => "the token has expired",
    }
}

/// Reads the head of a token, which nobody has vouched for yet.
pub(super) fn head(text: &str, limits: &Tokens) -> Result<Header, Fault> {
    if text.len() > limits.bytes {
        return Err(Fault::Large);
    }
    let header = jsonwebtoken::decode_header(text).map_err(|_| Fault::Malformed)?;
    // Extensions that must be understood: none is (RFC 7515, section 4.1.11).
    if header.crit.is_some() { Err(Fault::Malformed) } else { Ok(header) }
}

/// Verifies a token with one key; `now` is in seconds since 1970.
pub(super) fn verify(
    text: &str,
    key: &DecodingKey,
    validation: &Validation,
    limits: &Tokens,
    now: f64,
) -> Result<Token, Fault> {
    let decoded = jsonwebtoken::decode::<Claims>(text, key, validation).map_err(|error| match error.kind() {
        ErrorKind::Json(_) => Fault::Claims,
        ErrorKind::InvalidIssuer | ErrorKind::InvalidAudience | ErrorKind::MissingRequiredClaim(_) => Fault::Audience,
        ErrorKind::Base64(_) | ErrorKind::InvalidToken | ErrorKind::Utf8(_) => Fault::Malformed,
        _ => Fault::Signature,
    })?;
    let Claims { exp, nbf, sub, tempest } = decoded.claims;
    let leeway = limits.leeway.as_secs_f64();
    let left = exp.ok_or(Fault::Claims)? + leeway - now;
    if left <= 0.0 {
        return Err(Fault::Expired);
    }
    if nbf.is_some_and(|nbf| nbf > now + leeway) {
        return Err(Fault::Early);
    }
    let grants = tempest.unwrap_or_default().compiled(limits).ok_or(Fault::Large)?;
    let expires = Instant::now() + Duration::from_secs_f64(left.min(FAR));
    Ok(Token { user: sub, grants, expires })
}
