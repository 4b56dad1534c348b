//! All tables of a run, as text, JSON and a chart under `bench/results`, with where and when it
//! was.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::host::Host;
use crate::process::SHARDS;
use crate::scenario::Effort;
use crate::table::Table;
use crate::{Failure, chart, targets};

/// One run.
pub struct Report {
    host: Host,
    effort: Effort,
    tables: Vec<Table>,
}

impl Report {
    /// A run that begins now, here.
    pub fn new(effort: Effort) -> Self {
        Self {
            host: Host::ask(),
            effort,
            tables: Vec::new(),
        }
    }

    /// Where and when it is.
    pub fn head(&self) -> String {
        let (host, effort) = (self.host.text(), self.effort.name());
        format!("{host}\n{effort} run, {SHARDS} shard, server on one CPU, load on another")
    }

    /// Takes a scenario in.
    pub fn add(&mut self, table: Table) {
        self.tables.push(table);
    }

    /// What this server is held to, where something of it was measured.
    pub fn targets(&self) -> Option<String> {
        targets::text(&self.tables)
    }

    /// Whether every frame of every scenario came once, in order.
    pub fn is_exact(&self) -> bool {
        self.tables.iter().all(Table::is_exact)
    }

    /// Writes text, JSON and chart into `directory`; gives the text's file.
    pub fn write(&self, directory: &Path) -> Result<PathBuf, Failure> {
        let stem = self.host.stem(self.effort.name());
        let tables: Vec<_> = self.tables.iter().map(Table::json).collect();
        let report = json!({
            "host": self.host.json(), "effort": self.effort.name(), "shards": SHARDS,
            "scenarios": tables, "targets": targets::json(&self.tables),
        });
        let texts = self.tables.iter().map(Table::text);
        let text: Vec<String> = std::iter::once(self.head())
            .chain(texts)
            .chain(self.targets())
            .collect();
        let file = write(directory, &stem, &text.join("\n\n"), &report)?;
        if let Some(chart) = chart::svg(&self.tables, &self.host.text()) {
            fs::write(directory.join(format!("{stem}.svg")), chart)?;
        }
        Ok(file)
    }
}

/// Writes text and JSON into `directory`; gives the text's file.
pub fn write(directory: &Path, stem: &str, text: &str, report: &Value) -> Result<PathBuf, Failure> {
    fs::create_dir_all(directory)?;
    fs::write(
        directory.join(format!("{stem}.json")),
        format!("{report:#}\n"),
    )?;
    let file = directory.join(format!("{stem}.txt"));
    fs::write(&file, format!("{text}\n"))?;
    Ok(file)
}
