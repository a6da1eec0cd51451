//! The binary: reads the command line, hands over to the library, and ends with 0 (done), 1 (failed) or 2 (wrong
//! command line or configuration). It decides nothing else.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use tempest::commands::{self, Change, CommandError, Message, Show};
use tempest::config::{self, Flags, Loaded, Mode, options};
use tempest::descriptors;
use tempest::listener::{self, Passed};
use tempest::telemetry::Metrics;
use tempest::telemetry::logging::{self, Logging};

mod cli;

use cli::{Cli, Command, ConfigCommand, Configuration, Of, complain, say};

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    // A guard stands beside every child, so it has to be there within milliseconds: not a word of it goes through clap.
    if args.next().is_some_and(|word| word == "guard") {
        return guard(args);
    }
    match Cli::parse().command {
        Command::Up(settings) => run(Mode::Up, &settings.0),
        Command::Front(settings) => run(Mode::Front, &settings.0),
        Command::Supervise(supervise) => run(Mode::Supervise, &supervise.flags()),
        Command::Publish(publish) => with_config(Mode::Client, &publish.place.0, |loaded| send(loaded, &publish)),
        Command::Status(status) => with_config(Mode::Client, &status.place.0, |loaded| show(loaded, &status)),
        Command::Reload(which) => reload(&which.0),
        Command::Config(config) => configuration(config),
        Command::Log(log) => with_config(Mode::Client, &log.place.0, |loaded| change_log(loaded, &log)),
        Command::Metrics => {
            say(Metrics::manual().trim_end());
            ExitCode::SUCCESS
        }
    }
}

fn env(name: &str) -> Option<String> {
    std::env::var_os(name).map(|text| text.to_string_lossy().into_owned())
}

fn in_folder(then: impl FnOnce(&Path) -> ExitCode) -> ExitCode {
    match std::env::current_dir() {
        Ok(folder) => then(&folder),
        Err(error) => complain(1, format_args!("cannot find the working folder: {error}")),
    }
}

fn reload(flags: &Flags) -> ExitCode {
    in_folder(|folder| match config::whereabouts(flags, &env, folder) {
        Ok(whereabouts) => tell(commands::reload(&whereabouts)),
        Err(problems) => complain(2, problems),
    })
}

/// Reads the configuration; all its faults end the process.
fn with_config(mode: Mode, flags: &Flags, then: impl FnOnce(Loaded) -> ExitCode) -> ExitCode {
    in_folder(|folder| match config::load(mode, flags, &env, folder) {
        Ok(loaded) => then(loaded),
        Err(problems) => complain(2, format_args!("the configuration is wrong\n{problems}")),
    })
}

fn run(mode: Mode, flags: &Flags) -> ExitCode {
    // Before anything else: they are the first files of this process.
    let passed = match listener::take() {
        Ok(passed) => passed,
        Err(error) => return complain(2, error),
    };
    with_config(mode, flags, |loaded| {
        let logging = logging::start(&loaded.config.log);
        if let Some(file) = &loaded.file {
            tracing::info!(file = %file.display(), "configuration read");
        }
        for notice in &loaded.notices {
            tracing::warn!("{notice}");
        }
        let serves = mode == Mode::Front || mode == Mode::Up && loaded.config.front.processes == 0;
        if serves && let Some(notice) = descriptors::notice(loaded.config.limits.connections, descriptors::raise()) {
            tracing::warn!("{notice}");
        }
        match mode {
            Mode::Up => up(loaded, passed, logging),
            Mode::Supervise => tempest::supervise::run(&loaded, logging),
            Mode::Front | Mode::Client => front(loaded, passed, &logging),
        }
    })
}

fn configuration(Configuration { command, of, settings }: Configuration) -> ExitCode {
    let mode = match of {
        Of::Up => Mode::Up,
        Of::Front => Mode::Front,
        Of::Supervise => Mode::Supervise,
    };
    match command {
        Some(ConfigCommand::Check { file }) => check(file),
        Some(ConfigCommand::Reference) => {
            say(config::REFERENCE.trim_end());
            ExitCode::SUCCESS
        }
        None => with_config(mode, &settings.0, |loaded| {
            say(commands::settings(&loaded));
            ExitCode::SUCCESS
        }),
    }
}

fn check(file: Option<String>) -> ExitCode {
    let settings = file.map(|file| (&options::CONFIG, file)).into_iter().collect();
    with_config(Mode::Up, &Flags { settings, ..Flags::default() }, |loaded| {
        match loaded.file {
            Some(file) => say(format_args!("{}: good", file.display())),
            None => say("no tempest.toml here: the defaults are good"),
        }
        ExitCode::SUCCESS
    })
}

// The bodies below belong to the library; each is one call.

fn guard(args: impl Iterator<Item = OsString>) -> ExitCode {
    tempest::supervisor::guard::run(args)
}

fn up(loaded: Loaded, passed: Vec<Passed>, logging: Logging) -> ExitCode {
    tempest::up::run(loaded, passed, logging)
}

fn front(loaded: Loaded, passed: Vec<Passed>, logging: &Logging) -> ExitCode {
    match tempest::run::front(loaded, passed, logging) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(1, error),
    }
}

fn send(loaded: Loaded, publish: &cli::Publish) -> ExitCode {
    let cli::Publish { channel, data, event, raw, key, history, .. } = publish.clone();
    let message = Message { channel, data, event, raw, key, history };
    tell(commands::publish(&loaded, message))
}

fn show(loaded: Loaded, status: &cli::Status) -> ExitCode {
    tell(commands::status(&loaded, Show { json: status.json, channels: status.channels }))
}

fn change_log(loaded: Loaded, log: &cli::Log) -> ExitCode {
    let cli::Log { level, time, front, .. } = log.clone();
    tell(commands::log(&loaded, &Change { level, time, front }))
}

fn tell(result: Result<String, CommandError>) -> ExitCode {
    match result {
        Ok(text) => {
            say(text.trim_end());
            ExitCode::SUCCESS
        }
        Err(error) => complain(1, error),
    }
}
