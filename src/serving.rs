//! The apps that the whole process serves: replaced by the fleet on a reload, looked at by each
//! shard and the Redis thread when they look at the time. Nothing here wakes anybody.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::app::Apps;

/// The apps that the whole process serves.
#[derive(Debug)]
pub struct Serving {
    /// How often they have been replaced: a look at it costs no lock.
    edition: AtomicU64,
    latest: Mutex<Latest>,
}

#[derive(Debug)]
struct Latest {
    apps: Arc<Apps>,
    /// Shards that have not taken them.
    missing: usize,
}

/// Apps that a shard has just learnt of.
pub struct Taken {
    /// They.
    pub apps: Arc<Apps>,
    /// No other shard is behind.
    pub by_all: bool,
}

impl Serving {
    /// What every shard begins with.
    pub fn new(apps: Arc<Apps>) -> Self {
        Self {
            edition: AtomicU64::new(0),
            latest: Mutex::new(Latest { apps, missing: 0 }),
        }
    }

    /// Puts other apps in their place, for as many shards to take.
    pub fn replace(&self, apps: Arc<Apps>, shards: usize) {
        let mut latest = self.lock();
        *latest = Latest {
            apps,
            missing: shards,
        };
        self.edition.fetch_add(1, Ordering::Release);
    }

    /// For a shard: the apps, if they are others than those of its edition.
    pub fn take(&self, edition: &Cell<u64>) -> Option<Taken> {
        let mut seen = edition.get();
        let mut latest = self.newer(&mut seen)?;
        edition.set(seen);
        latest.missing = latest.missing.saturating_sub(1);
        Some(Taken {
            apps: Arc::clone(&latest.apps),
            by_all: latest.missing == 0,
        })
    }

    /// For anybody else: the same.
    pub fn look(&self, edition: &mut u64) -> Option<Arc<Apps>> {
        let latest = self.newer(edition)?;
        Some(Arc::clone(&latest.apps))
    }

    /// The apps now.
    pub fn apps(&self) -> Arc<Apps> {
        Arc::clone(&self.lock().apps)
    }

    /// The latest, if they are of another edition, which is then the caller's.
    fn newer(&self, edition: &mut u64) -> Option<MutexGuard<'_, Latest>> {
        if self.edition.load(Ordering::Acquire) == *edition {
            return None;
        }
        let latest = self.lock();
        *edition = self.edition.load(Ordering::Acquire);
        Some(latest)
    }

    fn lock(&self) -> MutexGuard<'_, Latest> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
