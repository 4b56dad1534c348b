//! JSON as PHP reads it: what is accepted, what is refused, what comes out.

use proptest::prelude::*;

use super::*;

fn read(source: &str) -> Result<Vec<(Option<String>, String)>, Malformed> {
    let mut workspace = Workspace::default();
    let mut children = Vec::new();
    visit(source, &mut workspace, |child| {
        children.push((child.key.map(str::to_owned), child.value.raw().to_owned()));
    })?;
    Ok(children)
}

fn escaped(text: &str) -> String {
    let mut out = Vec::new();
    escape(&mut out, text);
    String::from_utf8(out).unwrap()
}

fn nested(depth: usize) -> String {
    format!("{}{}", "[".repeat(depth), "]".repeat(depth))
}

#[test]
fn values_come_as_the_slices_they_were_sent_as() {
    let source = r#" { "a" : {"b":[1,{}]} ,"c":"x\"y","d":1.50,"\u0061":[ "]" ],"e":null } "#;
    let children = read(source).unwrap();
    let raws: Vec<&str> = children.iter().map(|(_, raw)| raw.as_str()).collect();
    assert_eq!(
        raws,
        [r#"{"b":[1,{}]}"#, r#""x\"y""#, "1.50", r#"[ "]" ]"#, "null"]
    );
    let keys: Vec<&str> = children
        .iter()
        .filter_map(|(key, _)| key.as_deref())
        .collect();
    assert_eq!(keys, ["a", "c", "d", "a", "e"]);
}

#[test]
fn what_php_accepts_is_accepted() {
    for source in [
        "5",
        "null",
        "\"s\"",
        "[]",
        "{}",
        "[12345678901234567890123456789]",
        "[-12345678901234567890]",
        "[1e308,1E+2,-0,-0.0,1e-400]",
        r#"["\u0000","\ud83d\ude00"]"#,
        "\t\r\n {\"\":1,\"\":2} \n",
        "[\"\u{7f}\u{2028}\"]",
    ] {
        assert!(read(source).is_ok(), "{source}");
    }
}

#[test]
fn what_php_refuses_is_refused() {
    for source in [
        "",
        " ",
        "{",
        "[1,]",
        "{\"a\":1,}",
        "{\"a\"}",
        "[01]",
        "[1.]",
        "[.5]",
        "[+1]",
        "[NaN]",
        "['a']",
        "{}x",
        "{} {}",
        "\u{feff}{}",
        "[\"a\nb\"]",
        r#"["\x"]"#,
        r#"["\ud800"]"#,
        r#"["\ud800x"]"#,
        r#"["\ud800\u0041"]"#,
        r#"["\udc00"]"#,
        r#"{"\udc00":1}"#,
        "[1]\0",
        "[\u{a0}1]",
        "[\u{c}1]",
        "nul",
        "[-]",
        "[1e]",
        "[1e999]",
    ] {
        assert_eq!(read(source), Err(Malformed), "{source:?}");
    }
}

#[test]
fn g101_nesting_of_511_passes_and_of_512_is_refused() {
    assert!(read(&nested(511)).is_ok());
    assert_eq!(read(&nested(512)), Err(Malformed));
    assert_eq!(read(&nested(200_000)), Err(Malformed));
    assert_eq!(read(&"[".repeat(200_000)), Err(Malformed));
    assert!(read(&format!("[\"{}\"]", "[".repeat(2000))).is_ok());
}

#[test]
fn numbers_become_the_strings_php_makes_of_them() {
    for (raw, text) in [
        ("5", "5"),
        ("1.5", "1.5"),
        ("1.0", "1"),
        ("1e3", "1000"),
        ("-7", "-7"),
    ] {
        assert_eq!(number_text(raw), text);
    }
}

#[test]
fn escapes_are_those_of_php() {
    assert_eq!(
        escaped("a/b \"é\" \\ 😀\u{1}\n"),
        r#"a\/b \"\u00e9\" \\ \ud83d\ude00\u0001\n"#
    );
    assert_eq!(escaped("\u{8}\u{c}\r\t\u{7f}<&'"), "\\b\\f\\r\\t\u{7f}<&'");
}

#[test]
fn what_needs_an_escape_gets_it_wherever_it_stands() {
    for length in 1..3 * CHUNK_BYTES {
        for at in 0..length {
            let (before, behind) = ("x".repeat(at), "x".repeat(length - at - 1));
            assert_eq!(
                escaped(&format!("{before}/{behind}")),
                format!("{before}\\/{behind}")
            );
        }
    }
}

fn any_json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        ".*".prop_map(Into::into),
    ];
    leaf.prop_recursive(6, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
            prop::collection::hash_map(".*", inner, 0..6)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused_as_serde_json_does(
        source in r#"[\[\]{}",:\\0-9eE.+a-z \u{e9}]{0,24}"#,
    ) {
        let theirs = serde_json::from_str::<serde_json::Value>(&source).is_ok();
        prop_assert_eq!(read(&source).is_ok(), theirs, "{}", source);
    }

    #[test]
    fn children_of_any_json_keep_their_text(value in any_json(), pretty in any::<bool>()) {
        let source = if pretty {
            serde_json::to_string_pretty(&value).unwrap()
        } else {
            value.to_string()
        };
        for (key, raw) in read(&source).unwrap() {
            let child: serde_json::Value = serde_json::from_str(&raw).unwrap();
            if let Some(key) = key {
                prop_assert_eq!(&child, &value[key.as_str()]);
            }
        }
    }

    #[test]
    fn escaped_text_reads_back_equal(text in ".*") {
        let quoted = format!("\"{}\"", escaped(&text));
        prop_assert_eq!(serde_json::from_str::<String>(&quoted).unwrap(), text);
    }
}

#[test]
fn answers_are_escaped_as_symfony_does_also_what_was_escaped_before() {
    let text = "a\"<b>&'/\\\n\u{1}é😀 \\\" \\\\\"";
    let expected = concat!(
        r"a\u0022\u003Cb\u003E\u0026\u0027\/\\\n\u0001\u00e9\ud83d\ude00 ",
        r"\\\u0022 \\\\\u0022"
    );
    let written = |write: fn(&mut Vec<u8>, &str), text: &str| {
        let mut out = Vec::new();
        write(&mut out, text);
        String::from_utf8(out).unwrap()
    };
    assert_eq!(written(escape_response, text), expected);
    let before = written(escape, text);
    assert_eq!(written(escape_response_again, &before), expected);
    assert_eq!(written(escape_response_again, "{\"a\":\"\\"), "{\"a\":\"\\");
}

proptest! {
    #[test]
    fn escaping_in_two_steps_is_escaping_in_one(text in any::<String>()) {
        let (mut once, mut first, mut second) = (Vec::new(), Vec::new(), Vec::new());
        escape_response(&mut once, &text);
        escape(&mut first, &text);
        escape_response_again(&mut second, std::str::from_utf8(&first).unwrap());
        prop_assert_eq!(&once, &second);
        let quoted = format!("\"{}\"", String::from_utf8(once).unwrap());
        let decoded: String = serde_json::from_str(&quoted).unwrap();
        prop_assert_eq!(decoded, text);
    }
}

#[test]
fn what_a_long_text_took_is_given_back_with_the_next_short_one() {
    let mut workspace = Workspace::default();
    let long = format!(r#"{{"data":"{}"}}"#, "x".repeat(2 * KEPT_BYTES));
    for text in [&*long, r#"{"data":"x"}"#] {
        let mut length = 0;
        visit(text, &mut workspace, |child| {
            length = child.value.coerced().unwrap().len();
        })
        .unwrap();
        assert_eq!(length + r#"{"data":""}"#.len(), text.len());
    }
    assert!(workspace.copy.capacity() < KEPT_BYTES);
}
