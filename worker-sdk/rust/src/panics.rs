//! A handler that panics fails its own request and nothing else.
//!
//! The message alone is of little help, so a hook notes the place (and in development the back-trace) of a panic
//! inside a handler. The hook that was there before still runs, whatever it does.

use std::any::Any;
use std::backtrace::Backtrace;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::pin::Pin;
use std::sync::Once;
use std::task::{Context, Poll};

thread_local! {
    static GUARDED: Cell<Guard> = const { Cell::new(Guard::Off) };
    static NOTED: RefCell<Option<Note>> = const { RefCell::new(None) };
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Guard {
    Off,
    Place,
    /// Takes milliseconds, so only development has it.
    PlaceAndTrace,
}

struct Note {
    place: String,
    trace: Option<String>,
}

/// A caught panic.
#[derive(Debug)]
pub(crate) struct Panicked {
    message: String,
    place: String,
    trace: Option<String>,
}

impl std::error::Error for Panicked {}

impl fmt::Display for Panicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "panicked at {}: {}", self.place, self.message)?;
        match &self.trace {
            Some(trace) => write!(f, "\n{trace}"),
            None => Ok(()),
        }
    }
}

/// Puts the hook in place, once a process.
pub(crate) fn install_hook() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            note(info);
            previous(info);
        }));
    });
}

fn note(info: &PanicHookInfo<'_>) {
    let guard = GUARDED.get();
    if guard == Guard::Off {
        return;
    }
    let place = info.location().map_or_else(|| "an unknown place".into(), ToString::to_string);
    let trace = (guard == Guard::PlaceAndTrace).then(|| Backtrace::force_capture().to_string());
    NOTED.set(Some(Note { place, trace }));
}

/// Calls `work` and turns a panic into a value.
pub(crate) fn guarded<T>(with_trace: bool, work: impl FnOnce() -> T) -> Result<T, Panicked> {
    GUARDED.set(if with_trace { Guard::PlaceAndTrace } else { Guard::Place });
    // What a handler owns is dropped with it, and what it shares is its own affair, as with any thread that panics.
    let outcome = catch_unwind(AssertUnwindSafe(work));
    GUARDED.set(Guard::Off);
    outcome.map_err(|payload| {
        let note = NOTED.take();
        let (place, trace) = note.map_or_else(|| ("an unknown place".into(), None), |note| (note.place, note.trace));
        Panicked { message: message(&*payload), place, trace }
    })
}

fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&'static str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic without a text".into())
}

/// A future each poll of which is guarded.
pub(crate) struct Guarded<F> {
    pub(crate) inner: F,
    pub(crate) with_trace: bool,
}

impl<F: Future + Unpin> Future for Guarded<F> {
    type Output = Result<F::Output, Panicked>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match guarded(self.with_trace, || Pin::new(&mut self.inner).poll(cx)) {
            Ok(poll) => poll.map(Ok),
            Err(panicked) => Poll::Ready(Err(panicked)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_a_value_with_its_place() {
        install_hook();
        assert_eq!(guarded(false, || 7).expect("no panic"), 7);
        let panicked = guarded(false, || panic!("at {}", 7)).expect_err("a panic");
        let text = panicked.to_string();
        assert!(text.contains("panics.rs") && text.ends_with(": at 7"), "{text}");
        let traced = guarded(true, || panic!("traced")).expect_err("a panic").to_string();
        assert!(traced.lines().count() > 3, "{traced}");
    }
}
