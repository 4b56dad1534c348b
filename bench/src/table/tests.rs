//! What a table says of made-up rounds.

use std::time::Duration;

use super::*;
use crate::contender::Driver;
use crate::scenario::ALL;

/// A second in which 100 frames came, of which none was timed.
fn sample(cost: Option<u64>, own_busy: f64) -> Sample {
    Sample {
        load: "one at a time".into(),
        cost,
        units: 100,
        elapsed: Duration::from_secs(1),
        busy: Some(0.5),
        own_busy,
        waited: 0.0,
        tally: Tally::of_answers(100, 100).unwrap(),
        fullest: None,
    }
}

fn server(driver: Driver) -> Contender {
    Contender::Slapback(driver, "slapback".into())
}

/// Floor and server, three rounds each, the server at twice the price.
fn table() -> Table {
    let mut table = Table::new(ALL[0]);
    for cost in [900, 1000, 5000] {
        let floor = Contender::Floor(Driver::Epoll);
        table.add(&floor, sample(Some(cost), 0.2)).unwrap();
        let server = server(Driver::Epoll);
        table.add(&server, sample(Some(2 * cost), 0.99)).unwrap();
    }
    table
}

#[test]
fn the_middle_round_counts_and_is_held_against_the_floor() {
    let json = table().json();
    let rows = json["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 2);
    assert_eq!(rows[0]["per_unit"], 10.0);
    assert_eq!(rows[0]["against_baseline"], Value::Null);
    assert_eq!(rows[1]["per_unit"], 20.0);
    assert_eq!(rows[1]["against_baseline"], 2.0);
    assert_eq!(rows[1]["per_second"], 100.0);
    assert_eq!(rows[1]["rounds"], json!([18.0, 20.0, 100.0]));
    assert_eq!(rows[1]["latency_us"]["p99"], Value::Null);
}

#[test]
fn the_floor_of_the_same_driver_comes_first() {
    let mut table = table();
    let server = server(Driver::Uring);
    table.add(&server, sample(Some(500), 0.0)).unwrap();
    // Against the first round of the only floor there is.
    assert_eq!(table.json()["rows"][2]["against_baseline"], 500.0 / 900.0);
    let floor = Contender::Floor(Driver::Uring);
    table.add(&floor, sample(Some(500), 0.0)).unwrap();
    assert_eq!(table.json()["rows"][2]["against_baseline"], 1.0);
    assert_eq!(table.json()["rows"][1]["against_baseline"], 2.0);
}

#[test]
fn a_line_leads_with_the_cost_and_says_who_was_the_limit() {
    let text = table().text();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 5);
    assert_eq!(lines[4], "fanout: lost 0, doubled 0, reordered 0");
    let words: Vec<&str> = lines[3].split_whitespace().collect();
    assert_eq!(words[..2], ["20", "2.00"]);
    assert!(lines[3].ends_with("the load generator is the limit"));
    assert!(!lines[2].contains("limit"));
}

#[test]
fn a_round_without_its_cpus_says_so() {
    let mut table = Table::new(ALL[0]);
    let mut disturbed = sample(Some(1), 0.2);
    disturbed.waited = 0.25;
    table.add(&server(Driver::Uring), disturbed).unwrap();
    assert!(table.text().contains("  25 % of the time without a CPU\n"));
}

#[test]
fn what_nobody_knows_is_a_dash() {
    let mut table = Table::new(ALL[0]);
    let server = server(Driver::Uring);
    table.add(&server, sample(None, 0.0)).unwrap();
    assert!(
        table
            .text()
            .lines()
            .nth(2)
            .unwrap()
            .trim_start()
            .starts_with("- ")
    );
    assert_eq!(table.json()["rows"][0]["per_unit"], Value::Null);
}

#[test]
fn one_lost_frame_spoils_the_table() {
    let mut table = table();
    assert!(table.is_exact());
    let mut spoilt = sample(Some(1), 0.0);
    spoilt.tally.lost = 1;
    table.add(&server(Driver::Uring), spoilt).unwrap();
    assert!(!table.is_exact());
    assert_eq!(table.json()["exact"], false);
}

#[test]
fn a_round_that_failed_is_told_and_the_others_stand() {
    let mut table = table();
    let why: crate::Failure = "nobody is there".into();
    table.fail(&server(Driver::Uring), why.as_ref());
    assert!(!table.is_exact());
    let text = table.text();
    assert!(text.contains("\nfanout: slapback uring failed: nobody is there\n"));
    assert!(text.ends_with("fanout: lost 0, doubled 0, reordered 0"));
    assert_eq!(table.json()["rows"].as_array().unwrap().len(), 2);
}

#[test]
fn what_a_load_gives_in_a_second_is_held_against_the_baseline_too() {
    let mut table = table();
    table.baseline = Baseline::Words {
        own: "2 CPUs",
        other: "1 CPU",
    };
    for (load, cost, seconds) in [("1 CPU, calls", 100, 4), ("2 CPUs, calls", 150, 2)] {
        let sample = Sample {
            load: load.into(),
            elapsed: Duration::from_secs(seconds),
            ..sample(Some(cost), 0.0)
        };
        table.add(&server(Driver::Uring), sample).unwrap();
    }
    let figures = |load| table.figures_of("slapback", "uring", load).unwrap();
    assert_eq!(figures("2 CPUs, calls").against_baseline, Some(1.5));
    let against = figures("2 CPUs, calls").per_second_against_baseline;
    assert_eq!(against, Some(2.0));
    assert_eq!(figures("1 CPU, calls").against_baseline, None);
}

#[test]
fn a_load_is_held_against_that_of_the_same_name_but_for_its_words() {
    let unix = ALL.iter().find(|scenario| scenario.name == "unix").unwrap();
    let mut table = Table::new(unix);
    for (load, cost) in [
        ("both over TCP", 1000),
        ("both over a Unix socket", 500),
        ("one over a Unix socket", 500),
    ] {
        let load = load.to_owned();
        let sample = Sample {
            load,
            ..sample(Some(cost), 0.2)
        };
        table.add(&server(Driver::Epoll), sample).unwrap();
    }
    let json = table.json();
    let ratios = [0, 1, 2].map(|row| json["rows"][row]["against_baseline"].clone());
    assert_eq!(ratios, [Value::Null, json!(0.5), Value::Null]);
}

#[test]
fn the_middle_of_an_even_number_lies_between_the_two_there() {
    assert!((median([4.0, 1.0, 2.0, 9.0].into_iter()) - 3.0).abs() < f64::EPSILON);
    assert!((median([4.0, 1.0, 9.0].into_iter()) - 4.0).abs() < f64::EPSILON);
    assert!(median([].into_iter()).is_nan());
}
