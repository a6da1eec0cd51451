//! What the chaos suite and its worker share: the ledger, and the clock its lines are dated by.
//!
//! It must know neither front nor SDK, since the checker believes nothing but these lines.

pub mod clock;
pub mod ledger;
