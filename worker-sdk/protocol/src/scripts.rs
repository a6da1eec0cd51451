//! The scripts of the contract, which run inside Redis: their text, and nothing that sends it.
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
/// The name under which Redis knows [`PUBLISH`].
pub const PUBLISH_SHA: &str = "a8f35a9f97be14c00b5513abdfdd8616424c7a2d";
/// Publishes on a channel without history, once.
pub const ONCE: &str = include_str!("../scripts/once.lua");
/// The name under which Redis knows [`ONCE`].
pub const ONCE_SHA: &str = "1ba4386fd5f25eb3f899c9b1ae7b7d93471a293a";
