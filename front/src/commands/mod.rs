//! What the command line asks of a front that runs: publish, status, reload.
//!
//! Each command gives its text and prints nothing; the binary does. Nothing here starts anything.

mod channels;
mod config;
mod log;
mod publish;
mod reload;
mod status;
mod table;

use crate::broker::control::{Control, ControlError};
use crate::config::{Loaded, RedisUrl};
use crate::up::state::{self, Run};

use tempest_protocol::Keys;

pub use config::settings;
pub use log::{Change, log};
pub use publish::{MESSAGE_BYTES, Message, publish, read_history};
pub use reload::reload;
pub use status::{Show, status};
pub use tempest_protocol::Keep;

/// The Redis that is taken where nothing names one and nothing runs here.
const DEFAULT_REDIS: (&str, u16) = ("127.0.0.1", 6379);

/// Why a command failed; the text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// Redis is not there or refused.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// What is to be published cannot be.
    #[error("{0}")]
    Message(String),
    /// Fronts did not do what was asked, each with its reason.
    #[error("{0}")]
    Fronts(String),
    /// The operating system refused something this needs.
    #[error("cannot {0}: {1}")]
    System(&'static str, std::io::Error),
}

/// Where a command's Redis is, and the names in it.
struct Place {
    redis: RedisUrl,
    keys: Keys,
    channel_prefix: String,
}

impl Place {
    /// What flags, environment or file name; else the latest run on this machine, of this configuration if there is
    /// one; else the usual local Redis.
    fn find(loaded: &Loaded) -> Self {
        let config = &loaded.config;
        let at =
            |redis| Self { redis, keys: config.redis.keys.clone(), channel_prefix: config.channels.prefix.clone() };
        if let Some(named) = &config.redis.url {
            return at(named.clone());
        }
        match state::runs().into_iter().find(|run| matches(run, loaded)) {
            Some(run) => Self { redis: run.redis, keys: Keys::new(&run.prefix), channel_prefix: run.channel_prefix },
            None => at(RedisUrl::tcp(DEFAULT_REDIS.0, DEFAULT_REDIS.1)),
        }
    }
}

fn matches(run: &Run, loaded: &Loaded) -> bool {
    loaded.file.as_deref().is_none_or(|file| run.file.as_deref() == Some(&*state::absolute(file)))
}

/// Runs `work` with a connection.
fn with_redis<T>(
    place: &Place,
    work: impl AsyncFnOnce(&mut Control) -> Result<T, ControlError>,
) -> Result<T, CommandError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| CommandError::System("start", error))?;
    runtime.block_on(async {
        let mut control = Control::connect(&place.redis, "tempest-command").await?;
        Ok(work(&mut control).await?)
    })
}
