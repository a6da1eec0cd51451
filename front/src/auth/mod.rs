//! Who may read and publish: tokens (JWT), the keys that vouch for them, and what follows for one request.
//!
//! The algorithm is the key's, never the token's. Keys are read and fetched away from the reactors; a token is verified
//! where its request is. No token and no secret is ever part of an error, a log line or a debug text. This module knows
//! headers, but neither routes nor responses.

mod bearer;
mod fetch;
#[doc(hidden)]
pub mod fuzz;
mod keys;
mod refresh;
mod rights;
mod ring;
#[cfg(test)]
mod tests;
mod token;

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use http::HeaderMap;
use jsonwebtoken::Header;
use tokio::task::JoinSet;

use crate::config::{Config, KeySource, TokenKey, Tokens};
use crate::error::Failure;
use crate::origin::is_from_us;
use crate::telemetry::{Metrics, TokenFault as Fault};

use bearer::Carrier;
use keys::KeySet;
use refresh::Source;
pub use rights::Rights;
use token::Token;
pub use token::Voucher;

/// A key that cannot be used; the text never holds any of it.
#[derive(Debug, thiserror::Error)]
#[error("channels.key {name}: {message}")]
pub struct AuthError {
    name: String,
    message: String,
}

/// All keys of a process; its reactors share it.
pub struct Auth {
    config: Arc<Config>,
    keys: Vec<Arc<KeySet>>,
    metrics: Arc<Metrics>,
    /// Keep keys that change up to date, as long as somebody asks for rights.
    keepers: JoinSet<()>,
}

impl Auth {
    /// Reads the keys that are in files. Those that are fetched come later ([`Auth::keep`]); those that `before` has fetched
    /// from the same place are there until then.
    ///
    /// # Errors
    /// The first key that cannot be used.
    pub fn open(config: &Arc<Config>, before: Option<&Self>, metrics: &Arc<Metrics>) -> Result<Self, AuthError> {
        ring::install();
        let tokens = &config.channels.tokens;
        let open = |key| match before.and_then(|before| before.fetched(key, tokens)) {
            Some(fetched) => Ok(fetched),
            None => KeySet::open(key, tokens).map(Arc::new),
        };
        let keys: Vec<Arc<KeySet>> = tokens.keys.iter().map(open).collect::<Result<_, _>>()?;
        Ok(Self { config: Arc::clone(config), keys, metrics: Arc::clone(metrics), keepers: JoinSet::new() })
    }

    /// Keeps keys that change up to date, in tasks of this runtime, as long as it is there.
    #[must_use]
    pub fn keep(mut self) -> Self {
        for set in self.keys.iter().filter(|set| set.source.is_some()) {
            let limits = self.config.channels.tokens.clone();
            self.keepers.spawn(refresh::keep(Arc::clone(set), limits, Arc::clone(&self.metrics)));
        }
        self
    }

    /// The set of this entry where it is fetched, and as it was: then the keys that are there are good.
    fn fetched(&self, key: &TokenKey, limits: &Tokens) -> Option<Arc<KeySet>> {
        let before = &self.config.channels.tokens;
        let same_limits = Tokens { keys: limits.keys.clone(), ..before.clone() } == *limits;
        let same = same_limits && matches!(key.source, KeySource::JwksUrl(_));
        let at = before.keys.iter().position(|known| known == key).filter(|_| same)?;
        self.keys.get(at).cloned()
    }

    /// What a request may do. `host` is the one it asked for. Without configured keys nothing is taken for a token; where
    /// there is none, what `session` gives vouches for the request.
    ///
    /// # Errors
    /// 401: it carries a token, and that one is not good.
    pub async fn rights(
        &self,
        headers: &HeaderMap,
        query: Option<&str>,
        host: Option<&str>,
        session: Option<Voucher>,
    ) -> Result<Rights, Failure> {
        let channels = &self.config.channels;
        let found = match self.keys.is_empty() {
            true => None,
            false => bearer::find(headers, query, &channels.tokens.cookie),
        };
        let Some((carrier, text)) = found else {
            let token = session.and_then(|session| session.token(&channels.tokens));
            // A session is always in a cookie.
            let unproven = token.is_some() && !is_from_us(headers, host, &channels.cors);
            return Ok(Rights::new(&self.config, token, unproven));
        };
        let token = self.verify(&text).await.map_err(|fault| {
            self.metrics.tokens_refused.inc(fault);
            Failure::Unauthorized(Some(token::reason(fault)))
        })?;
        let unproven = carrier == Carrier::Cookie && !is_from_us(headers, host, &channels.cors);
        Ok(Rights::new(&self.config, Some(token), unproven))
    }

    async fn verify(&self, text: &str) -> Result<Token, Fault> {
        let header = token::head(text, &self.config.channels.tokens)?;
        match self.check(text, &header) {
            Err(Fault::Signature) if self.look_again(&header).await => self.check(text, &header),
            outcome => outcome,
        }
    }

    /// True where there may be other keys now.
    async fn look_again(&self, header: &Header) -> bool {
        let stale = self.keys.iter().filter(|set| set.may_be_stale(header));
        let looks = stale.filter_map(|set| set.source.as_ref()).map(Source::look);
        futures::future::join_all(looks).await.contains(&true)
    }

    fn check(&self, text: &str, header: &Header) -> Result<Token, Fault> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let mut fault = Fault::Signature;
        for set in &self.keys {
            match set.verify(text, header, &self.config.channels.tokens, now) {
                // What one key vouches for says more than that others do not.
                Err(Fault::Signature) => {}
                Err(other) => fault = other,
                good => return good,
            }
        }
        Err(fault)
    }
}
