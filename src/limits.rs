//! How many files the process may open, and how many of them are left for connections.
//!
//! Called by `main` at start and by `check`. It raises the limit and closes nothing.

use rustix::process::{Resource, getrlimit, setrlimit};
use tracing::warn;

/// The limit of open files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenFiles {
    /// As the process found it; `None` = unlimited.
    pub found: Option<u64>,
    /// As it is now.
    pub limit: usize,
}

impl OpenFiles {
    /// Raises the limit as far as the system lets us.
    pub fn raise() -> Self {
        let mut limit = getrlimit(Resource::Nofile);
        let found = limit.current;
        limit.current = limit.maximum;
        if let Err(error) = setrlimit(Resource::Nofile, limit) {
            warn!(%error, "the limit of open files could not be raised");
        }
        let limit = getrlimit(Resource::Nofile).current;
        let limit = limit.map_or(usize::MAX, |files| {
            usize::try_from(files).unwrap_or(usize::MAX)
        });
        Self { found, limit }
    }

    /// Connections there is room for.
    ///
    /// # Errors
    /// So few that there is no use in starting, in words for the operator.
    pub fn for_connections(self, shards: u16) -> Result<usize, String> {
        let own = FILES_OF_OUR_OWN + FILES_PER_SHARD * usize::from(shards);
        let needed = own + FILES_FOR_CONNECTIONS_MIN;
        if self.limit < needed {
            let files = self.limit;
            return Err(format!(
                "{files} open files are too few: {needed} are needed (ulimit -n)"
            ));
        }
        Ok(self.limit - own)
    }
}

/// Descriptors besides connections: rings, listeners, wakes, standard streams, with room to spare.
const FILES_OF_OUR_OWN: usize = 32;
/// The same, for each shard.
const FILES_PER_SHARD: usize = 16;
/// With fewer left for connections there is no use in starting: 64 are kept for API calls.
const FILES_FOR_CONNECTIONS_MIN: usize = 128;
