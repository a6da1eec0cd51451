//! Makes flags out of the configuration's table of settings.

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};
use tempest::config::Flags;
use tempest::config::options::{ADMIN, ALL, CONFIG, LOG_FORMAT, LOG_LEVEL, PREFIX, REDIS, Setting, WORKER};

/// All settings that are flags.
#[derive(Debug)]
pub(crate) struct Settings(pub(crate) Flags);

/// Those that say which Redis and which names in it.
#[derive(Clone, Debug)]
pub(crate) struct Place(pub(crate) Flags);

/// Those that say which run.
#[derive(Clone, Debug)]
pub(crate) struct Which(pub(crate) Flags);

/// Those of a process that runs workers and no front.
#[derive(Debug)]
pub(crate) struct Base(pub(crate) Flags);

/// Those of the workers of a command line.
#[derive(Debug)]
pub(crate) struct Workers(pub(crate) Flags);

const PLACE: &[Setting] = &[CONFIG, REDIS, PREFIX];
const WHICH: &[Setting] = &[CONFIG, ADMIN];
const BASE: &[Setting] = &[CONFIG, REDIS, PREFIX, LOG_FORMAT, LOG_LEVEL];

fn arg(setting: &'static Setting) -> Arg {
    let action = if setting.repeats { ArgAction::Append } else { ArgAction::Set };
    let arg = Arg::new(setting.flag).long(setting.flag).value_name(setting.value).action(action);
    arg.help(setting.full_help())
}

fn given(settings: &'static [Setting], matches: &ArgMatches) -> Flags {
    let text = |setting: &Setting| {
        let values = matches.get_many::<String>(setting.flag)?;
        Some(values.map(String::as_str).collect::<Vec<_>>().join(","))
    };
    Flags {
        settings: settings.iter().filter_map(|setting| Some((setting, text(setting)?))).collect(),
        command: Vec::new(),
    }
}

/// What clap asks of a group of flags.
macro_rules! flags {
    ($type:ident, $settings:expr) => {
        impl FromArgMatches for $type {
            fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
                Ok(Self(given($settings, matches)))
            }

            fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
                self.0 = given($settings, matches);
                Ok(())
            }
        }

        impl Args for $type {
            fn augment_args(command: Command) -> Command {
                command.args($settings.iter().map(arg))
            }

            fn augment_args_for_update(command: Command) -> Command {
                Self::augment_args(command)
            }
        }
    };
}

flags!(Settings, ALL);
flags!(Place, PLACE);
flags!(Which, WHICH);
flags!(Base, BASE);
flags!(Workers, WORKER);
