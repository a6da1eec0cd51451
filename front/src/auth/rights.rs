//! What one request may do with channels: by the public patterns, and by its token.
//!
//! Everything that a route asks is answered here, so that reading and publishing cannot differ in what is reserved.

use std::sync::Arc;
use std::time::Instant;

use super::token::Token;
use crate::config::Config;
use crate::error::Failure;

/// What a request may read and publish.
#[derive(Clone, Debug)]
pub struct Rights {
    config: Arc<Config>,
    token: Option<Token>,
    /// The token came in a cookie, and with it no proof that one of our pages sent it.
    unproven: bool,
}

impl Rights {
    pub(super) fn new(config: &Arc<Config>, token: Option<Token>, unproven: bool) -> Self {
        Self { config: Arc::clone(config), token, unproven }
    }

    /// May it read the channel with this name, as browsers name it?
    ///
    /// # Errors
    /// The answer to give instead: 401 where a token might help, else 403.
    pub fn may_subscribe(&self, name: &str) -> Result<(), Failure> {
        self.not_reserved(name)?;
        let granted = |token: &Token| token.grants.subscribe.iter().any(|pattern| pattern.matches(name));
        if self.is_public(name) || self.token.as_ref().is_some_and(granted) {
            return Ok(());
        }
        Err(self.refusal("this channel is not public", "neither token nor session opens this channel"))
    }

    /// May it publish to the channel with this name? Where `channels.publish` allows it to everybody, or by its token, and
    /// by one in a cookie only with an origin that is ours: a browser sends its cookies along whoever's page asks.
    ///
    /// # Errors
    /// The answer to give instead: 401 where a token might help, else 403.
    pub fn may_publish(&self, name: &str) -> Result<(), Failure> {
        self.not_reserved(name)?;
        if self.config.channels.publish.iter().any(|pattern| pattern.matches(name)) {
            return Ok(());
        }
        if self.unproven {
            return Err(Failure::Forbidden(
                "publishing by cookie needs an Origin that is this host or in channels.cors",
            ));
        }
        let granted = |token: &Token| token.grants.publish.iter().any(|pattern| pattern.matches(name));
        if self.token.as_ref().is_some_and(granted) {
            return Ok(());
        }
        Err(self.refusal("this channel may not be published on", "neither token nor session allows to publish here"))
    }

    /// May it read all channels that this pattern matches? Only a pattern that is named as it is written.
    ///
    /// # Errors
    /// The answer to give instead: 401 where a token might help, else 403.
    pub fn may_read_pattern(&self, pattern: &str) -> Result<(), Failure> {
        self.not_reserved(pattern)?;
        let granted = |token: &Token| token.grants.patterns.iter().any(|named| named == pattern);
        if self.is_public_pattern(pattern) || self.token.as_ref().is_some_and(granted) {
            return Ok(());
        }
        Err(self.refusal("this pattern is not public", "neither token nor session opens this pattern"))
    }

    /// Whose token it is, if the token says so.
    pub fn user(&self) -> Option<&str> {
        self.token.as_ref().and_then(|token| token.user.as_deref())
    }

    /// When its token ends; None: it has none.
    pub fn expires(&self) -> Option<Instant> {
        self.token.as_ref().map(|token| token.expires)
    }

    /// When it may no longer read this channel, or pattern; None: always, since anybody may, token or not.
    pub fn expires_for(&self, name: &str, pattern: bool) -> Option<Instant> {
        self.expires().filter(|_| !if pattern { self.is_public_pattern(name) } else { self.is_public(name) })
    }

    fn is_public_pattern(&self, pattern: &str) -> bool {
        self.config.channels.patterns.iter().any(|public| public.as_str() == pattern)
    }

    fn is_public(&self, name: &str) -> bool {
        self.config.channels.public.iter().any(|pattern| pattern.matches(name))
    }

    /// The answer to what is not allowed; the texts are for a request without a token, and for one with one.
    pub fn refusal(&self, without: &'static str, with: &'static str) -> Failure {
        match &self.token {
            Some(_) => Failure::Forbidden(with),
            None if self.config.channels.tokens.keys.is_empty() => Failure::Forbidden(without),
            None => Failure::Unauthorized(None),
        }
    }

    /// The system's own channels are nobody's.
    fn not_reserved(&self, name: &str) -> Result<(), Failure> {
        let prefix = self.config.redis.keys.prefix();
        let reserved = |name: &str| {
            let tagged = name.strip_prefix('{').unwrap_or(name);
            name.starts_with("__") || tagged.strip_prefix(prefix).is_some_and(|rest| rest.starts_with(':'))
        };
        if reserved(name) || reserved(&format!("{}{name}", self.config.channels.prefix)) {
            return Err(Failure::Forbidden("this channel's name is reserved"));
        }
        Ok(())
    }
}
