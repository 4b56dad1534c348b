//! Instruction counts of Slapback's hot paths, held to budgets: `make budgets`.
//!
//! Started by `make`, and once more by itself inside callgrind. Counts do not depend on how busy
//! the machine is, so a path that takes more than it may fails on any. Nothing here measures time.

mod budget;
mod count;
mod paths;
mod stage;

use std::error::Error;
use std::process::ExitCode;
use std::{env, fs};

use budget::Budgets;

/// What the server allocates with.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Why there is no count, or no budget to hold it to.
type Failure = Box<dyn Error>;

/// Where the budgets stand.
const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/budgets.tsv");

const EXIT_USAGE: u8 = 64;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let done = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => check(),
        ["write"] => write(),
        [count::INSIDE] => {
            paths::run();
            Ok(ExitCode::SUCCESS)
        }
        _ => {
            eprintln!("usage: slapback-budgets [write]");
            Ok(EXIT_USAGE.into())
        }
    };
    done.unwrap_or_else(|why| {
        eprintln!("budgets: {why}");
        ExitCode::FAILURE
    })
}

/// Counts, and says of each path whether it keeps to its budget.
fn check() -> Result<ExitCode, Failure> {
    let budgets = Budgets::read(&fs::read_to_string(FILE)?)?;
    let tools = count::tools()?;
    if budgets.tools != tools {
        println!(
            "The budgets were counted by {}, this is {tools}:",
            budgets.tools
        );
        println!(
            "a path may take {} % over its budget.",
            budget::OTHER_TOOLS_PERCENT
        );
    }
    let mut failed = 0;
    let verdicts = budgets.judge(&count::count()?, &tools);
    for verdict in &verdicts {
        println!("{verdict}");
        failed += usize::from(verdict.is_failure());
    }
    if failed > 0 {
        let folder = count::folder()?;
        println!(
            "What a path is made of: callgrind_annotate --threshold=100 {}/PATH.out",
            folder.display()
        );
    }
    let passed = verdicts.len() - failed;
    println!("budgets: {passed} passed, {failed} failed");
    Ok(ExitCode::from(u8::from(failed > 0)))
}

/// Counts, and makes what was counted the budgets.
fn write() -> Result<ExitCode, Failure> {
    let text = fs::read_to_string(FILE)?;
    let counted = count::count()?;
    fs::write(FILE, budget::rewritten(&text, &counted, &count::tools()?))?;
    println!("budgets: {} written to {FILE}", counted.len());
    Ok(ExitCode::SUCCESS)
}
