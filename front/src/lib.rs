//! Tempest's front: it holds connections, turns requests into jobs on a Redis list, and streams channels to browsers.
//!
//! The floors, lowest first; a module imports lower floors only (a test holds it):
//! 0 [`ident`], [`config`], [`error`], [`backoff`], [`descriptors`] · 1 [`telemetry`], [`lifecycle`], [`listener`],
//! [`notify`], [`cookies`], [`origin`], [`places`], [`supervisor`], `tls` · 2 [`broker`] ·
//! 3 `auth`, [`queue`], `hub`, [`session`] · 4 `http` · 5 `connection`, `admin` · 6 `server`, [`embed`], the commands, `main`.

pub mod admin;
pub mod auth;
pub mod backoff;
pub mod broker;
pub mod commands;
pub mod config;
pub mod connection;
pub mod cookies;
pub mod descriptors;
pub mod embed;
pub mod error;
pub mod http;
pub mod hub;
pub mod ident;
pub mod lifecycle;
pub mod listener;
pub mod notify;
pub mod origin;
pub mod places;
pub mod queue;
pub mod reactor;
pub mod registry;
mod reload;
pub mod run;
pub mod server;
pub mod session;
pub mod supervise;
pub mod supervisor;
pub mod telemetry;
mod tls;
pub mod up;
pub mod workers;
