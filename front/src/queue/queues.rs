//! What a reload changes of a dispatch: its limits, and the queues that it looks after.
//!
//! A queue is known for as long as somebody can ask for it: the routes that hold now, a request that was routed by those
//! before them, and its keeper while something is claimed. So one that comes back is the one that it was, with what was
//! measured of it and with the requests that wait. It must not decide which queues there are; routes do.

use std::rc::Rc;

use super::lane::QueueState;
use super::{Dispatch, Holds};
use crate::config::Limits;

impl Dispatch {
    /// Takes other limits, from the next request, answer or death on.
    pub fn apply(&self, limits: Limits, holds: Holds) {
        self.limits.replace(limits);
        self.holds.replace(holds);
    }

    /// The queues that are known.
    pub fn queues(&self) -> Vec<Rc<QueueState>> {
        let mut queues = self.queues.borrow_mut();
        queues.retain(|queue| queue.strong_count() > 0);
        queues.iter().filter_map(std::rc::Weak::upgrade).collect()
    }

    /// A queue that is to be looked after; one that is known already stays as it is.
    pub fn add_queue(&self, queue: &Rc<QueueState>) {
        if !self.queues().iter().any(|known| Rc::ptr_eq(known, queue)) {
            self.queues.borrow_mut().push(Rc::downgrade(queue));
        }
    }
}
