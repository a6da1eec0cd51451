//! SIGTERM and SIGINT: the first asks the worker to stop, the second ends the process at once.
//!
//! They are waited for on a thread of their own, so that the second works even while a handler computes for ever on
//! the worker's thread.

use std::io;
use std::thread;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

/// Exit status of a process ended by a signal, as shells have it: this plus the signal's number.
const BY_SIGNAL: i32 = 128;

/// Completes at the first signal.
pub(crate) fn stop_signal() -> io::Result<oneshot::Receiver<()>> {
    let (stop, stopped) = oneshot::channel();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let (mut term, mut int) = {
        let _inside = runtime.enter();
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?)
    };
    thread::Builder::new().name("signals".into()).spawn(move || {
        runtime.block_on(async {
            next(&mut term, &mut int).await;
            tracing::info!("told to stop; once more ends it at once");
            // The worker has ended already: then nothing is left to stop.
            let _ = stop.send(());
            let number = next(&mut term, &mut int).await;
            std::process::exit(BY_SIGNAL + number);
        });
    })?;
    Ok(stopped)
}

async fn next(term: &mut Signal, int: &mut Signal) -> i32 {
    tokio::select! {
        _ = term.recv() => SignalKind::terminate().as_raw_value(),
        _ = int.recv() => SignalKind::interrupt().as_raw_value(),
    }
}
