//! Places in a job's text, and texts that outlive the job.
//!
//! It must not know what stands at a place.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// From one byte to another in a job's text.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Span {
    start: u32,
    end: u32,
}

impl Span {
    /// None: no message is that long.
    pub(super) fn new(start: usize, end: usize) -> Option<Self> {
        Some(Self { start: start.try_into().ok()?, end: end.try_into().ok()? })
    }

    /// The same place counted from `start`; None: it is before that.
    pub(super) fn counted_from(self, start: usize) -> Option<Self> {
        let start = u32::try_from(start).ok()?;
        Some(Self { start: self.start.checked_sub(start)?, end: self.end.checked_sub(start)? })
    }

    pub(super) fn is_empty(self) -> bool {
        self.start == self.end
    }

    pub(super) fn of(self, text: &str) -> &str {
        &text[self.start as usize..self.end as usize]
    }
}

/// A text of a job that may outlive it: it holds what the front said, and not the body.
#[derive(Clone)]
pub struct JobText {
    pub(super) text: Arc<str>,
    pub(super) span: Span,
}

impl Deref for JobText {
    type Target = str;

    fn deref(&self) -> &str {
        self.span.of(&self.text)
    }
}

impl fmt::Debug for JobText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}
