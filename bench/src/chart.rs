//! The chart of a run, as SVG: what one delivery, whisper, call or socket costs each contender.
//!
//! The report draws it. Every panel has its own scale: bars compare contenders under one load, and
//! never loads with each other.

use std::fmt::Write as _;

use crate::contender::{FLOOR, OURS};
use crate::table::{Figures, Row, Table};

/// One contender of a panel.
struct Bar {
    name: String,
    figure: f64,
    against: Option<f64>,
}

/// What is drawn, in this order: the scenario, its load, and what to call it.
const PANELS: [(&str, &str, &str); 6] = [
    (
        "fanout",
        "1000 sockets, one at a time",
        "One event to 1,000 sockets, CPU ns per delivery",
    ),
    (
        "fanout",
        "1000 sockets, bursts of 64",
        "64 events together to 1,000 sockets, CPU ns per delivery",
    ),
    (
        "whisper",
        "1000 sockets, one at a time",
        "A whisper to 1,000 sockets, CPU ns per delivery",
    ),
    (
        "storm",
        "64 at once",
        "Connect, authenticate, subscribe, close: CPU ns each",
    ),
    ("http", "64 connections", "A signed API call, CPU ns each"),
    (
        "idle",
        "process",
        "A subscribed socket on which nothing happens, bytes of the process",
    ),
];

const WIDTH: usize = 760;
const MARGIN: usize = 20;
const TITLE_HEIGHT: usize = 30;
const BAR_HEIGHT: usize = 20;
/// Where bars begin, to the right of their names.
const BARS_AT: usize = 190;
/// The longest bar; its figure stands behind it.
const BAR_WIDTH: f64 = 400.0;

/// Draws what was measured; `None` if that is nothing of the chart.
pub fn svg(tables: &[Table], caption: &str) -> Option<String> {
    let mut body = String::new();
    let mut y = MARGIN;
    for (scenario, load, title) in PANELS {
        let table = tables.iter().find(|table| table.name == scenario);
        let bars = table.map(|table| bars(table, load)).unwrap_or_default();
        if !bars.is_empty() {
            panel(&mut body, &mut y, title, &bars);
        }
    }
    if body.is_empty() {
        return None;
    }
    y += TITLE_HEIGHT;
    text(&mut body, (MARGIN, y), "note", caption);
    let height = y + MARGIN;
    Some(format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"sans-serif\" font-size=\"13\">\n\
         <style>.title {{ font-weight: bold }} .note {{ fill: #667; font-size: 11px }}</style>\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#fff\"/>\n{body}</svg>\n"
    ))
}

/// The contenders under a load whose cost is known.
fn bars(table: &Table, load: &str) -> Vec<Bar> {
    let rows = table.under(load).into_iter();
    let bar = |(row, figures): (&Row, Figures)| {
        Some(Bar {
            name: format!("{} {}", row.who, row.driver),
            figure: figures.per_unit?,
            against: figures.against_baseline,
        })
    };
    rows.filter_map(bar).collect()
}

fn panel(body: &mut String, y: &mut usize, title: &str, bars: &[Bar]) {
    *y += TITLE_HEIGHT;
    text(body, (MARGIN, *y), "title", title);
    let longest = bars.iter().map(|bar| bar.figure).fold(0.0, f64::max);
    for bar in bars {
        *y += BAR_HEIGHT;
        text(body, (MARGIN, *y), "name", &bar.name);
        let width = BAR_WIDTH * bar.figure / longest;
        let (top, height, colour) = (*y - BAR_HEIGHT * 3 / 4, BAR_HEIGHT - 3, colour(&bar.name));
        // A String takes everything.
        let _ = writeln!(
            body,
            "<rect x=\"{BARS_AT}\" y=\"{top}\" width=\"{width:.1}\" height=\"{height}\" \
             fill=\"{colour}\"/>"
        );
        let against = bar.against.map(|ratio| format!(" ({ratio:.2} x floor)"));
        let figure = format!("{:.0}{}", bar.figure, against.unwrap_or_default());
        text(body, (BARS_AT + width as usize + 6, *y), "figure", &figure);
    }
}

fn text(body: &mut String, (x, y): (usize, usize), class: &str, text: &str) {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    let _ = writeln!(
        body,
        "<text x=\"{x}\" y=\"{y}\" class=\"{class}\">{text}</text>"
    );
}

fn colour(name: &str) -> &'static str {
    if name.starts_with(FLOOR) {
        "#b8c0cc"
    } else if name.starts_with(OURS) {
        "#e4572e"
    } else {
        "#5b7db1"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contender::{Contender, Driver};
    use crate::sample::Sample;
    use crate::scenario::ALL;
    use crate::tally::Tally;

    fn table(load: &str) -> Table {
        let mut table = Table::new(ALL[0]);
        let mut add = |contender: Contender, bytes| {
            let sample = Sample::of_bytes(load.into(), bytes, 1, Tally::new().unwrap());
            table.add(&contender, sample).unwrap();
        };
        add(Contender::Floor(Driver::Uring), 200);
        add(Contender::Slapback(Driver::Uring, "slapback".into()), 400);
        table
    }

    #[test]
    fn the_dearest_has_the_longest_bar() {
        let chart = svg(&[table(PANELS[0].1)], "a <b> & c").unwrap();
        assert!(chart.contains(r#"width="200.0""#) && chart.contains(r#"width="400.0""#));
        assert!(chart.contains("400 (2.00 x floor)") && chart.contains("a &lt;b> &amp; c"));
        assert_eq!(chart.matches("class=\"title\"").count(), 1);
    }

    #[test]
    fn there_is_no_chart_of_nothing() {
        assert!(svg(&[table("another load")], "").is_none());
    }

    #[test]
    fn every_panel_is_of_a_scenario() {
        for (scenario, ..) in PANELS {
            assert!(ALL.iter().any(|known| known.name == scenario), "{scenario}");
        }
    }
}
