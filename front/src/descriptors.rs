//! How many files this process may have open, sockets among them: as many as the system lets it.
//!
//! The soft limit is 1024 almost everywhere, for the sake of programs that use select(2), and the hard one far above it.
//! A front raises its own; what it starts gets back the one that was there before.

use std::sync::OnceLock;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files that a front may need besides those of its connections: to Redis, to its workers' guards, static files, logs.
pub const RESERVE: u64 = 256;

/// The soft limit before it was raised.
static BEFORE: OnceLock<u64> = OnceLock::new();

/// Raises the soft limit to the hard one. Returns how many files may be open then; None: no limit.
pub fn raise() -> Option<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if let Some(before) = current.filter(|_| current != maximum) {
        // Where the system does not keep its word it stays as it was, which is said below.
        if setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).is_ok() {
            let _ = BEFORE.set(before);
        }
    }
    getrlimit(Resource::Nofile).current
}

/// The soft limit that was there before, where it was raised.
pub fn before() -> Option<u64> {
    BEFORE.get().copied()
}

/// Sets the soft limit back.
pub fn lower(to: u64) {
    let maximum = getrlimit(Resource::Nofile).maximum;
    // Below the hard one it may always be set; whoever has lowered that since wants no more anyway.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(to), maximum });
}

/// What to say where so many connections, and what else is needed, do not fit in `limit`.
pub fn notice(connections: usize, limit: Option<u64>) -> Option<String> {
    let needed = (connections as u64).saturating_add(RESERVE);
    let limit = limit.filter(|limit| *limit < needed)?;
    let fit = limit.saturating_sub(RESERVE).max(1);
    Some(format!(
        "only {limit} files may be open, and limits.connections = {connections} needs {needed}: raise the hard limit \
         (ulimit -Hn, LimitNOFILE= in systemd), or set limits.connections to {fit}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_where_connections_and_the_reserve_do_not_fit() {
        assert_eq!(notice(1000, None), None);
        assert_eq!(notice(1000, Some(1000 + RESERVE)), None);
        let said = notice(1000, Some(999 + RESERVE)).expect("one is missing");
        assert!(said.contains("only 1255 files") && said.contains("needs 1256") && said.ends_with("to 999"), "{said}");
        assert!(notice(usize::MAX, Some(20)).is_some_and(|said| said.ends_with("to 1")));
    }
}
