//! The harness: starts real Redis servers, fronts, workers and browsers, and asserts that they leave nothing.
//!
//! It speaks HTTP, RESP, SSE and WebDriver over plain sockets (TLS by rustls), so that a test sees exact bytes and shares no code
//! with what it tests. It must not depend on the front's library: it knows the binary and the contract alone.

mod base64;
mod binary;
pub mod browser;
mod claimer;
mod command;
mod copied;
mod front;
pub mod h2;
mod http;
mod load;
pub mod mutants;
pub mod packed;
mod pages;
mod ports;
mod process;
mod redis;
mod resp;
mod sse;
mod tls;
mod token;
mod up;
mod wait;
mod worker;
mod world;

pub use base64::decode_base64;
pub use binary::{python_with_sdk, repository, rust_binary, rust_example, rust_worker, target_folder, tempest_binary};
pub use claimer::{Claim, Claimer};
pub use command::{Ran, tempest, tempest_command};
pub use copied::{copies_folder, copy_tree, done, seed_builds};
pub use front::{Front, Metrics};
pub use http::{Chunk, Http, Response};
pub use load::{Client, Load};
pub use pages::Page;
pub use ports::free_port;
pub use process::{Log, Process, alive, kill, kill_group, processes_of, under};
pub use redis::Redis;
pub use resp::{Resp, Value};
pub use rustix::process::Signal;
pub use sse::{Event, Item, Sse};
pub use tls::{Certificate, Trust};
pub use token::{Signer, in_seconds, jwks, token};
pub use up::Up;
pub use wait::{PATIENCE, wait_until, within};
pub use worker::{Job, RAW_LANGUAGES, Reply, TestWorker, prepare_raw_workers, raw_worker, sdk_worker};
pub use world::{Folder, World, WorldBuilder, assert_no_process, scratch};
