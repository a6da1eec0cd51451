//! Real processes: nothing is left behind, whatever dies. Each thing is awaited by an event (the end of a pipe, a line, a
//! process that is gone) under one deadline.

mod guard;
mod hooks;
mod limits;
mod redis;
mod rolling;
mod supervise;
mod supervised;
mod support;
mod up;
