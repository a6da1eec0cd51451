//! When a request may be given to a second worker: the one table that decides it.
//!
//! Pure decisions: no clock, no table of requests, no Redis.

use http::{HeaderMap, Method};
use tempest_protocol::Death;

use crate::config::Retry;

/// The header by which a client says that its request may be carried out once more without harm
/// (draft-ietf-httpapi-idempotency-key-header).
const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// What a request's worker left of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Left {
    /// The request may run a second time.
    pub(super) repeatable: bool,
    /// Attempts so far.
    pub(super) attempt: u32,
    /// Attempts in all, at most.
    pub(super) attempts: u32,
    /// A byte may have gone to the client.
    pub(super) begun: bool,
}

/// What is to be done with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Another worker gets it.
    Again,
    /// The client is told that it failed.
    Fail,
    /// The client is cut off, so that it can tell.
    Cut,
}

/// True where a request may run twice.
pub(super) fn is_repeatable(retry: Retry, method: &Method, headers: &HeaderMap) -> bool {
    match retry {
        Retry::Always => true,
        Retry::Never => false,
        // RFC 9110, section 9.2.2. TRACE is idempotent as well, but a trace of the second attempt shows the second.
        Retry::Auto => {
            (method.is_idempotent() && *method != Method::TRACE)
                || headers.get(IDEMPOTENCY_KEY).is_some_and(|key| !key.is_empty())
        }
    }
}

/// After the death of the worker that had it.
pub(super) fn after_death(left: Left, death: &Death) -> Verdict {
    // A worker that is merely silent may be about to start it.
    let untouched = death.certain && !death.started;
    match left {
        Left { begun: true, .. } => Verdict::Cut,
        Left { repeatable, attempt, attempts, .. } if (repeatable || untouched) && attempt < attempts => Verdict::Again,
        _ => Verdict::Fail,
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn death(certain: bool, started: bool) -> Death {
        Death { id: "a".into(), attempt: 1, started, certain, worker: "w".into() }
    }

    fn left(repeatable: bool, attempt: u32, begun: bool) -> Left {
        Left { repeatable, attempt, attempts: 3, begun }
    }

    #[test]
    fn the_table_of_the_contract() {
        use Verdict::{Again, Cut, Fail};
        for (certain, started, begun, repeatable, expected) in [
            (true, false, false, true, Again),
            (true, false, false, false, Again),
            (false, false, false, true, Again),
            (false, false, false, false, Fail),
            (false, true, false, true, Again),
            (false, true, false, false, Fail),
            (true, true, false, true, Again),
            (true, true, false, false, Fail),
            (true, true, true, true, Cut),
            (true, true, true, false, Cut),
            (false, true, true, true, Cut),
            (true, false, true, true, Cut),
        ] {
            let verdict = after_death(left(repeatable, 1, begun), &death(certain, started));
            assert_eq!(
                verdict, expected,
                "certain {certain}, started {started}, begun {begun}, repeatable {repeatable}"
            );
        }
    }

    #[test]
    fn attempts_come_to_an_end() {
        assert_eq!(after_death(left(true, 2, false), &death(true, true)), Verdict::Again);
        assert_eq!(after_death(left(true, 3, false), &death(true, true)), Verdict::Fail);
        assert_eq!(after_death(left(false, 3, false), &death(true, false)), Verdict::Fail);
    }

    #[test]
    fn methods_and_keys_say_what_may_run_twice() {
        let none = HeaderMap::new();
        let with =
            |value| HeaderMap::from_iter([(IDEMPOTENCY_KEY.parse().expect("a name"), HeaderValue::from_static(value))]);
        for method in [Method::GET, Method::HEAD, Method::OPTIONS, Method::PUT, Method::DELETE] {
            assert!(is_repeatable(Retry::Auto, &method, &none), "{method}");
            assert!(!is_repeatable(Retry::Never, &method, &with("k")), "{method}");
        }
        let purge = Method::from_bytes(b"PURGE").expect("a token");
        for method in [Method::POST, Method::PATCH, Method::TRACE, purge] {
            assert!(!is_repeatable(Retry::Auto, &method, &none), "{method}");
            assert!(is_repeatable(Retry::Auto, &method, &with("k")), "{method}");
            assert!(!is_repeatable(Retry::Auto, &method, &with("")), "{method}: no key");
            assert!(is_repeatable(Retry::Always, &method, &none), "{method}");
        }
    }
}
