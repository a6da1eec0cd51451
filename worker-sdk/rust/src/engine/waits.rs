//! What the loop waits for besides its jobs and its connection.

use std::pin::Pin;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};

use crate::connection::Reply;
use crate::publisher::Command;

/// Wait before asking again to end a pop that had not reached Redis yet.
const UNBLOCK_AGAIN: Duration = Duration::from_millis(10);

/// The end of a wait for jobs, under way.
pub(super) type Unblocking = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Ends the pop that a connection waits in. Closing the connection would do it too, and lose the job that Redis
/// may be handing over at that moment. A pop that has not reached Redis yet cannot be ended, so this asks again.
pub(super) async fn unblock(commands: mpsc::Sender<Command>, client: i64) {
    loop {
        let parts = [b"CLIENT".as_slice(), b"UNBLOCK", client.to_string().as_bytes()].map(<[u8]>::to_vec);
        let (command, replied) = Command::new(parts.into());
        if commands.send(command).await.is_err() || matches!(replied.await, Ok(Ok(Reply::Int(1)))) {
            return;
        }
        sleep(UNBLOCK_AGAIN).await;
    }
}

/// Waits for a moment if there is one, else for ever; a timer is made only then.
pub(super) async fn reached(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// Waits for the future if there is one, else for ever.
pub(super) async fn unblocked(unblocking: &mut Option<Unblocking>) {
    match unblocking {
        Some(unblocking) => unblocking.await,
        None => std::future::pending().await,
    }
}
