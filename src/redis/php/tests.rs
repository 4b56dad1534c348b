//! What PHP wrote, read and written again; what it never writes, refused.

use std::io::Write as _;
use std::process::{Command, Stdio};

use proptest::prelude::*;

use super::*;

const AT: Address<'_> = Address {
    host: Some("127.0.0.1"),
    port: 443,
    scheme: "https",
};

const CAPTURED: &str = concat!(
    "O:26:\"Laravel\\Reverb\\Application\":11:{s:5:\"\0*\0id\";s:5:\"app-1\";",
    "s:6:\"\0*\0key\";s:5:\"key-1\";s:9:\"\0*\0secret\";s:8:\"secret-1\";",
    "s:15:\"\0*\0pingInterval\";i:60;s:18:\"\0*\0activityTimeout\";i:30;",
    "s:17:\"\0*\0allowedOrigins\";a:1:{i:0;s:1:\"*\";}s:17:\"\0*\0maxMessageSize\";i:10000;",
    "s:17:\"\0*\0maxConnections\";N;s:25:\"\0*\0acceptClientEventsFrom\";s:7:\"members\";",
    "s:15:\"\0*\0rateLimiting\";a:4:{s:7:\"enabled\";b:0;s:12:\"max_attempts\";i:60;",
    "s:13:\"decay_seconds\";i:60;s:18:\"terminate_on_limit\";b:0;}",
    "s:10:\"\0*\0options\";a:4:{s:4:\"host\";s:9:\"127.0.0.1\";s:4:\"port\";i:443;",
    "s:6:\"scheme\";s:5:\"https\";s:6:\"useTLS\";b:1;}}",
);

#[test]
fn an_application_is_written_whole_and_read_whole_or_in_part() {
    let app = AppSettings::new("app-1", "key-1", "secret-1");
    assert_eq!(application(&app, AT), CAPTURED);
    assert_eq!(read_application(CAPTURED), Ok("app-1"));
    let least = "O:26:\"Laravel\\Reverb\\Application\":1:{s:5:\"\0*\0id\";s:5:\"app-1\";}";
    assert_eq!(read_application(least), Ok("app-1"));
}

#[test]
fn metrics_questions_are_written_and_read_as_captured() {
    let tail = |name: &str, options: &str| {
        let case = format!("Laravel\\Reverb\\Protocols\\Pusher\\MetricType:{name}");
        let head = "O:45:\"Laravel\\Reverb\\Protocols\\Pusher\\PendingMetric\":6:{\
            s:14:\"\0*\0subscribers\";N;s:7:\"\0*\0data\";a:0:{}s:6:\"\0*\0key\";\
            s:10:\"GdN92GZZOW\";s:14:\"\0*\0application\";";
        let length = case.len();
        format!(
            "{head}{CAPTURED}s:7:\"\0*\0type\";E:{length}:\"{case}\";\
             s:10:\"\0*\0options\";{options}}}"
        )
    };
    let cases = [
        (MetricType::Connections, vec![], "a:0:{}"),
        (
            MetricType::Channels,
            vec![
                ("filter", Choice::Null),
                ("info", Choice::Text("user_count")),
            ],
            "a:2:{s:6:\"filter\";N;s:4:\"info\";s:10:\"user_count\";}",
        ),
        (
            MetricType::Channels,
            vec![
                ("info", Choice::Text("subscription_count")),
                ("channels", Choice::Texts(vec!["c1"])),
            ],
            "a:2:{s:4:\"info\";s:18:\"subscription_count\";s:8:\"channels\";\
             a:1:{i:0;s:2:\"c1\";}}",
        ),
        (
            MetricType::ChannelUsers,
            vec![("channel", Choice::Text("presence-x"))],
            "a:1:{s:7:\"channel\";s:10:\"presence-x\";}",
        ),
    ];
    for (kind, options, php) in cases {
        let written = metric("GdN92GZZOW", CAPTURED, kind, &options);
        assert_eq!(written, tail(kind.name(), php));
        let read = read_metric(&written).expect("read");
        assert_eq!((read.key, read.app), ("GdN92GZZOW", "app-1"));
        assert_eq!((read.metric, read.options), (kind, options));
    }
}

#[test]
fn what_is_no_application_is_refused() {
    let nested = "a:1:{i:0;".repeat(1000);
    let wide = format!("O:26:\"{APPLICATION}\":99999999999:{{");
    let deep = format!("O:26:\"{APPLICATION}\":1:{{s:1:\"x\";{nested}");
    let foreign = format!("O:26:\"{APPLICATION}\":1:{{s:1:\"x\";O:8:\"stdClass\":0:{{}}}}");
    let tail = format!("{CAPTURED}x");
    for text in [
        "",
        "garbage",
        "O:8:\"stdClass\":0:{}",
        "s:99999999999999999999:\"x\";",
        "s:-1:\"\";",
        &wide,
        &deep,
        &foreign,
        &tail,
    ] {
        assert!(read_application(text).is_err(), "{text}");
    }
    let cuts = (0..CAPTURED.len()).filter_map(|end| CAPTURED.get(..end));
    assert!(cuts.into_iter().all(|cut| read_application(cut).is_err()));
}

#[test]
fn php_reads_what_is_written() {
    let mut app = AppSettings::new("é\"1", "k", "s;}");
    app.max_connections = Some(7);
    let program = "$a = (array) unserialize(stream_get_contents(STDIN), \
        ['allowed_classes' => false]); echo json_encode([count($a), $a[\"\\0*\\0id\"], \
        $a[\"\\0*\\0secret\"], $a[\"\\0*\\0maxConnections\"], $a[\"\\0*\\0options\"]]);";
    let mut php = Command::new("php")
        .args(["-r", program])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("php-cli is installed");
    let mut stdin = php.stdin.take().expect("piped");
    stdin
        .write_all(application(&app, AT).as_bytes())
        .expect("taken");
    drop(stdin);
    let said = php.wait_with_output().expect("ended").stdout;
    let expected = "[12,\"\\u00e9\\\"1\",\"s;}\",7,{\"host\":\"127.0.0.1\",\"port\":443,\
        \"scheme\":\"https\",\"useTLS\":true}]";
    assert_eq!(String::from_utf8_lossy(&said), expected);
}

proptest! {
    #[test]
    fn any_id_comes_back(id in ".*", host in ".*") {
        let at = Address { host: Some(&host), ..AT };
        let text = application(&AppSettings::new(id.clone(), "k", "s"), at);
        prop_assert_eq!(read_application(&text), Ok(id.as_str()));
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in "[aOsEibdN0-9:;{}\"\0*é]{0,200}") {
        let _ = read_metric(&text);
    }
}
