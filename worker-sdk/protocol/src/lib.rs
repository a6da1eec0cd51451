//! The wire contract between the front and its workers: names, messages and their codec.
//!
//! Both sides depend on this crate and on nothing of each other, so a change of the format is a change here, in
//! `protocol.md` and in the golden vectors, and nowhere else. It must not do I/O, know Redis commands or HTTP
//! libraries, or keep state.

mod answer;
mod event;
mod history;
mod job;
mod json;
mod log;
mod names;
mod pack;
mod scan;
pub mod scripts;
mod session;

pub use answer::{
    Answer, AnswerHead, Death, Decoded, Headers, Hold, HoldError, HoldMode, MAX_HOLD_CHANNELS, MAX_HOLD_MS, ONCE_MS,
    Reason, Rejected, decode_answer, encode_answer, encode_packed_answer, is_field_value, is_token,
};
pub use event::{Event, Payload, decode_payload, encode_payload, frame_sse};
pub use history::{HistoryRules, Keep, matches_pattern};
pub use job::{
    Job, JobError, JobFields, JobHead, JobText, JobWriter, PackedJobWriter, Peek, WriteJob, decode_job, peek_job,
    pushed_ms, rewrite_job,
};
pub use json::write_json_string;
pub use log::{Announcement, LogId, NotAnId};
pub use names::{Keys, NameError, QueueKeys, QueueName};
pub use pack::Codec;
pub use session::{Session, SessionChange, write_session};

/// The version of the contract that this crate speaks (field `v` of a job).
pub const VERSION: u64 = 1;
/// Largest answer message in bytes that a worker may send unless the front is configured otherwise.
pub const MAX_ANSWER_BYTES: usize = 1024 * 1024;
/// Size in bytes at which an SDK cuts a streamed body into messages.
pub const STREAM_CUT_BYTES: usize = 64 * 1024;
