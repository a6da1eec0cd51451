//! The context that holds now: a reload puts another in its place.
//!
//! A request takes the one that holds when its head is there and keeps it to its end. Nobody else may keep one for longer
//! than a look, or it would go on under settings that hold no more.

use std::cell::RefCell;
use std::rc::Rc;

use super::Context;

/// A reactor's context at this moment.
pub struct Current(RefCell<Rc<Context>>);

impl Current {
    /// Begins with this one.
    pub fn new(context: Context) -> Self {
        Self(RefCell::new(Rc::new(context)))
    }

    /// The one that holds now.
    pub fn get(&self) -> Rc<Context> {
        Rc::clone(&self.0.borrow())
    }

    /// From here on another one holds.
    pub fn set(&self, context: Context) {
        // The one before may be the last of its kind: what it drops must find this one free to be asked.
        let before = self.0.replace(Rc::new(context));
        drop(before);
    }
}
