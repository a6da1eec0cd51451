//! The scripts of reliable mode, loaded into one Redis.
//!
//! They are loaded at each connect, since a Redis that restarted has forgotten them. This module says whether that
//! Redis and its user allow reliable mode; it must not decide what is done without it.

use bytes::Bytes;
use tempest_protocol::scripts;

use crate::connection::{Connection, ConnectionError, Pipeline, Reply};

/// The scripts that a worker calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Script {
    Register,
    Claim,
    Recover,
    Mark,
    GiveBack,
    Acknowledge,
}

const TEXTS: [&str; 6] =
    [scripts::REGISTER, scripts::CLAIM, scripts::RECOVER, scripts::MARK, scripts::GIVE_BACK, scripts::ACKNOWLEDGE];

/// Redis before this has no `BLMOVE`.
const OLDEST_REDIS: (u32, u32) = (6, 2);

/// What a connection that claims, or speaks of claims, has to know.
#[derive(Clone, Debug)]
pub(crate) struct Loaded {
    /// Names one life of one Redis.
    pub(crate) run_id: String,
    hashes: [Bytes; TEXTS.len()],
}

/// Why there is no reliable mode with this Redis, or for this user.
pub(crate) type Unable = String;

impl Loaded {
    /// Appends the call of a script.
    pub(crate) fn call(&self, out: &mut Pipeline, script: Script, keys: &[&str], arguments: &[&[u8]]) {
        out.begin(3 + keys.len() + arguments.len());
        out.part(b"EVALSHA");
        out.part(&self.hashes[script as usize]);
        out.part(keys.len().to_string().as_bytes());
        keys.iter().for_each(|key| out.part(key.as_bytes()));
        arguments.iter().for_each(|argument| out.part(argument));
    }
}

/// Loads the scripts in one round trip; on a connection with no other reply under way.
pub(crate) async fn load(connection: &mut Connection) -> Result<Result<Loaded, Unable>, ConnectionError> {
    connection.out.command(&[b"INFO", b"server"]);
    TEXTS.iter().for_each(|text| connection.out.command(&[b"SCRIPT", b"LOAD", text.as_bytes()]));
    connection.flush().await?;
    let info = connection.reply().await?;
    let mut replies = Vec::with_capacity(TEXTS.len());
    for _ in TEXTS {
        replies.push(connection.reply().await?);
    }
    read(info, replies)
}

fn read(info: Reply, replies: Vec<Reply>) -> Result<Result<Loaded, Unable>, ConnectionError> {
    let mut hashes = std::array::from_fn(|_| Bytes::new());
    for (hash, reply) in hashes.iter_mut().zip(replies) {
        match reply {
            Reply::Text(text) => *hash = text,
            other => return refused("SCRIPT LOAD", other),
        }
    }
    let info = match info {
        Reply::Text(text) => String::from_utf8_lossy(&text).into_owned(),
        other => return refused("INFO", other),
    };
    let field = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim);
    let version = field("redis_version").unwrap_or_default();
    if is_before(version, OLDEST_REDIS) {
        return Ok(Err(format!("Redis {version} is older than 6.2")));
    }
    Ok(Ok(Loaded { run_id: field("run_id").unwrap_or("unknown").to_owned(), hashes }))
}

/// A user without the right to it is one thing, a Redis that is still loading its data another.
fn refused<T>(command: &'static str, reply: Reply) -> Result<Result<T, Unable>, ConnectionError> {
    match reply {
        Reply::Error(error) if is_unable(&error) => Ok(Err(error)),
        Reply::Error(error) => Err(ConnectionError::Refused { command, error }),
        other => Err(ConnectionError::Protocol(format!("{command} gave {other:?}"))),
    }
}

/// True for errors that do not pass: no right to the command, or no such command, in a script or out of it.
pub(crate) fn is_unable(error: &str) -> bool {
    error.starts_with("NOPERM")
        || error.contains("unknown command")
        || error.contains("Unknown Redis command")
        || error.contains("ACL failure")
        || error.contains("can't run this command")
        || error.contains("can't access at least one of the keys")
}

/// A version that cannot be read counts as new.
fn is_before(version: &str, oldest: (u32, u32)) -> bool {
    let mut parts = version.split('.').map(str::parse);
    let (Some(Ok(major)), Some(Ok(minor))) = (parts.next(), parts.next()) else { return false };
    (major, minor) < oldest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &'static str) -> Reply {
        Reply::Text(Bytes::from_static(text.as_bytes()))
    }

    fn read_with(info: Reply, load: &Reply) -> Result<Result<Loaded, Unable>, ConnectionError> {
        read(info, vec![load.clone(); TEXTS.len()])
    }

    #[test]
    fn the_life_of_a_redis_and_its_age_are_read() {
        let info = text("# Server\r\nredis_version:7.0.15\r\nrun_id:abc\r\n");
        let loaded = read_with(info, &text("f00")).expect("a reply").expect("reliable mode");
        assert_eq!(loaded.run_id, "abc");
        let old = read_with(text("redis_version:6.0.16\r\nrun_id:abc\r\n"), &text("f00")).expect("a reply");
        assert_eq!(old.expect_err("too old"), "Redis 6.0.16 is older than 6.2");
        assert!(
            !is_before("6.2.0", OLDEST_REDIS) && !is_before("255.1", OLDEST_REDIS) && !is_before("x", OLDEST_REDIS)
        );
    }

    #[test]
    fn a_missing_right_is_told_from_what_passes() {
        let denied = Reply::Error("NOPERM this user has no permissions to run the 'script|load' command".into());
        assert!(read_with(text(""), &denied).expect("a reply").is_err());
        assert!(read_with(text(""), &Reply::Error("LOADING Redis is loading".into())).is_err());
    }
}
