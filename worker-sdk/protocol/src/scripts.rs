//! The scripts of reliable mode, which run inside Redis: their text, and nothing that sends it.
//!
//! They are part of the contract: every SDK and every front sends these very texts, so that what one side does is what
//! the other expects. Each says in its first lines which keys and arguments it takes and what it gives.

/// Lets a worker take claims.
pub const REGISTER: &str = include_str!("../scripts/register.lua");
/// Moves jobs into a worker's claims.
pub const CLAIM: &str = include_str!("../scripts/claim.lua");
/// Finds claims whose replies never arrived.
pub const RECOVER: &str = include_str!("../scripts/recover.lua");
/// Marks claims as started.
pub const MARK: &str = include_str!("../scripts/mark.lua");
/// Gives claims back that were not started.
pub const GIVE_BACK: &str = include_str!("../scripts/give_back.lua");
/// Acknowledges jobs of a batch that do not end together.
pub const ACKNOWLEDGE: &str = include_str!("../scripts/acknowledge.lua");
/// Takes everything from a dead worker.
pub const REAP: &str = include_str!("../scripts/reap.lua");
/// Takes or renews the lease of a queue's keeper.
pub const LEASE: &str = include_str!("../scripts/lease.lua");
/// Removes lost jobs that have been handed over.
pub const TRIM: &str = include_str!("../scripts/trim.lua");
/// Pushes a job of high or low priority.
pub const PUSH: &str = include_str!("../scripts/push.lua");
/// Withdraws a job.
pub const WITHDRAW: &str = include_str!("../scripts/withdraw.lua");
/// Looks at a queue.
pub const LOOK: &str = include_str!("../scripts/look.lua");
/// Publishes on a channel with history.
pub const PUBLISH: &str = include_str!("../scripts/publish.lua");
