//! Which counts are let through, on the project's own budgets.

use super::*;

const FILE: &str = include_str!("../../budgets.tsv");

fn counted(path: &str, instructions: u64) -> Counted {
    Counted {
        path: path.to_owned(),
        times: 10,
        instructions,
    }
}

/// A count for each budget of the file, that many percent of it.
fn counts(percent: u64) -> Vec<Counted> {
    let budgets = Budgets::read(FILE).unwrap();
    let of = |row: &Budget| counted(&row.path, row.instructions * percent / 100);
    budgets.rows.iter().map(of).collect()
}

fn outcomes(counted: &[Counted], tools: &str) -> Vec<Outcome> {
    let budgets = Budgets::read(FILE).unwrap();
    let verdicts = budgets.judge(counted, tools);
    verdicts.iter().map(|verdict| verdict.outcome).collect()
}

fn tools() -> String {
    Budgets::read(FILE).unwrap().tools
}

#[test]
fn every_path_that_takes_a_tenth_more_fails() {
    let budgets = Budgets::read(FILE).unwrap();
    let failures = |percent| {
        let verdicts = budgets.judge(&counts(percent), &budgets.tools);
        verdicts
            .iter()
            .filter(|verdict| verdict.is_failure())
            .count()
    };
    assert!(budgets.rows.len() > 20);
    assert_eq!(failures(100), 0);
    assert_eq!(failures(110), budgets.rows.len());
}

#[test]
fn a_path_far_below_its_budget_passes_and_is_told() {
    let budgets = Budgets::read(FILE).unwrap();
    for verdict in budgets.judge(&counts(90), &budgets.tools) {
        assert!(!verdict.is_failure());
        assert!(
            verdict
                .to_string()
                .ends_with("far below: make budgets-write")
        );
    }
}

#[test]
fn the_tolerance_is_what_a_path_may_take_more_and_not_one_instruction_beyond() {
    let budgets = Budgets::read("# Counted by me\na\t1000\t3\tsomething\n").unwrap();
    for (instructions, outcome) in [
        (969, Outcome::Loose),
        (970, Outcome::Kept),
        (1030, Outcome::Kept),
        (1031, Outcome::Exceeded),
    ] {
        let [verdict] = &budgets.judge(&[counted("a", instructions)], "me")[..] else {
            panic!("one count, one verdict");
        };
        assert_eq!(verdict.outcome, outcome, "{instructions}");
    }
}

#[test]
fn with_other_tools_there_is_more_room_and_still_an_end() {
    let within = outcomes(&counts(110), "another compiler");
    assert!(within.iter().all(|outcome| *outcome == Outcome::Kept));
    let beyond = outcomes(&counts(120), "another compiler");
    assert!(beyond.iter().all(|outcome| *outcome == Outcome::Exceeded));
}

#[test]
fn a_path_without_a_budget_and_a_budget_without_a_path_fail() {
    let mut counts = counts(100);
    counts[0].path = "new".to_owned();
    let outcomes = outcomes(&counts, &tools());
    assert_eq!(outcomes.first(), Some(&Outcome::Unknown));
    assert_eq!(outcomes.last(), Some(&Outcome::Uncounted));
}

#[test]
fn writing_anew_changes_the_counts_alone() {
    assert_eq!(rewritten(FILE, &counts(100), &tools()), FILE);
    let text = "# Columns\n# Counted by me\na\t1\t3\tas\nb\t2\t5\tbees\n";
    let counts = [counted("b", 20), counted("c", 30)];
    assert_eq!(
        rewritten(text, &counts, "you"),
        "# Columns\n# Counted by you\nb\t20\t5\tbees\nc\t30\t5\t\n"
    );
}

#[test]
fn a_budget_must_say_what_is_counted() {
    let read = Budgets::read("# Counted by me\na\t1\t3\t\n");
    let why = read.unwrap_err().to_string();
    assert!(why.contains("does not say what is counted"), "{why}");
}
