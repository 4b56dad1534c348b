//! The apps of `tests/fixtures/apps.json` as a configuration file.
//!
//! The fixture is what Reverb was captured with: ids `app-NAME`, keys `key-NAME`, secrets
//! `secret-NAME`.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;

const FIXTURE: &str = include_str!("../fixtures/apps.json");

/// The file that holds the fixture's apps, written once per test process.
pub fn file() -> &'static Path {
    static FILE: OnceLock<PathBuf> = OnceLock::new();
    FILE.get_or_init(|| {
        let apps: Vec<Value> = serde_json::from_str(FIXTURE).unwrap();
        write(&apps.iter().map(render).collect::<String>())
    })
}

/// Writes a configuration file of its own name and returns where it is. Its text says whether it is
/// TOML or JSON.
pub fn write(text: &str) -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = format!("apps-{}-{number}", std::process::id());
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::write(&file, text).unwrap();
    file
}

/// One app as a TOML table. JSON's strings, numbers, truths and lists of them are TOML's too.
fn render(app: &Value) -> String {
    let mut text = "[[apps]]\n".to_owned();
    let mut tables = String::new();
    for (name, value) in app.as_object().unwrap() {
        match value {
            Value::Null => {}
            Value::Object(table) => {
                writeln!(tables, "[apps.{name}]").unwrap();
                for (name, value) in table {
                    writeln!(tables, "{name} = {value}").unwrap();
                }
            }
            value => writeln!(text, "{name} = {value}").unwrap(),
        }
    }
    text + &tables
}
