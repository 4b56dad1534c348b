//! The flags of the command line that say how to serve.
//!
//! Filled in by `cli`, read by `config`; `--help` prints the lines below.

/// The flags that every command takes; they count more than the file and the environment.
#[allow(clippy::doc_markdown, reason = "clap prints these lines as they stand")]
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
pub struct Flags {
    /// Address to listen on [env: REVERB_SERVER_HOST, default: 0.0.0.0]
    #[arg(long)]
    pub host: Option<String>,
    /// Port to listen on, 0 for any [env: REVERB_SERVER_PORT, default: 8080]
    #[arg(long)]
    pub port: Option<String>,
    /// Prefix of every route [env: REVERB_SERVER_PATH, default: none]
    #[arg(long)]
    pub path: Option<String>,
    /// Public name, for the start banner [env: REVERB_HOST]
    #[arg(long)]
    pub hostname: Option<String>,
    /// JSON or TOML file with the server and its apps [env: SLAPBACK_CONFIG]
    #[arg(long, value_name = "FILE")]
    pub config: Option<String>,
    /// Serve one app made up on the spot, and a page at `/`, on 127.0.0.1
    #[arg(long)]
    pub demo: bool,
    /// Log each connection and message
    #[arg(long)]
    pub debug: bool,
}

impl Flags {
    /// Takes what is not set here from `other`.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            host: self.host.or(other.host),
            port: self.port.or(other.port),
            path: self.path.or(other.path),
            hostname: self.hostname.or(other.hostname),
            config: self.config.or(other.config),
            demo: self.demo || other.demo,
            debug: self.debug || other.debug,
        }
    }
}
