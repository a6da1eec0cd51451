//! The command line: which commands there are and what their help says.
//!
//! Flags that are settings come from the one table of the configuration; their values are read there too, so that all
//! faults are reported together. Nothing is done here.

use clap::{Parser, Subcommand};
use tempest::commands::Keep;
use tempest::config::Flags;
use tempest::telemetry::Metrics;

#[cfg(test)]
mod manual;
mod output;
mod settings;

pub(crate) use output::{complain, say};
pub(crate) use settings::{Base, Place, Settings, Which, Workers};

const EXAMPLES: &str = "\
Examples:
  tempest up                                everything on this machine, a private Redis included
  tempest up --config shop.toml             the same with routes and workers of one's own
  tempest front --redis rediss://app:secret@redis.example:6380 --listen 0.0.0.0:8080
  tempest supervise --processes 2..8 -- python3 api.py
  tempest publish news 'hello'              to every browser on /sub/news
  date | tempest publish clock - --event tick
  tempest status                            fronts, queues and workers
  tempest status --channels                 what browsers read, and how many
  tempest reload                            the run takes up what has changed in its file
  tempest log debug --for 10m               what running fronts log, for ten minutes
  tempest config check                      every fault of tempest.toml at once

A setting is taken from its flag, else its variable, else the file, else its default.
Exit codes: 0 done, 1 failed, 2 wrong command line or configuration.";

const SUPERVISE_EXAMPLES: &str = "\
Examples:
  tempest supervise -- python3 worker.py                      one process for the queue web
  tempest supervise --queue mail --processes 2..8 --max-jobs 1000 -- ruby mail.rb
  tempest supervise --config shop.toml                        the [workers.NAME] tables of a file
  tempest supervise --watch 'app/**/*.py' -- python3 -m app   restarts on every change

SIGTERM or Ctrl-C: each process finishes its job and ends; once more: at once. SIGHUP: reads the file, then a rolling restart.
The program is told REDIS_URL, TEMPEST_QUEUE and TEMPEST_WORKER_ID. What it prints is logged under its name.";

const CONFIG_EXAMPLES: &str = "\
Examples:
  tempest config                            every setting of tempest up here, with its source; secrets are hidden
  tempest config --for front --listen 0.0.0.0:80
  tempest config check shop.toml            every fault at once
  tempest config reference > tempest.toml   every setting with its default and its meaning";

const CHECK_EXAMPLE: &str = "\
Example:
  tempest config check shop.toml";

const RELOAD_NOTES: &str = "\
The run is `tempest up` or `tempest front`: the one at --admin, else the latest `tempest up` here with this file, else the
one at the usual admin address. No connection and no stream ends. What is wrong, or cannot change while it runs, refuses
all of it, and what held before still does. `kill -HUP` does the same, and `tempest up` and `tempest supervise` replace
their processes then, one after the other.";

const LOG_EXAMPLES: &str = "\
Examples:
  tempest log debug --for 10m                        all fronts, back to what they are configured for after ten minutes
  tempest log info,tempest::broker=debug --for 1h
  tempest log default                                back at once
  tempest log trace --for 30s --front k3v9x0q2ab     one of them

It asks each front at its admin listener, so it has to run where those can be reached; `tempest status` shows what holds.";

const PUBLISH_EXAMPLES: &str = "\
Examples:
  tempest publish news 'hello'
  tempest publish orders.42 '{\"state\":\"paid\"}' --event changed
  tail -n 1 log.txt | tempest publish log -
  tempest publish orders.42 paid --key payment-77     published once, however often this runs within channels.key_time
  tempest publish audit 'logged in' --history 1000,1h kept, whatever the fronts say of this channel

Where the channel has a history (rules of the fronts, or --history) the first line says the message's id.";

/// An HTTP front for workers in any language, with Redis between them.
#[derive(Debug, Parser)]
#[command(name = "tempest", version, after_help = EXAMPLES, max_term_width = 120)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run everything on this machine: a private Redis unless one is named, the front, and the workers of the file
    Up(Settings),
    /// Run the front alone
    Front(Settings),
    /// Run workers alone: a COMMAND, or those of the file
    Supervise(Supervise),
    /// Send a message to the browsers on a channel
    Publish(Publish),
    /// Show fronts, queues and workers
    Status(Status),
    /// Change what the running fronts log, for a while or until they end
    Log(Log),
    /// List the metrics of the admin listener
    #[command(after_help = Metrics::manual())]
    Metrics,
    /// Have a run read its configuration anew, and show what changed or why it was refused
    #[command(after_help = RELOAD_NOTES)]
    Reload(Which),
    /// Show every setting as it holds, and where that comes from; check a file; print the reference
    Config(Configuration),
}

#[derive(Debug, clap::Args)]
#[command(after_help = SUPERVISE_EXAMPLES)]
pub(crate) struct Supervise {
    #[command(flatten)]
    pub(crate) workers: Workers,
    #[command(flatten)]
    pub(crate) base: Base,
    /// The program of the workers and its arguments; without it those of the file are run
    #[arg(last = true, value_name = "COMMAND")]
    pub(crate) command: Vec<String>,
}

impl Supervise {
    /// All that was given.
    pub(crate) fn flags(&self) -> Flags {
        let settings = self.base.0.settings.iter().chain(&self.workers.0.settings).cloned().collect();
        Flags { settings, command: self.command.clone() }
    }
}

#[derive(Clone, Debug, clap::Args)]
#[command(after_help = PUBLISH_EXAMPLES)]
pub(crate) struct Publish {
    /// The channel: /sub/CHANNEL in the browser
    pub(crate) channel: String,
    /// What to send; `-` or nothing: standard input, to its end
    #[arg(allow_hyphen_values = true)]
    pub(crate) data: Option<String>,
    /// The event's name, for addEventListener in the browser
    #[arg(long, value_name = "NAME")]
    pub(crate) event: Option<String>,
    /// Send the bytes as they are, not in the form that keeps text from being read as anything else
    #[arg(long, conflicts_with = "event")]
    pub(crate) raw: bool,
    /// A key of the message's own: with the same one it is published once
    #[arg(long, value_name = "KEY")]
    pub(crate) key: Option<String>,
    /// Keep so many messages for so long, whatever the fronts say of this channel: 1000,1h
    #[arg(long, value_name = "COUNT,TIME", value_parser = tempest::commands::read_history)]
    pub(crate) history: Option<Keep>,
    #[command(flatten)]
    pub(crate) place: Place,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Status {
    /// As one JSON object
    #[arg(long)]
    pub(crate) json: bool,
    /// The channels that browsers read, with their streams over all fronts
    #[arg(long)]
    pub(crate) channels: bool,
    #[command(flatten)]
    pub(crate) place: Place,
}

#[derive(Clone, Debug, clap::Args)]
#[command(after_help = LOG_EXAMPLES)]
pub(crate) struct Log {
    /// off, error, warn, info, debug, trace, a filter like info,tempest::broker=debug, or default: that of the configuration
    pub(crate) level: String,
    /// Go back to the configured level after this time, 1s to 24h; without it the level holds until the front ends
    #[arg(long = "for", value_name = "TIME")]
    pub(crate) time: Option<String>,
    /// This front alone, by its id in `tempest status`
    #[arg(long, value_name = "ID")]
    pub(crate) front: Option<String>,
    #[command(flatten)]
    pub(crate) place: Place,
}

#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, after_help = CONFIG_EXAMPLES)]
pub(crate) struct Configuration {
    #[command(subcommand)]
    pub(crate) command: Option<ConfigCommand>,
    /// What holds for this command
    #[arg(long = "for", value_name = "COMMAND", default_value = "up")]
    pub(crate) of: Of,
    #[command(flatten)]
    pub(crate) settings: Settings,
}

/// The commands that read a whole configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Of {
    Up,
    Front,
    Supervise,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Print a tempest.toml that has every setting with its default, and what it means
    Reference,
    /// Report everything that is wrong with a configuration, the environment included
    #[command(after_help = CHECK_EXAMPLE)]
    Check {
        /// The file [default: $TEMPEST_CONFIG, or tempest.toml]
        file: Option<String>,
    },
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split(' '))
    }

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn settings_keep_their_text_and_repeat_where_they_may() {
        let cli = parse("tempest front --listen 127.0.0.1:1 --listen x --admin off").expect("flags of the table");
        let Command::Front(settings) = cli.command else { panic!("front") };
        let given: Vec<_> = settings.0.settings.iter().map(|(s, text)| (s.flag, text.as_str())).collect();
        assert_eq!(given, [("listen", "127.0.0.1:1,x"), ("admin", "off")]);
        for line in ["tempest", "tempest front --admin a --admin b", "tempest front --listne x", "tempest up x"] {
            assert_eq!(parse(line).expect_err(line).exit_code(), 2, "{line}");
        }
    }

    #[test]
    fn publish_takes_data_that_looks_like_a_flag() {
        let cli = parse("tempest publish news -5 --event tick --redis redis://h").expect("a message");
        let Command::Publish(publish) = cli.command else { panic!("publish") };
        assert_eq!((publish.data.as_deref(), publish.event.as_deref()), (Some("-5"), Some("tick")));
        assert_eq!(publish.place.0.settings.len(), 1);
        let cli = parse("tempest publish news x --key k --history 10,1s").expect("a message");
        let Command::Publish(publish) = cli.command else { panic!("publish") };
        assert_eq!((publish.key.as_deref(), publish.history), (Some("k"), Keep::new(10, 1000)));
        assert_eq!(parse("tempest publish news x --history 10").expect_err("no time").exit_code(), 2);
        assert!(parse("tempest publish").is_err());
        assert!(parse("tempest publish news - --listen x").is_err());
    }

    #[test]
    fn help_names_every_setting_with_its_variable() {
        let help = parse("tempest up --help").expect_err("help is no command").to_string();
        for setting in tempest::config::options::ALL {
            assert!(help.contains(&format!("--{}", setting.flag)), "{help}");
            assert!(help.contains(&setting.env()), "{help}");
        }
        assert!(parse("tempest --help").expect_err("help").to_string().contains("tempest publish news"));
        assert_eq!(parse("tempest --version").expect_err("version").exit_code(), 0);
    }
}
