//! Which holds this front takes: those of the contract that name no channel of the system's own.
//!
//! The codec has read a hold by then; what is left depends on the configuration. Whether a channel is public is not asked:
//! the worker's answer is the permission.

use std::rc::Rc;

use tempest_protocol::{Hold, Keys};

use crate::config::Channels;

/// What names of channels mean here.
#[derive(Clone, Debug)]
pub struct Holds {
    /// Spells the system's own names.
    pub keys: Keys,
    /// Limits, and what stands before a channel's name in Redis.
    pub channels: Rc<Channels>,
}

impl Holds {
    /// True where every channel may be read by whoever the worker lets, and there are not too many.
    pub(super) fn takes(&self, hold: &Hold) -> bool {
        let Channels { prefix, per_stream, logs_per_stream, .. } = &*self.channels;
        let reserved = |name: &String| self.keys.is_reserved(name) || self.keys.is_reserved(&format!("{prefix}{name}"));
        let with_history = hold.channels.iter().filter(|name| self.channels.has_history(name)).count();
        !hold.channels.iter().any(reserved) && hold.channels.len() <= *per_stream && with_history <= *logs_per_stream
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Config;

    fn of(config: &str) -> Holds {
        let config = Config::from_toml(config, Path::new(".")).expect("a good configuration");
        Holds { keys: Keys::new("tempest"), channels: Rc::new(config.channels) }
    }

    #[test]
    fn as_many_channels_are_held_as_one_stream_may_have() {
        let rule = "[[channels.rule]]\npattern = \"h*\"\nhistory = {}\n";
        let holds = of(&format!("[channels]\nper_stream = 3\nlogs_per_stream = 1\n{rule}"));
        assert!(holds.takes(&Hold::of(["a", "b", "h1"])));
        assert!(!holds.takes(&Hold::of(["a", "b", "c", "d"])));
        assert!(!holds.takes(&Hold::of(["h1", "h2"])));
    }

    #[test]
    fn what_is_the_systems_own_is_held_by_nobody() {
        let holds = |prefix: &str| of(&format!("[channels]\nprefix = \"{prefix}\"\n"));
        let takes = |prefix: &str, names: &[&str]| holds(prefix).takes(&Hold::of(names.iter().copied()));
        assert!(takes("", &["orders.42", "tempest", "a:tempest:b"]));
        for bad in ["tempest:web", "{tempest:web}:workers", "__keyspace@0__:x"] {
            assert!(!takes("", &["orders.42", bad]), "{bad}");
        }
        assert!(takes("app:", &["web"]) && !takes("tempest:", &["web"]) && !takes("app:", &["tempest:web"]));
    }
}
