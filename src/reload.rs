//! SIGHUP: the apps are read anew and take the place of those that are served, whole or not at all.
//!
//! Called by `main` between signals. What was decided at start, such as the port, stays, and a
//! change of it is warned of. Never logs a secret.

use std::fmt;
use std::sync::Arc;

use tracing::{error, info, warn};

use crate::app::Apps;
use crate::config::Config;

/// What a running server was configured with, as of the last reload.
#[derive(Debug)]
pub struct Running {
    config: Config,
    apps: Arc<Apps>,
}

impl Running {
    /// The apps of a server that starts.
    pub fn new(mut config: Config) -> Self {
        let settings = std::mem::take(&mut config.apps);
        let apps = Arc::new(Apps::new(settings));
        Self { config, apps }
    }

    /// What it was started with; of the apps only the listings.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The apps it serves.
    pub fn apps(&self) -> &Arc<Apps> {
        &self.apps
    }

    /// Takes over the apps of a configuration and says what changes, or why nothing does.
    /// Returns the apps to be served if they were taken over.
    pub fn reload(&mut self, read: Result<Config, impl fmt::Display>) -> Option<Arc<Apps>> {
        let mut config = match read {
            Ok(config) => config,
            Err(problem) => {
                error!("reload: everything stays as it was: {problem}");
                return None;
            }
        };
        let Some(apps) = self.apps.reloaded(std::mem::take(&mut config.apps)) else {
            error!("reload: everything stays as it was: no place is left for another app; restart");
            return None;
        };
        for warning in &config.warnings {
            warn!("{warning}");
        }
        for change in clipped(self.server_changes(&config)) {
            warn!("reload: {change}");
        }
        let changes = app_changes(&self.apps, &apps);
        if changes.is_empty() {
            info!("reload: no app has changed");
        }
        for change in clipped(changes) {
            info!("reload: {change}");
        }
        self.apps = Arc::new(apps);
        Some(Arc::clone(&self.apps))
    }

    /// Settings of the server that differ from those it was started with.
    fn server_changes(&self, config: &Config) -> Vec<String> {
        let (Some(old), Some(new)) = (self.config.listings.first(), config.listings.first()) else {
            return Vec::new();
        };
        let changes = new.rows.iter().filter_map(|new| {
            // What has no row for it is not in use, and another row says why.
            let old = old.rows.iter().find(|old| old.label == new.label)?;
            let (label, origin) = (&new.label, &new.origin);
            (old.value != new.value).then(|| {
                format!(
                    "{label} stays {}; {} ({origin}) counts from the next start on",
                    old.value, new.value
                )
            })
        });
        let mut changes: Vec<_> = changes.collect();
        // Rows tell neither a password nor the prefix of an app.
        let redis = |config: &Config| (config.scaling.clone(), config.ingest.clone());
        if redis(&self.config) != redis(config) {
            changes.push("all of Redis stays as it is until the next start".to_owned());
        }
        changes
    }
}

/// What a reload does to the apps, one line each.
fn app_changes(old: &Apps, new: &Apps) -> Vec<String> {
    let mut changes = Vec::new();
    for (index, app) in old.iter() {
        let id = &app.settings.id;
        match new
            .get(index)
            .map(|new| app.settings.differences(&new.settings))
        {
            None => changes.push(format!(
                "app {id} is gone: its sockets are closed with 4001"
            )),
            Some(differences) if differences.is_empty() => {}
            Some(differences) => {
                changes.push(format!("app {id} has changed: {}", differences.join(", ")));
            }
        }
    }
    let added = new.iter().filter(|(index, _)| old.get(*index).is_none());
    changes.extend(added.map(|(_, app)| format!("app {} is new", app.settings.id)));
    changes
}

/// At most [`LINES_MAX`] lines, and one that counts the rest.
fn clipped(mut lines: Vec<String>) -> Vec<String> {
    if let more @ 1.. = lines.len().saturating_sub(LINES_MAX) {
        lines.truncate(LINES_MAX);
        lines.push(format!("and {more} more"));
    }
    lines
}

/// Changes told one by one.
const LINES_MAX: usize = 20;
