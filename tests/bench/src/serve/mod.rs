//! What this program is when it is a contender's process and not the benchmark: `bench serve WHAT…`.

mod fan_out;
mod hyper;
#[cfg(feature = "mongrel2")]
mod mongrel2;
mod worker;

use clap::Subcommand;

/// What to serve.
#[derive(Debug, Subcommand)]
pub(crate) enum What {
    /// Bare hyper at an address, on one or two threads.
    Hyper {
        /// Where to listen.
        address: std::net::SocketAddr,
        /// Threads: 1 is a single-thread runtime, more a work-stealing one.
        threads: usize,
    },
    /// Streams with nothing but tokio.
    FanOut {
        /// Where to listen.
        address: std::net::SocketAddr,
        /// Threads of a work-stealing runtime.
        threads: usize,
        /// The socket of Redis.
        socket: std::path::PathBuf,
        /// The channel that everybody gets.
        channel: String,
    },
    /// A worker of the Rust SDK, told where by `REDIS_URL` and `TEMPEST_QUEUE`.
    Worker {
        /// Jobs at a time; without it the SDK's default.
        concurrency: Option<usize>,
    },
    /// A handler behind mongrel2.
    #[cfg(feature = "mongrel2")]
    Mongrel2 {
        /// The endpoint that requests are pulled from.
        requests: String,
        /// The endpoint that responses are published to.
        responses: String,
    },
}

/// Serves until it is killed.
pub(crate) fn run(what: What) {
    match what {
        What::Hyper { address, threads } => hyper::serve(address, threads),
        What::FanOut { address, threads, socket, channel } => fan_out::serve(address, threads, socket, channel),
        What::Worker { concurrency } => worker::serve(concurrency),
        #[cfg(feature = "mongrel2")]
        What::Mongrel2 { requests, responses } => mongrel2::serve(&requests, &responses),
    }
}
