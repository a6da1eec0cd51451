//! The one integration binary: the whole system with a real Redis, real processes and a real browser, by behaviour.

mod admin;
mod cli;
mod config;
mod examples;
mod files;
mod hold;
mod hostile;
mod limits;
mod observe;
mod pages;
mod proxies;
mod publish;
mod raw_workers;
mod redis_down;
mod reliable;
mod reload;
mod request_reply;
mod restarts;
mod scripts;
mod sdk_workers;
mod sessions;
mod sse;
mod supervised;
mod tidy;
mod units;
mod up;
