//! What a run consists of: phases, and what the monkey does in each.

use std::time::Duration;

/// Something the monkey does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deed {
    /// SIGKILL to a worker.
    KillWorker,
    /// SIGKILL to several workers, one right after the other.
    KillWorkers,
    /// SIGKILL to a supervisor of workers.
    KillSupervisor,
    /// SIGSTOP to a worker, and SIGCONT 4 to 6 s later.
    StopWorker,
    /// SIGKILL to a front.
    KillFront,
    /// `CLIENT KILL` of any connection to Redis.
    CutClient,
    /// The proxy cuts a connection.
    ProxyCut,
    /// The proxy closes one direction of a connection.
    ProxyHalfClose,
    /// The proxy delays all that passes.
    ProxyDelay,
    /// Nothing passes the proxy for 4 to 6 s.
    ProxyHole,
    /// Redis is killed or shut down, and started again with another setting of what it keeps.
    RestartRedis,
}

impl Deed {
    /// True where it disturbs connections to Redis as long as it is done at all.
    pub(crate) fn disturbs(self) -> bool {
        matches!(self, Self::CutClient | Self::ProxyCut | Self::ProxyHalfClose | Self::ProxyDelay | Self::ProxyHole)
    }
}

/// A part of a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Phase {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    /// In the short run, in seconds.
    pub(crate) seconds: u64,
    /// What is done, and the mean pause before it is done again, in milliseconds.
    pub(crate) deeds: &'static [(Deed, u64)],
    /// Part of the short run.
    pub(crate) short: bool,
}

impl Phase {
    pub(crate) fn length(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }

    pub(crate) fn disturbs(&self) -> bool {
        self.deeds.iter().any(|(deed, _)| deed.disturbs())
    }
}

/// All phases in their order.
pub(crate) const PHASES: [Phase; 10] = [
    Phase { name: "calm", what: "nothing happens, so nothing may fail", seconds: 3, deeds: &[], short: true },
    Phase {
        name: "workers",
        what: "workers are killed, several at once too, and a supervisor now and then",
        seconds: 12,
        deeds: &[(Deed::KillWorker, 500), (Deed::KillWorkers, 1_700), (Deed::KillSupervisor, 6_000)],
        short: true,
    },
    Phase {
        name: "stops",
        what: "workers are stopped for 4 to 6 s and go on",
        seconds: 5,
        deeds: &[(Deed::StopWorker, 1_000)],
        short: true,
    },
    Phase { name: "fronts", what: "fronts are killed", seconds: 5, deeds: &[(Deed::KillFront, 1_200)], short: true },
    Phase {
        name: "cuts",
        what: "a connection to Redis, anybody's, is ended every 50 ms",
        seconds: 4,
        deeds: &[(Deed::CutClient, 50)],
        short: true,
    },
    Phase {
        name: "proxy",
        what: "half of the connections to Redis are delayed, cut and half-closed",
        seconds: 5,
        deeds: &[(Deed::ProxyCut, 150), (Deed::ProxyHalfClose, 300), (Deed::ProxyDelay, 700)],
        short: true,
    },
    Phase {
        name: "holes",
        what: "for 4 to 6 s nothing passes between half of the processes and Redis, and nobody is told",
        seconds: 12,
        deeds: &[(Deed::ProxyHole, 3_000)],
        short: false,
    },
    Phase {
        name: "redis",
        what: "Redis is killed or shut down, with nothing on disk, with appendfsync always, with everysec",
        seconds: 8,
        deeds: &[(Deed::RestartRedis, 2_000)],
        short: true,
    },
    Phase {
        name: "everything",
        what: "all of it at once",
        seconds: 30,
        deeds: &[
            (Deed::KillWorker, 1_000),
            (Deed::KillWorkers, 8_000),
            (Deed::KillSupervisor, 15_000),
            (Deed::StopWorker, 5_000),
            (Deed::KillFront, 5_000),
            (Deed::CutClient, 500),
            (Deed::ProxyCut, 1_000),
            (Deed::ProxyHalfClose, 2_000),
            (Deed::ProxyDelay, 5_000),
            (Deed::ProxyHole, 20_000),
            (Deed::RestartRedis, 10_000),
        ],
        short: false,
    },
    Phase { name: "after", what: "nothing happens, and everybody works again", seconds: 5, deeds: &[], short: true },
];

/// The phases of a run of about `minutes`; None: the short one. `only` chooses some by name; the first and the last,
/// in which nothing happens, belong to every run.
pub(crate) fn plan(minutes: Option<u64>, only: &[String]) -> Result<Vec<Phase>, String> {
    if let Some(unknown) = only.iter().find(|name| !PHASES.iter().any(|phase| phase.name == **name)) {
        let names: Vec<_> = PHASES.iter().map(|phase| phase.name).collect();
        return Err(format!("there is no phase '{unknown}'; there are {}", names.join(", ")));
    }
    let chosen = |phase: &&Phase| match only.is_empty() {
        true => phase.short || minutes.is_some(),
        false => only.iter().any(|name| name == phase.name),
    };
    let [calm, .., after] = PHASES;
    let between = &PHASES[1..PHASES.len() - 1];
    let round: Vec<Phase> = between.iter().filter(chosen).copied().collect();
    let of_round: u64 = round.iter().map(|phase| phase.seconds).sum();
    let rounds = minutes.map_or(1, |minutes| (minutes * 60).div_ceil(of_round.max(1)));
    let mut phases = vec![calm];
    for _ in 0..rounds {
        phases.extend_from_slice(&round);
    }
    phases.push(after);
    Ok(phases)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_begins_and_ends_in_peace() {
        let names = |minutes, only: &[&str]| {
            let only: Vec<String> = only.iter().map(|name| (*name).to_owned()).collect();
            plan(minutes, &only).map(|phases| phases.iter().map(|phase| phase.name).collect::<Vec<_>>())
        };
        assert_eq!(names(None, &["fronts"]), Ok(vec!["calm", "fronts", "after"]));
        assert_eq!(names(None, &["calm"]), Ok(vec!["calm", "after"]));
        let short = names(None, &[]).expect("a plan");
        assert!(short.contains(&"workers") && !short.contains(&"everything"), "{short:?}");
        let long = names(Some(5), &[]).expect("a plan");
        assert!(long.iter().filter(|name| **name == "everything").count() > 2, "{long:?}");
        assert!(names(None, &["frnts"]).expect_err("no such phase").contains("there are calm, workers"));
    }
}
