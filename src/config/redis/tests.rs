//! Where Redis is and what for, as variables and files say it.

use std::fmt::Write as _;

use proptest::prelude::*;

use super::*;
use crate::config::tests::{from_file, from_named, no_file, variables};
use crate::config::{Config, Flags, load};
use crate::env::Environment;

mod ingest;

/// Loads from the variables of the container and some more, all of Redis switched on.
fn with(extra: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let switches = [
        ("REVERB_SCALING_ENABLED", "true"),
        ("SLAPBACK_REDIS_INGEST", "true"),
    ];
    let read = |path: &std::path::Path| match path.to_str() {
        Some("ca.pem") => Ok("a certificate".to_owned()),
        _ => no_file(path),
    };
    load(
        &Flags::default(),
        &variables(&[&switches, extra].concat()),
        read,
    )
}

fn server(extra: &[(&str, &str)]) -> RedisServer {
    let config = with(extra).unwrap_or_else(|error| panic!("{extra:?}: {error}"));
    let (scaling, ingest) = (config.scaling.unwrap(), config.ingest.unwrap());
    assert_eq!(scaling.server, ingest.server);
    scaling.server
}

fn complaint(extra: &[(&str, &str)]) -> String {
    with(extra).unwrap_err().to_string()
}

/// What `check` shows of a setting, and where it comes from.
fn shown(config: &Config, label: &str) -> (String, String) {
    let rows = &config.listings[0].rows;
    let row = rows.iter().find(|row| row.label == label).unwrap();
    (row.value.clone(), row.origin.to_string())
}

/// The Redis of Laravel's stock variables.
fn stock() -> RedisServer {
    RedisServer {
        address: tcp("127.0.0.1", 6379),
        tls: None,
        username: None,
        password: None,
        database: 0,
        topology: Topology::Single,
    }
}

fn tcp(host: &str, port: u16) -> RedisAddress {
    RedisAddress::Tcp {
        host: host.to_owned(),
        port,
    }
}

/// TLS as it is by default.
#[allow(
    clippy::unnecessary_wraps,
    reason = "it stands where a server may have none"
)]
fn verified() -> Option<RedisTls> {
    Some(RedisTls {
        ca: None,
        verify: true,
    })
}

#[test]
fn laravels_stock_variables_are_a_redis_without_a_password() {
    for file in [
        include_bytes!("../../../tests/fixtures/env/laravel-11.env").as_slice(),
        include_bytes!("../../../tests/fixtures/env/laravel-12.env").as_slice(),
        include_bytes!("../../../tests/fixtures/env/laravel-13.env").as_slice(),
    ] {
        let process = [
            ("REVERB_SCALING_ENABLED", "true"),
            ("REDIS_CLUSTER", "redis"),
        ];
        let process = process.map(|(name, value)| (name.into(), value.into()));
        let environment = Environment::new(process, Some(file)).unwrap();
        let config = load(&Flags::default(), &environment, no_file).unwrap();
        let expected = Scaling {
            server: stock(),
            channel: "reverb".to_owned(),
            replay_bytes: 16_777_216,
            timeout: Duration::from_secs(2),
            public: PublicAddress {
                host: Some("localhost".to_owned()),
                port: 8080,
                scheme: "http".to_owned(),
            },
        };
        assert_eq!((config.scaling, config.ingest), (Some(expected), None));
    }
    assert_eq!(server(&[]), stock());
}

#[test]
fn nothing_of_redis_is_looked_at_while_it_is_off() {
    // As Kubernetes sets it for a service called redis.
    let environment = variables(&[("REDIS_PORT", "tcp://10.0.0.1:6379"), ("APP_NAME", "é")]);
    let config = load(&Flags::default(), &environment, no_file).unwrap();
    assert_eq!((config.scaling, config.ingest), (None, None));
    let labels = config.listings[0].rows.iter().map(|row| row.label.as_str());
    let labels: Vec<_> = labels.filter(|label| label.contains('.')).collect();
    assert_eq!(labels, ["scaling.enabled", "redis_ingest.enabled"]);
}

#[test]
fn every_variable_of_redis_is_read() {
    let config = with(&[
        ("REVERB_SCALING_CHANNEL", "shop"),
        ("REDIS_HOST", "[fd00::1]"),
        ("REDIS_PORT", "6380"),
        ("REDIS_SCHEME", "tls"),
        ("REDIS_USERNAME", "slapback"),
        ("REDIS_PASSWORD", "pass word"),
        ("REDIS_DB", "3"),
        ("REDIS_TIMEOUT", "for ever"),
        ("SLAPBACK_REDIS_CA", "ca.pem"),
        ("SLAPBACK_REDIS_TLS_VERIFY", "false"),
        ("REDIS_SENTINELS", "10.0.0.1:1, s2 ,[::1]:3,::2,"),
        ("REDIS_SENTINEL_SERVICE", "main"),
        ("SLAPBACK_BUS_REPLAY", "4"),
        ("REVERB_HOST", "ws.shop.test"),
        ("REVERB_PORT", "8443"),
        ("REVERB_SCHEME", "http"),
        ("SLAPBACK_BUS_TIMEOUT", "5"),
        ("SLAPBACK_INGEST", "interest"),
        ("SLAPBACK_REDIS_MESSAGE_BYTES", "6000"),
    ])
    .unwrap();
    let sentinel = |host: &str, port| (host.to_owned(), port);
    let server = RedisServer {
        address: tcp("fd00::1", 6380),
        tls: Some(RedisTls {
            ca: Some("ca.pem".into()),
            verify: false,
        }),
        username: Some("slapback".to_owned()),
        password: Some("pass word".to_owned()),
        database: 3,
        topology: Topology::Sentinel {
            sentinels: vec![
                sentinel("10.0.0.1", 1),
                sentinel("s2", 26379),
                sentinel("::1", 3),
                sentinel("::2", 26379),
            ],
            service: "main".to_owned(),
        },
    };
    let listed = shown(&config, "scaling.server.sentinels").0;
    assert_eq!(listed, "10.0.0.1:1, s2:26379, [::1]:3, [::2]:26379");
    let expected = Scaling {
        server: server.clone(),
        channel: "shop".to_owned(),
        replay_bytes: 4,
        timeout: Duration::from_secs(5),
        public: PublicAddress {
            host: Some("ws.shop.test".to_owned()),
            port: 8443,
            scheme: "http".to_owned(),
        },
    };
    assert_eq!(config.scaling, Some(expected));
    let ingest = config.ingest.unwrap();
    assert_eq!(ingest.server, server);
    assert_eq!((ingest.by_interest, ingest.message_bytes), (true, 6000));
    let ingest = with(&[]).unwrap().ingest.unwrap();
    assert_eq!(
        (ingest.by_interest, ingest.message_bytes),
        (false, 67_108_864)
    );
}

#[test]
fn a_url_says_it_all_or_leaves_the_rest_to_the_parts() {
    let full = RedisServer {
        address: tcp("r.test", 7),
        username: Some("u".to_owned()),
        password: Some("p".to_owned()),
        database: 2,
        ..stock()
    };
    let tls = RedisServer {
        tls: verified(),
        ..full.clone()
    };
    let unix = RedisServer {
        address: RedisAddress::Unix("/run/redis.sock".into()),
        ..full.clone()
    };
    let no_user = RedisServer {
        username: None,
        ..full.clone()
    };
    let ipv6 = RedisServer {
        address: tcp("::1", 7),
        ..full.clone()
    };
    for (url, expected) in [
        ("redis://u:p@r.test:7/2", &full),
        ("tcp://u:p@r.test:7/2", &full),
        ("redis://r.test:7?username=u&password=p&db=2", &full),
        (
            "redis://x:y@r.test:7/9?username=u&password=p&database=2",
            &full,
        ),
        ("redis://u:p@[::1]:7/2", &ipv6),
        ("rediss://u:p@r.test:7/2", &tls),
        ("tls://u:p@r.test:7/2/", &tls),
        ("redis://:p@r.test:7/2", &no_user),
        ("redis://null:p@r.test:7/2", &no_user),
        ("unix:///run/redis.sock?db=2&username=u&password=p", &unix),
        ("unix:/run/redis.sock?db=2&user=u&pass=p", &unix),
        ("redis+unix:///run/redis.sock?db=2&user=u&pass=p", &unix),
    ] {
        assert_eq!(server(&[("REDIS_URL", url)]), *expected, "{url}");
    }
    let parts = [
        ("REDIS_HOST", "r.test"),
        ("REDIS_PORT", "7"),
        ("REDIS_USERNAME", "u"),
        ("REDIS_PASSWORD", "p"),
        ("REDIS_DB", "2"),
    ];
    for url in [
        "redis://r.test",
        "redis://",
        "redis://u@r.test/",
        "null",
        "",
    ] {
        let all = [&parts[..], &[("REDIS_URL", url)]].concat();
        assert_eq!(server(&all), full, "{url}");
    }
    let all = [&parts[..], &[("REDIS_URL", "redis://a:b@c:1/0")]].concat();
    let other = RedisServer {
        address: tcp("c", 1),
        username: Some("a".to_owned()),
        password: Some("b".to_owned()),
        ..stock()
    };
    assert_eq!(server(&all), other);
}

#[test]
fn a_host_may_say_how_it_is_spoken_to() {
    let tls = RedisServer {
        address: tcp("r.test", 6379),
        tls: verified(),
        ..stock()
    };
    assert_eq!(server(&[("REDIS_HOST", "tls://r.test")]), tls);
    let plain = [("REDIS_HOST", "tcp://r.test"), ("REDIS_SCHEME", "tls")];
    assert_eq!(server(&plain).tls, None);
    for host in ["/run/redis.sock", "unix:///run/redis.sock"] {
        let unix = server(&[("REDIS_HOST", host), ("REDIS_PORT", "0")]);
        assert_eq!(unix.address, RedisAddress::Unix("/run/redis.sock".into()));
        assert_eq!(unix.tls, None);
    }
}

#[test]
fn certificates_must_be_there_and_of_use() {
    let tls = ("REDIS_SCHEME", "tls");
    let said = complaint(&[tls, ("SLAPBACK_REDIS_CA", "gone.pem")]);
    assert_eq!(said, "gone.pem: entity not found");
    let config = with(&[("SLAPBACK_REDIS_CA", "gone.pem")]).unwrap();
    let warning = "SLAPBACK_REDIS_CA is ignored: Redis is not reached by TLS".to_owned();
    assert!(config.warnings.contains(&warning), "{:?}", config.warnings);
}

#[test]
fn redis_is_a_cluster_behind_sentinels_or_neither() {
    let topology = |value| server(&[("REDIS_CLUSTER", value)]).topology;
    assert_eq!(topology("true"), Topology::Cluster);
    for off in ["false", "redis", "predis", ""] {
        assert_eq!(topology(off), Topology::Single, "{off}");
    }
    let both = [("REDIS_CLUSTER", "1"), ("REDIS_SENTINELS", "s1")];
    assert_eq!(
        complaint(&both),
        "REDIS_CLUSTER: a cluster has no sentinels: one of the two must go"
    );
    let unix = [("REDIS_CLUSTER", "1"), ("REDIS_HOST", "/run/redis.sock")];
    assert_eq!(
        complaint(&unix),
        "REDIS_CLUSTER: a cluster is reached by host and port"
    );
}

#[test]
fn what_does_not_fit_is_named_and_never_shown() {
    let url = "REDIS_URL: must be a URL such as redis://user:password@host:6379/0, rediss://host or \
               unix:///run/redis.sock; in a password # / ? are written %23 %2F %3F";
    let host = "REDIS_HOST: must be an address or a name, or the path of a socket";
    let sentinels =
        "REDIS_SENTINELS: must be a list of hosts with their ports, such as 10.0.0.1:26379";
    for (name, value, said) in [
        ("REDIS_URL", "s3cret", url),
        ("REDIS_URL", "r.test:6379", url),
        ("REDIS_URL", "http://s3cret@r.test", url),
        ("REDIS_URL", "redis://:s3#cret@r.test", url),
        ("REDIS_URL", "redis://u#s3cret@r.test", url),
        ("REDIS_URL", "redis://:s3/cret@r.test", url),
        ("REDIS_URL", "redis://r.test:0x1", url),
        ("REDIS_URL", "redis://r.test:65536", url),
        ("REDIS_URL", "redis://r.test/s3cret", url),
        ("REDIS_URL", "redis://r.test?db=-1", url),
        ("REDIS_URL", "redis://:%ff@r.test", url),
        ("REDIS_HOST", "r.test:6379", host),
        ("REDIS_HOST", "s3cret@r.test", host),
        ("REDIS_HOST", "http://r.test", host),
        ("REDIS_HOST", "a b", host),
        (
            "REDIS_PORT",
            "0",
            "REDIS_PORT: must be a whole number from 1 to 65535",
        ),
        ("REDIS_SCHEME", "s3cret", "REDIS_SCHEME: must be tcp or tls"),
        (
            "REDIS_DB",
            "s3cret",
            "REDIS_DB: must be a whole number, at least 0",
        ),
        ("REDIS_SENTINELS", "s1:0", sentinels),
        ("REDIS_SENTINELS", "s1:x,s2", sentinels),
        (
            "REDIS_CLUSTER",
            "s3cret",
            "REDIS_CLUSTER: must be true or false",
        ),
        (
            "SLAPBACK_INGEST",
            "s3cret",
            "SLAPBACK_INGEST: must be prefix or interest",
        ),
    ] {
        assert_eq!(complaint(&[(name, value)]), said, "{value}");
    }
    let environment = Environment::new([], Some(b"REVERB_APP_ID=1\nREVERB_APP_KEY=k\nREVERB_APP_SECRET=s\nREVERB_SCALING_ENABLED=1\nREDIS_PORT=x\n")).unwrap();
    let error = load(&Flags::default(), &environment, no_file).unwrap_err();
    assert_eq!(
        error.to_string(),
        ".env, line 5: REDIS_PORT: must be a whole number from 1 to 65535"
    );
}

#[test]
fn each_spelling_of_the_file_says_where_redis_is() {
    let short = "[server.scaling]\nenabled = true\nchannel = \"shop\"\n[server.scaling.server]\n\
                 host = \"r.test\"\nport = 7\npassword = 1234\nsentinels = [\"s1\"]\ntimeout = 60\n";
    let laravels = "{\"servers\":{\"reverb\":{\"scaling\":{\"enabled\":true,\"channel\":\"shop\",\
                    \"server\":{\"url\":null,\"host\":\"r.test\",\"port\":\"7\",\"username\":null,\
                    \"password\":\"1234\",\"database\":\"0\",\"timeout\":60,\
                    \"sentinels\":[\"s1\"]}}}}}";
    for config in [from_file(short), from_named("reverb.json", laravels)] {
        let scaling = config.unwrap().scaling.unwrap();
        assert_eq!(scaling.channel, "shop");
        assert_eq!(scaling.server.address, tcp("r.test", 7));
        assert_eq!(scaling.server.password.as_deref(), Some("1234"));
        let sentinels = vec![("s1".to_owned(), 26379)];
        let service = "mymaster".to_owned();
        let topology = Topology::Sentinel { sentinels, service };
        assert_eq!(scaling.server.topology, topology);
    }
    for (text, said) in [
        (
            "[server.scaling.server]\nhots = 1",
            "line 2: server.scaling.server.hots: there is no such key; did you mean `host`?",
        ),
        (
            "[server.scaling]\nenabled = true\nserver = { url = \"r.test\" }",
            "line 3: server.scaling.server.url: must be a URL such as",
        ),
        (
            "[server.scaling]\nenabled = true\nchannel = \"\"",
            "line 3: server.scaling.channel: must be the name of a channel",
        ),
        (
            "[redis_ingest]\nenabled = true\nserver = { port = 0 }",
            "line 3: redis_ingest.server.port: must be a whole number from 1 to 65535",
        ),
    ] {
        let said_of = from_file(text).unwrap_err().to_string();
        assert!(
            said_of.starts_with(&format!("slapback.toml, {said}")),
            "{said_of}"
        );
    }
}

#[test]
fn a_host_in_the_file_counts_more_than_a_url_of_the_environment() {
    let load_with = |file: &str, variable| {
        let flags = Flags {
            config: Some("slapback.toml".into()),
            ..Flags::default()
        };
        let environment = variables(&[variable, ("REDIS_PASSWORD", "p")]);
        let read = |path: &std::path::Path| match path.to_str() {
            Some("slapback.toml") => Ok(file.to_owned()),
            _ => no_file(path),
        };
        load(&flags, &environment, read).unwrap()
    };
    let url = ("REDIS_URL", "rediss://:q@other.test:8/1");
    let file = "[server.scaling]\nenabled = true\n[server.scaling.server]\nhost = \"r.test\"\n";
    let config = load_with(file, url);
    let expected = RedisServer {
        address: tcp("r.test", 6379),
        password: Some("p".to_owned()),
        ..stock()
    };
    assert_eq!(config.scaling.as_ref().unwrap().server, expected);
    let warning = "REDIS_URL is ignored: slapback.toml, line 4: server.scaling.server.host counts \
                   more";
    assert!(config.warnings.contains(&warning.to_owned()));
    let file = file.replace("host = \"r.test\"", "url = \"redis://r.test:9\"");
    let config = load_with(&file, ("REDIS_HOST", "other.test"));
    let server = config.scaling.unwrap().server;
    assert_eq!(server.address, tcp("r.test", 9));
}

#[test]
fn no_report_shows_a_password() {
    let config = with(&[("REDIS_URL", "rediss://u:s3cret@r.test/1?password=s3cret")]).unwrap();
    let label = |name: &str| shown(&config, &format!("scaling.server.{name}"));
    let masked = "rediss://********@r.test/1?********".to_owned();
    let by_url = || "REDIS_URL".to_owned();
    assert_eq!(label("url"), (masked, by_url()));
    assert_eq!(label("host"), ("r.test".to_owned(), by_url()));
    assert_eq!(label("scheme"), ("tls".to_owned(), by_url()));
    assert_eq!(label("password"), ("********".to_owned(), by_url()));
    assert_eq!(label("port"), ("6379".to_owned(), "default".to_owned()));
    let variable = with(&[("REDIS_PASSWORD", "s3cret")]).unwrap();
    for config in [config, variable] {
        let said = format!("{config:?}{:?}", config.listings);
        assert!(!said.contains("s3cret") && said.contains(MASK), "{said}");
    }
}

proptest! {
    #[test]
    fn any_password_survives_a_url(password in "\\PC{1,20}") {
        prop_assume!(password != "null");
        let mut encoded = String::new();
        password.bytes().for_each(|byte| write!(encoded, "%{byte:02x}").unwrap());
        for url in [
            format!("redis://u:{encoded}@r.test"),
            format!("redis://r.test?password={encoded}"),
        ] {
            let config = with(&[("REDIS_URL", &url)]).unwrap();
            prop_assert!(config.listings[0].rows.iter().all(|row| !row.value.contains(&encoded)));
            let server = config.scaling.unwrap().server;
            prop_assert_eq!(server.password, Some(password.clone()));
        }
    }

    #[test]
    fn no_variable_makes_the_reader_panic(value in "(redis|unix|:|/|\\[|\\]|@|%|\\PC){0,20}") {
        for name in [
            "REDIS_URL", "REDIS_HOST", "REDIS_SENTINELS", "APP_NAME", "REDIS_PREFIX",
        ] {
            let _ = with(&[(name, &value)]);
        }
    }
}
