//! What libFuzzer is given to break, one module per target, each with a `run` that takes any
//! bytes and panics only if Slapback is wrong.
//!
//! Called by `fuzz_targets/` with what libFuzzer makes up, and by `tests/corpora.rs`, which
//! includes this file, with what is kept in `corpus/`. Nothing in here outlives one call.

pub mod api;
pub mod bus;
pub mod client_event;
pub mod config;
pub mod dotenv;
pub mod frame;
pub mod http;
pub mod laravel;
pub mod query;
pub mod resp;
pub mod session;

mod fleet;
mod listener;
mod net;
mod pieces;
mod script;
#[expect(dead_code, reason = "the simulation asks for more of it")]
#[path = "../../tests/sim/wire.rs"]
mod wire;
