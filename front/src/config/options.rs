//! The settings that are flags: one table, from which the flags and their help, the names of the environment variables
//! and the table in the manual are made.
//!
//! A setting is a flag when people change it from run to run; everything else is in the file only. Reading a value is
//! not done here: it is the same for flag, variable and file.

use std::fmt::Write;

/// One setting that may be given as a flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The flag without its dashes.
    pub flag: &'static str,
    /// Its dotted name in the file; empty where the file cannot have it.
    pub key: &'static str,
    /// What stands for the value in the help.
    pub value: &'static str,
    /// The default, in words.
    pub default: &'static str,
    /// What it does.
    pub help: &'static str,
    /// It may be given several times.
    pub repeats: bool,
}

/// Where the configuration file is; the only setting that is not in it.
pub const CONFIG: Setting = Setting {
    flag: "config",
    key: "",
    value: "FILE",
    default: "tempest.toml in the working folder, if there is one",
    help: "The configuration file",
    repeats: false,
};

/// Where operators connect.
pub const ADMIN: Setting = Setting {
    flag: "admin",
    key: "front.admin",
    value: "ADDRESS",
    default: "127.0.0.1:1338",
    help: "Where operators connect (/live, /ready, /metrics, /status, /log), or off",
    repeats: false,
};

/// Which Redis.
pub const REDIS: Setting = Setting {
    flag: "redis",
    key: "redis.url",
    value: "URL",
    default: "up: a private server; else redis://127.0.0.1:6379",
    help: "Redis or Valkey: redis://[USER:PASSWORD@]HOST[:PORT][/DB], rediss://… with TLS, or unix:///PATH",
    repeats: false,
};

/// What every key in Redis begins with.
pub const PREFIX: Setting = Setting {
    flag: "prefix",
    key: "prefix",
    value: "NAME",
    default: "tempest",
    help: "What every key in Redis begins with",
    repeats: false,
};

/// The form of the log.
pub const LOG_FORMAT: Setting = Setting {
    flag: "log-format",
    key: "log.format",
    value: "FORMAT",
    default: "auto",
    help: "The log on standard error: text, json, or auto (text on a terminal, JSON lines elsewhere)",
    repeats: false,
};

/// What is logged.
pub const LOG_LEVEL: Setting = Setting {
    flag: "log-level",
    key: "log.level",
    value: "LEVEL",
    default: "info",
    help: "error, warn, info, debug, trace, or a filter like info,tempest::broker=debug",
    repeats: false,
};

/// All of them, in the order of help and manual.
pub const ALL: &[Setting] = &[
    CONFIG,
    Setting {
        flag: "listen",
        key: "front.listen",
        value: "ADDRESS",
        default: "127.0.0.1:1337",
        help: "Where browsers connect: an address and port (0: a free one), or unix:/PATH",
        repeats: true,
    },
    ADMIN,
    REDIS,
    Setting {
        flag: "redis-server",
        key: "redis.server",
        value: "PROGRAM",
        default: "redis-server or valkey-server on PATH",
        help: "The server that up starts where no URL is given",
        repeats: false,
    },
    Setting {
        flag: "redis-port",
        key: "redis.port",
        value: "PORT",
        default: "6379 if it is free, else 1379 or the next",
        help: "The port of that server on 127.0.0.1; 0 takes a free one",
        repeats: false,
    },
    PREFIX,
    Setting {
        flag: "public-channels",
        key: "channels.public",
        value: "PATTERNS",
        default: "none; all for up without a file on loopback",
        help: "Channels that anybody may read: patterns with * and ?, separated by commas",
        repeats: true,
    },
    Setting {
        flag: "publish-channels",
        key: "channels.publish",
        value: "PATTERNS",
        default: "none; all for up without a file on loopback",
        help: "Channels that anybody may publish on over HTTP: patterns, separated by commas",
        repeats: true,
    },
    Setting {
        flag: "reactors",
        key: "front.reactors",
        value: "COUNT",
        default: "1",
        help: "Event loops, each on a thread of its own",
        repeats: false,
    },
    Setting {
        flag: "access-log",
        key: "log.access",
        value: "FORMAT",
        default: "off",
        help: "A line a request on standard output: off, combined or json",
        repeats: false,
    },
    LOG_FORMAT,
    LOG_LEVEL,
];

const fn of_worker(flag: &'static str, key: &'static str, value: &'static str) -> Setting {
    Setting { flag, key, value, default: "none", help: "", repeats: false }
}

/// Those of the workers of a command line (`tempest supervise -- COMMAND`). In a file the same stand under each
/// `[workers.NAME]`; variables there are none, since they would hold for all groups and reach the workers.
pub const WORKER: &[Setting] = &[
    Setting { default: "web", help: "The queue they serve", ..of_worker("queue", "supervise.queue", "NAME") },
    Setting {
        default: "1",
        help: "How many: 4, or 2..8 as there is work (jobs wait over a second, or more of them than processes)",
        ..of_worker("processes", "supervise.processes", "COUNT")
    },
    Setting {
        help: "Replace a process after so many jobs, or up to a tenth fewer",
        ..of_worker("max-jobs", "supervise.max_jobs", "COUNT")
    },
    Setting {
        help: "Replace a process at this age, or up to a tenth younger",
        ..of_worker("max-age", "supervise.max_age", "TIME")
    },
    Setting {
        help: "Replace a process with more resident memory, or up to a tenth less",
        ..of_worker("max-rss", "supervise.max_rss", "SIZE")
    },
    Setting {
        help: "Kill a process, and all it started, when one job runs longer",
        ..of_worker("job-time", "supervise.job_time", "TIME")
    },
    Setting {
        default: "1s",
        help: "A process that does not register counts as ready after it",
        ..of_worker("ready-time", "supervise.ready_time", "TIME")
    },
    Setting {
        default: "10s",
        help: "From SIGTERM to SIGKILL of a process and all it started",
        ..of_worker("stop-time", "supervise.stop_time", "TIME")
    },
    Setting {
        default: "60s",
        help: "Of several processes give one up when the queue was empty so long",
        ..of_worker("idle-time", "supervise.idle_time", "TIME")
    },
    Setting {
        default: "200ms..30s",
        help: "Before a process that ended is started again: first and longest wait",
        ..of_worker("restart-wait", "supervise.restart_wait", "TIMES")
    },
    Setting {
        help: "Replace all, one after the other, when a file changes: patterns like app/**/*.py",
        repeats: true,
        ..of_worker("watch", "supervise.watch", "PATTERNS")
    },
];

impl Setting {
    /// The environment variable: `TEMPEST_PUBLIC_CHANNELS`.
    pub fn env(&self) -> String {
        format!("TEMPEST_{}", self.flag.to_ascii_uppercase().replace('-', "_"))
    }

    /// The text of `--help`.
    pub fn full_help(&self) -> String {
        match self.key.starts_with("supervise.") {
            true => format!("{} [default: {}]", self.help, self.default),
            false => format!("{} [{}] [default: {}]", self.help, self.env(), self.default),
        }
    }
}

/// The table of workers in the manual.
pub fn worker_markdown() -> String {
    let mut out = String::from("| Flag | Under `[workers.NAME]` | Default | What |\n| --- | --- | --- | --- |\n");
    for Setting { flag, key, value, default, help, repeats } in WORKER {
        let key = key.rsplit('.').next().unwrap_or_default();
        let repeats = if *repeats { "; may be repeated" } else { "" };
        writeln!(out, "| `--{flag} {value}` | `{key}` | {default} | {help}{repeats} |")
            .expect("writing to a String cannot fail");
    }
    out
}

/// The table of the manual.
pub fn markdown() -> String {
    let mut out = String::from("| Flag | Variable | In the file | Default | What |\n| --- | --- | --- | --- | --- |\n");
    for setting in ALL {
        let key = if setting.key.is_empty() { "".to_owned() } else { format!("`{}`", setting.key) };
        let value = setting.value.replace('|', "\\|");
        let repeats = if setting.repeats { "; may be repeated" } else { "" };
        let Setting { flag, default, help, .. } = setting;
        writeln!(out, "| `--{flag} {value}` | `{}` | {key} | {default} | {help}{repeats} |", setting.env())
            .expect("writing to a String cannot fail");
    }
    out
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_setting_has_a_flag_and_a_name_of_its_own() {
        let flags: HashSet<_> = ALL.iter().map(|setting| setting.flag).collect();
        let keys: HashSet<_> = ALL.iter().map(|setting| setting.key).collect();
        assert_eq!((flags.len(), keys.len()), (ALL.len(), ALL.len()));
        assert_eq!(ALL[7].env(), "TEMPEST_PUBLIC_CHANNELS");
    }
}
