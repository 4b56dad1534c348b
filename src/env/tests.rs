//! `env()` and `.env` against what Laravel and phpdotenv make of the same bytes.

use proptest::prelude::*;

use super::*;

fn text(value: &str) -> Value {
    Value::Text(value.to_owned())
}

fn parsed(file: &str) -> Result<Vec<(String, String)>, DotenvError> {
    let outer = |name: &str| (name == "OUTER").then(|| "outside".to_owned());
    let entries = parse_dotenv(file.as_bytes(), outer)?;
    let pair = |entry: Entry| (entry.name, entry.value);
    Ok(entries.into_iter().map(pair).collect())
}

/// The value of `A` in a file.
fn a(file: &str) -> String {
    let entries = parsed(file).unwrap();
    entries.into_iter().find(|(name, _)| name == "A").unwrap().1
}

fn problem(file: &str) -> (usize, Problem) {
    let error = parsed(file).unwrap_err();
    (error.line, error.problem)
}

#[test]
fn laravels_words_count_in_any_case_and_with_brackets() {
    for raw in ["true", "TRUE", "(true)", "(True)"] {
        assert_eq!(read_value(raw), Value::Bool(true), "{raw}");
    }
    for raw in ["false", "(FALSE)"] {
        assert_eq!(read_value(raw), Value::Bool(false), "{raw}");
    }
    for raw in ["null", "(null)", "NULL"] {
        assert_eq!(read_value(raw), Value::Null, "{raw}");
    }
    for raw in ["", "empty", "(Empty)", "\"\"", "''"] {
        assert_eq!(read_value(raw), text(""), "{raw}");
    }
}

#[test]
fn one_pair_of_quotes_is_taken_away_and_guards_the_words() {
    assert_eq!(read_value("\"true\""), text("true"));
    assert_eq!(read_value("'null'"), text("null"));
    assert_eq!(read_value("\"\"x\"\""), text("\"x\""));
    assert_eq!(read_value("\"x'"), text("\"x'"));
    assert_eq!(read_value("\""), text("\""));
    assert_eq!(read_value("\"a\nb\""), text("\"a\nb\"")); // PHP's dot stops at a line feed
    assert_eq!(read_value("1"), text("1"));
    assert_eq!(read_value(" true"), text(" true"));
}

#[test]
fn plain_lines_are_read() {
    let file = "# comment\n\n  # more\nA=1\r\nexport B = two \rexport\tC=3\n'D'=4\n\"E\"=5\nF.x=\n";
    let expected = [
        ("A", "1"),
        ("B", "two"),
        ("C", "3"),
        ("D", "4"),
        ("E", "5"),
        ("F.x", ""),
    ];
    let entries = parsed(file).unwrap();
    let entries: Vec<_> = entries
        .iter()
        .map(|(n, v)| (n.as_str(), v.as_str()))
        .collect();
    assert_eq!(entries, expected);
}

#[test]
fn a_byte_order_mark_is_skipped() {
    assert_eq!(a("\u{feff}A=1"), "1");
}

#[test]
fn of_a_name_given_twice_the_last_counts_and_a_bare_name_unsets() {
    assert_eq!(a("A=1\nA=2"), "2");
    assert_eq!(parsed("A=1\nA").unwrap(), []);
}

#[test]
fn comments_end_a_value() {
    assert_eq!(a("A=1 # one"), "1");
    assert_eq!(a("A=1#one"), "1");
    assert_eq!(a("A=# nothing"), "");
    assert_eq!(a("A=\"1 # one\" # \" two"), "1 # one");
    assert_eq!(a("A='1 # one'#two"), "1 # one");
}

#[test]
fn quotes_and_escapes() {
    assert_eq!(
        a(r#"A="a \"b\" \\ \$ \n\t\r\f\v end""#),
        "a \"b\" \\ $ \n\t\r\u{c}\u{b} end"
    );
    assert_eq!(a(r"A='a \n $OUTER ${OUTER}'"), r"a \n $OUTER ${OUTER}");
    assert_eq!(a(r"A=a\nb"), r"a\nb");
    assert_eq!(a("A=it's"), "it's");
    assert_eq!(a("A=a=b=c"), "a=b=c");
    assert_eq!(a("A=\"\""), "");
}

#[test]
fn double_quotes_may_span_lines() {
    assert_eq!(
        a("A=\"one\r\ntwo \\\" still\n\nthree\" # done\nB=2"),
        "one\ntwo \" still\n\nthree"
    );
    assert_eq!(a("A=\"one\n\"\nB=2"), "one\n");
    assert_eq!(a("A=\"one\n=\"\nB=2"), "one\n=");
    assert_eq!(a("# it said =\"hello\nA=1"), "1");
}

#[test]
fn names_in_braces_are_filled_in() {
    assert_eq!(a("B=1\nA=\"x${B}y\""), "x1y");
    assert_eq!(a("B=1\nA=${B}${B}"), "11");
    assert_eq!(a("A=${OUTER}\n"), "outside");
    assert_eq!(a("OUTER=inside\nA=${OUTER}"), "outside");
    assert_eq!(
        a("A=\"${LATER} $OUTER \\${OUTER}\"\nLATER=1"),
        "${LATER} $OUTER ${OUTER}"
    );
    assert_eq!(a("B=UTER\nA=${O${B}}"), "outside");
    assert_eq!(a("B='${OUTER}'\nA=${B}"), "${OUTER}"); // what was filled in is not read again
}

#[test]
fn a_broken_line_is_named_by_number() {
    assert_eq!(problem("A=1\n=2"), (2, Problem::NameMissing));
    assert_eq!(problem("\n\nA B=2"), (3, Problem::NameInvalid));
    assert_eq!(problem("A=two words"), (1, Problem::SpaceUnquoted));
    assert_eq!(problem("A='x' y"), (1, Problem::SpaceUnquoted));
    assert_eq!(problem("A=1\nB=\"x\nC=3\nD=4"), (2, Problem::QuoteOpen));
    assert_eq!(problem("A='x"), (1, Problem::QuoteOpen));
    assert_eq!(problem("A=\"x\\y\""), (1, Problem::EscapeUnknown));
    let error = parse_dotenv(b"A=1\nB=\xff", |_| None).unwrap_err();
    assert_eq!(error.to_string(), ".env, line 2: the text is not UTF-8");
}

#[test]
fn filling_in_does_not_grow_without_bound() {
    let mut file = "A=xxxxxxxxxxxxxxxx\n".to_owned();
    for _ in 0..40 {
        file.push_str("A=${A}${A}\n");
    }
    assert_eq!(parsed(&file).unwrap_err().problem, Problem::TooLong);
}

#[test]
fn the_process_hides_dotenv_even_when_empty() {
    let process = [("A", "1"), ("B", "")].map(|(n, v)| (n.into(), v.into()));
    let environment = Environment::new(process, Some(b"A=2\nB=2\n\nC=${A}")).unwrap();
    assert_eq!(environment.get("A"), Some(text("1")));
    assert_eq!(environment.get("B"), Some(text("")));
    assert_eq!(environment.get("C"), Some(text("1")));
    assert_eq!(environment.get("D"), None);
    assert_eq!(environment.source("A"), Some(Source::Process));
    assert_eq!(environment.source("C"), Some(Source::Dotenv { line: 4 }));
    assert_eq!(environment.source("D"), None);
}

#[test]
fn the_stock_files_of_laravel_are_read_whole() {
    for (version, file) in [
        (
            "11",
            include_bytes!("../../tests/fixtures/env/laravel-11.env").as_slice(),
        ),
        (
            "12",
            include_bytes!("../../tests/fixtures/env/laravel-12.env").as_slice(),
        ),
        (
            "13",
            include_bytes!("../../tests/fixtures/env/laravel-13.env").as_slice(),
        ),
    ] {
        let environment = Environment::new([], Some(file)).unwrap();
        let key = text(&format!("key-of-laravel-{version}"));
        for (name, value) in [
            ("REVERB_APP_KEY", key.clone()),
            ("VITE_REVERB_APP_KEY", key),
            ("BROADCAST_CONNECTION", text("reverb")),
            ("REVERB_HOST", text("localhost")),
            ("VITE_REVERB_PORT", text("8080")),
            ("MAIL_FROM_NAME", text("Laravel")),
            ("REDIS_PASSWORD", Value::Null),
            ("APP_DEBUG", Value::Bool(true)),
            ("APP_KEY", text("")),
        ] {
            assert_eq!(
                environment.get(name),
                Some(value),
                "{name} of Laravel {version}"
            );
        }
        assert_eq!(environment.get("DB_HOST"), None);
    }
}

proptest! {
    #[test]
    fn no_bytes_make_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse_dotenv(&bytes, |_| None);
    }

    #[test]
    fn no_text_makes_the_parser_panic(file in r#"([A-C=$\{\}"'\\# \n\ré]|export |="){0,60}"#) {
        let _ = parsed(&file);
    }

    #[test]
    fn a_quoted_text_comes_back(value in "[^\0]{0,40}") {
        let value = value.replace('\r', "");
        let escaped = value.replace('\\', "\\\\").replace('"', "\\\"").replace('$', "\\$");
        prop_assert_eq!(a(&format!("A=\"{escaped}\"")), value);
    }
}
