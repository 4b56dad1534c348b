//! `slapback check`: what `start` would do with what it finds here, as a table.
//!
//! Called by `main`. It tries what can be tried for a moment, the driver and the address, and
//! serves nothing. Secrets are masked before they come here.

use std::fmt::{self, Write as _};
use std::io;
use std::path::Path;
use std::thread;

use crate::config::{Config, DriverChoice, Origin, Row, host_in_url};
use crate::edge::{flush, listen, unix};
use crate::fleet::Shards;
use crate::limits::OpenFiles;
use crate::tuning;
use crate::{EXIT_CANNOT_BIND, EXIT_CONFIGURATION, EXIT_INTERNAL};

/// What came of a check.
#[derive(Debug)]
pub struct Checked {
    /// The table and the warnings.
    pub report: String,
    /// The exit code of `start` and its reason, if it would not serve.
    pub failure: Option<(i32, String)>,
}

/// Checks a configuration that was read against this machine.
pub fn check(config: &Config) -> Checked {
    let mut report = Report::default();
    for listing in &config.listings {
        report.begin(&listing.title);
        listing.rows.iter().for_each(|row| report.add_row(row));
    }
    report.warnings.clone_from(&config.warnings);
    report.begin("machine");
    let driver = check_driver(config, &mut report);
    let shards = check_cpus(config, &mut report);
    let files = check_files(config, shards, &mut report);
    let address = check_address(config, &mut report);
    let unix = check_unix_socket(config, &mut report);
    add_tuning(config, &mut report);
    let failure = driver.and(files).and(address).and(unix).err();
    Checked {
        report: report.to_string(),
        failure,
    }
}

/// Something because of which `start` leaves, with its exit code.
type Verdict = Result<(), (i32, String)>;

fn check_driver(config: &Config, report: &mut Report) -> Verdict {
    let why_not = match flush::open(DriverChoice::Auto) {
        Ok(opened) => opened.fallback,
        Err(unusable) => Some(unusable),
    };
    match &why_not {
        None => report.add("io_uring", "works", "self-test passed"),
        Some(why) => report.add("io_uring", "does not work", why),
    }
    let (driver, note) = match (config.driver, &why_not) {
        (DriverChoice::Epoll, _) => ("epoll", "asked for"),
        (DriverChoice::Uring, _) => ("io_uring", "asked for"),
        (DriverChoice::Auto, None) => ("io_uring", "chosen"),
        (DriverChoice::Auto, Some(_)) => ("epoll", "chosen"),
    };
    report.add("driver", driver, note);
    match (config.driver, why_not) {
        (DriverChoice::Auto, Some(_)) => report.warn(flush::URING_ADVICE),
        (DriverChoice::Uring, Some(why)) => return Err((EXIT_INTERNAL, why.to_string())),
        _ => {}
    }
    Ok(())
}

fn check_cpus(config: &Config, report: &mut Report) -> u16 {
    let cpus = thread::available_parallelism().map_or(1, usize::from);
    let note = "as affinity mask and quota allow";
    report.add("CPUs", cpus, note);
    let shards = Shards::choose(config.shards, config.pin);
    report.add("threads", shards.count, shards.placement());
    if usize::from(shards.count) > cpus {
        report.warn("there are more shards than CPUs: they take turns");
    }
    shards.count
}

fn check_files(config: &Config, shards: u16, report: &mut Report) -> Verdict {
    let files = OpenFiles::raise();
    let found = files
        .found
        .map_or("unlimited".to_owned(), |found| found.to_string());
    report.add(
        "open files",
        files.limit,
        format_args!("{found} before start raises it"),
    );
    let room = files
        .for_connections(shards)
        .map_err(|problem| (EXIT_CONFIGURATION, problem))?;
    report.add("connections", room, "that the open files leave room for");
    if room < CONNECTIONS_FEW {
        report.warn(format_args!(
            "there is room for {room} connections only: raise the hard limit of open files \
             (ulimit -Hn, LimitNOFILE, minfds, --ulimit nofile)"
        ));
    }
    let wanted = config.apps.iter().filter_map(|app| app.max_connections);
    let wanted: u64 = wanted.map(u64::from).sum();
    if wanted > room as u64 {
        report.warn(format_args!(
            "max_connections of all apps together is {wanted}, the open files leave room for {room}"
        ));
    }
    Ok(())
}

/// A taken address is usual while the server to be replaced still runs: no reason to fail.
fn check_address(config: &Config, report: &mut Report) -> Verdict {
    let (host, port) = (&config.host, config.port);
    let address = format!("{}:{port}", host_in_url(host));
    let probed = listen::probe(host, port, config.reuse_port);
    report.add_place("address", &address, probed)
}

fn check_unix_socket(config: &Config, report: &mut Report) -> Verdict {
    let Some(socket) = &config.unix_socket else {
        return Ok(());
    };
    let path = socket.path.display().to_string();
    report.add_place("unix socket", &path, unix::probe(socket))
}

/// What the kernel allows is told and no more: whether it is too little, the load decides.
fn add_tuning(config: &Config, report: &mut Report) {
    report.begin("kernel");
    for finding in tuning::findings(Path::new("/"), config.port) {
        report.add(finding.name, &finding.found, &finding.note);
    }
}

/// Titles, lines of three columns, and warnings.
#[derive(Default)]
struct Report {
    sections: Vec<(String, Vec<[String; 3]>)>,
    warnings: Vec<String>,
}

impl Report {
    fn begin(&mut self, title: &str) {
        self.sections.push((title.to_owned(), Vec::new()));
    }

    fn add(&mut self, label: &str, value: impl fmt::Display, note: impl fmt::Display) {
        if let Some((_, lines)) = self.sections.last_mut() {
            lines.push([label.to_owned(), value.to_string(), note.to_string()]);
        }
    }

    /// Adds a place to listen on, and what came of trying.
    fn add_place(&mut self, label: &str, place: &str, probed: io::Result<()>) -> Verdict {
        match probed {
            Ok(()) => self.add(label, place, "free"),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                self.add(label, place, "taken");
                self.warn(format_args!(
                    "{place} is taken: as long as it is, start leaves with {EXIT_CANNOT_BIND}"
                ));
            }
            Err(error) => {
                self.add(label, place, &error);
                let problem = format!("cannot listen on {place}: {error}");
                return Err((EXIT_CANNOT_BIND, problem));
            }
        }
        Ok(())
    }

    fn add_row(&mut self, row: &Row) {
        let Row { value, unit, .. } = row;
        let space = if unit.is_empty() { "" } else { " " };
        self.add(
            &row.label,
            format_args!("{value}{space}{unit}"),
            place(&row.origin),
        );
    }

    fn warn(&mut self, warning: impl fmt::Display) {
        self.warnings.push(warning.to_string());
    }

    /// The width of a column; a value that is longer stands out of its own line only.
    fn width(&self, column: usize) -> usize {
        let lines = self.sections.iter().flat_map(|(_, lines)| lines);
        let widths = lines.filter_map(|line| Some(line.get(column)?.chars().count()));
        widths
            .filter(|&width| width <= COLUMN_MAX)
            .max()
            .unwrap_or(0)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, second) = (self.width(0), self.width(1));
        for (title, lines) in &self.sections {
            writeln!(out, "{title}")?;
            for [label, value, note] in lines {
                writeln!(out, "  {label:first$}  {value:second$}  {note}")?;
            }
            out.write_char('\n')?;
        }
        if self.warnings.is_empty() {
            return writeln!(out, "no warnings");
        }
        writeln!(out, "warnings")?;
        let mut warnings = self.warnings.iter();
        warnings.try_for_each(|warning| writeln!(out, "  {warning}"))
    }
}

/// Where a value comes from, short enough for a column.
fn place(origin: &Origin) -> String {
    match origin {
        Origin::File { path, line, .. } => format!("{}:{line}", path.display()),
        Origin::Dotenv { variable, line } => format!(".env:{line} {variable}"),
        Origin::Variable(variable) => (*variable).to_owned(),
        Origin::Flag(flag) => (*flag).to_owned(),
        Origin::Default => "default".to_owned(),
    }
}

/// Laravel's documents advise `minfds=10000`.
const CONNECTIONS_FEW: usize = 9_000;
const COLUMN_MAX: usize = 32;
