//! The configuration in words, for `slapback check`: secrets masked, one line per app.
//!
//! Called by `cli`. Never opens or probes anything; what was probed comes in as text.

use std::fmt;

use super::{Config, DriverChoice, host_in_url};
use crate::app::AppSettings;

impl fmt::Display for DriverChoice {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Auto => "auto",
            Self::Uring => "uring",
            Self::Epoll => "epoll",
        })
    }
}

impl fmt::Display for Config {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (host, port, path) = (host_in_url(&self.host), self.port, &self.path);
        writeln!(out, "listen               {host}:{port}{path}")?;
        if let Some(hostname) = &self.hostname {
            writeln!(out, "hostname             {hostname}")?;
        }
        writeln!(out, "max_request_size     {} bytes", self.max_request_size)?;
        writeln!(out, "driver               {}", self.driver)?;
        let shards = self
            .shards
            .map_or("one per CPU".to_owned(), |count| count.to_string());
        writeln!(out, "shards               {shards}")?;
        let pin = self
            .pin
            .map_or("if the CPUs are ours alone".to_owned(), |pin| {
                pin.to_string()
            });
        writeln!(out, "pin                  {pin}")?;
        writeln!(out, "reuse_port           {}", self.reuse_port)?;
        writeln!(
            out,
            "backlog              {} bytes or {} s per socket, {} bytes in all",
            self.backlog_bytes, self.backlog_seconds, self.backlog_total
        )?;
        writeln!(out, "rings                {} bytes", self.ring_bytes)?;
        writeln!(
            out,
            "cached events        {} channels or {} bytes per app",
            self.cache_channels, self.cache_bytes
        )?;
        writeln!(
            out,
            "drain                {} s delay, then over {} s",
            self.drain_delay_s, self.drain_seconds
        )?;
        let tolerance = match self.auth_timestamp_tolerance_s {
            0 => "any".to_owned(),
            seconds => format!("{seconds} s"),
        };
        writeln!(out, "timestamp tolerance  {tolerance}")?;
        self.apps.iter().try_for_each(|app| write_app(out, app))?;
        self.warnings
            .iter()
            .try_for_each(|warning| writeln!(out, "warning: {warning}"))
    }
}

fn write_app(out: &mut fmt::Formatter<'_>, app: &AppSettings) -> fmt::Result {
    writeln!(out, "app {}", app.id)?;
    writeln!(out, "  key                {}", app.key)?;
    writeln!(out, "  secret             {MASK}")?;
    writeln!(
        out,
        "  origins            {}",
        app.allowed_origins.join(", ")
    )?;
    writeln!(out, "  client events      {}", app.client_events)?;
    let most = app
        .max_connections
        .map_or("unlimited".to_owned(), |most| most.to_string());
    writeln!(out, "  connections        {most}")?;
    match app.max_message_size {
        0 => writeln!(out, "  message size       32 MiB")?,
        bytes => writeln!(out, "  message size       {bytes} bytes")?,
    }
    writeln!(
        out,
        "  silence            ping after {} s, clients told {} s",
        app.ping_interval_s, app.activity_timeout_s
    )?;
    match app.rate_limit {
        None => writeln!(out, "  rate limit         off"),
        Some(limit) => writeln!(
            out,
            "  rate limit         {} messages in {} s{}",
            limit.max_attempts,
            limit.decay_s,
            if limit.terminate {
                ", then the socket is closed"
            } else {
                ""
            }
        ),
    }
}

const MASK: &str = "********";
