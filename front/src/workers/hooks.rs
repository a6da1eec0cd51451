//! Where another part takes part in the life of the processes: at their start, when they are stopped, at their death.
//!
//! Whoever gives back what a dead worker held hangs in here. The supervisor calls; it must not know what is done with it.

use std::ffi::OsString;
use std::fmt::Debug;

use tempest_protocol::QueueName;

use crate::config::Claims;
use crate::supervisor::child::Exit;

/// One run of one worker program. Another run of the same place is another process with another id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// The worker id it is told (`TEMPEST_WORKER_ID`).
    pub id: String,
    /// The queue it is told to serve.
    pub queue: QueueName,
    /// The name of its group: `[workers.NAME]`.
    pub group: String,
    /// Its place in the group, by which the log knows it: `web.2`.
    pub place: String,
    /// How it takes jobs.
    pub claims: Claims,
}

/// Called at the turns of a process's life, on the supervisor's own thread: nothing in here may block or take long.
///
/// Each [`Hooks::starting`] is followed by exactly one [`Hooks::died`], also where the program could not be started.
pub trait Hooks: Debug + Send + Sync {
    /// Right before a process is started. What is returned is added to its environment, over what the supervisor says
    /// (another `REDIS_URL`, say) and under the `env` of its configuration.
    fn starting(&self, process: &Process) -> Vec<(OsString, OsString)> {
        let _ = process;
        Vec::new()
    }

    /// It runs, with this process id.
    fn started(&self, process: &Process, pid: i32) {
        let _ = (process, pid);
    }

    /// It does nothing until it is told to go on (SIGSTOP, a debugger). It is no longer said to be alive.
    fn stopped(&self, process: &Process) {
        let _ = process;
    }

    /// It goes on after [`Hooks::stopped`].
    fn continued(&self, process: &Process) {
        let _ = process;
    }

    /// It is gone, for certain; called before anything else is done about it. Its own children may still be there.
    fn died(&self, process: &Process, exit: &Exit) {
        let _ = (process, exit);
    }
}

/// Nobody takes part.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoHooks;

impl Hooks for NoHooks {}
