//! Slapback: a Pusher-protocol WebSocket edge server, a drop-in replacement for the Laravel
//! Reverb container. One binary, one shard per CPU.
//!
//! # Layout
//! - [`cli`], [`check`], [`health`], [`reload`], [`restart`]: the command line and what its
//!   commands do.
//! - [`fleet`]: threads, mesh, drain.
//! - [`edge`], [`redis`]: the kernel's side of one shard: accept, read, flush; the Redis thread.
//! - [`shard`]: one shard without the kernel: sessions, index, homes, turn logs.
//! - [`ring`], [`wake`], [`refusals`]: how threads reach one another; the log of what was refused.
//! - [`proto`]: one connection: HTTP, WebSocket, the Pusher protocol.
//! - [`app`], [`broadcast`], [`config`], [`env`](mod@env), [`hex`], [`limits`], [`log`],
//!   [`metrics`], [`serving`], [`status`], [`tuning`]: what they all speak of, what the operator
//!   says, and what the kernel should allow.
//!
//! Imports point downwards in this list, never back. `proto` and `shard` name no socket, clock,
//! thread or runtime.

pub mod app;
pub mod broadcast;
pub mod check;
pub mod cli;
pub mod config;
pub mod edge;
pub mod env;
pub mod fleet;
pub mod health;
pub mod hex;
pub mod limits;
pub mod log;
pub mod metrics;
pub mod proto;
pub mod redis;
pub mod refusals;
pub mod reload;
pub mod restart;
pub mod ring;
pub mod serving;
pub mod shard;
pub mod status;
pub mod tuning;
pub mod wake;

/// Exit code: asked to stop.
pub const EXIT_STOPPED: i32 = 0;
/// Exit code: the address cannot be bound.
pub const EXIT_CANNOT_BIND: i32 = 1;
/// Exit code: the configuration is wrong.
pub const EXIT_CONFIGURATION: i32 = 2;
/// Exit code: an internal failure.
pub const EXIT_INTERNAL: i32 = 70;
