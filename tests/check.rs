//! `slapback check`: the table, where each value comes from, what would go wrong, the exit code.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::path::Path;
use std::process::Command;

use harness::{FLEETS, Server, directory};

mod harness;

const APP: [(&str, &str); 4] = [
    ("REVERB_SERVER_HOST", "127.0.0.1"),
    ("REVERB_APP_ID", "shop"),
    ("REVERB_APP_KEY", "shop-key"),
    ("REVERB_APP_SECRET", "shop-word"),
];

/// What a command said on both streams, and its exit code.
struct Said {
    out: String,
    err: String,
    code: Option<i32>,
}

impl Said {
    /// The line of the table that begins with this, its columns parted by single spaces.
    fn line(&self, label: &str) -> String {
        let rows = self.out.lines().filter(|line| line.starts_with("  "));
        let mut rows = rows.map(|line| line.split_whitespace().collect::<Vec<_>>());
        let row = rows.find(|words| words.first() == Some(&label));
        row.unwrap_or_else(|| panic!("no {label} in {}", self.out))
            .join(" ")
    }

    /// The lines below `warnings`.
    fn warnings(&self) -> Vec<&str> {
        let (_, warnings) = self.out.split_once("\nwarnings\n").unwrap_or_default();
        warnings.lines().map(str::trim).collect()
    }
}

fn run_in(directory: &Path, shell: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Said {
    let output = Command::new("sh")
        .args(["-c", &format!("{shell} exec \"$@\""), "sh"])
        .arg(env!("CARGO_BIN_EXE_slapback"))
        .args(arguments)
        .env_clear()
        .envs(environment.iter().copied())
        .current_dir(directory)
        .output()
        .unwrap();
    Said {
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
        code: output.status.code(),
    }
}

fn check(arguments: &[&str], environment: &[(&str, &str)]) -> Said {
    let arguments = [&["check"], arguments].concat();
    run_in(
        &directory("check"),
        "",
        &arguments,
        &[&APP, environment].concat(),
    )
}

#[test]
fn a_file_without_end_is_named_and_not_read_to_its_end() {
    let said = check(&["--config=/dev/zero"], &[]);
    assert_eq!(said.code, Some(2));
    assert_eq!(said.err, "slapback: /dev/zero: it is larger than 16 MiB\n");
}

#[test]
fn r248_the_table_tells_each_value_and_where_it_comes_from() {
    let directory = directory("check-table");
    let file = "[server]\nport = \"0\"\n\n[[apps]]\napp_id = \"shop\"\nkey = \"shop-key\"\n\
                secret = \"shop-word\"\nallowed_origins = [\"a.test\", \"*.a.test\"]\n";
    fs::write(directory.join("slapback.toml"), file).unwrap();
    fs::write(directory.join(".env"), "\nREVERB_HOST=ws.a.test\n").unwrap();
    let environment = [
        ("SLAPBACK_CONFIG", "slapback.toml"),
        ("SLAPBACK_SHARDS", "1"),
    ];
    let said = run_in(&directory, "", &["check", "--host=127.0.0.1"], &environment);
    let (settings, machine) = said.out.split_once("\nmachine\n").unwrap();
    let expected = "\
server
  config                            slapback.toml     SLAPBACK_CONFIG
  server                            reverb            default
  host                              127.0.0.1         --host
  port                              0                 slapback.toml:2
  path                              none              default
  hostname                          ws.a.test         .env:2 REVERB_HOST
  max_request_size                  10000 bytes       default
  driver                            auto              default
  shards                            1                 SLAPBACK_SHARDS
  pin                               automatic         default
  reuse_port                        false             default
  unix_socket                       none              default
  unix_socket_mode                  0660              default
  accept_rate                       unlimited         default
  backlog_bytes                     1048576 bytes     default
  backlog_seconds                   10 s              default
  backlog_total                     268435456 bytes   default
  ring_bytes                        67108864 bytes    default
  cache_channels                    10000             default
  cache_bytes                       67108864 bytes    default
  drain_delay                       0 s               default
  drain_seconds                     5 s               default
  auth_timestamp_tolerance          600 s             default
  scaling.enabled                   false             default
  redis_ingest.enabled              false             default

app shop
  app_id                            shop              slapback.toml:5
  key                               shop-key          slapback.toml:6
  secret                            ********          slapback.toml:7
  allowed_origins                   a.test, *.a.test  slapback.toml:8
  ping_interval                     60 s              default
  activity_timeout                  30 s              default
  max_connections                   unlimited         default
  max_message_size                  10000 bytes       default
  accept_client_events_from         members           default
  rate_limiting.enabled             false             default
  rate_limiting.max_attempts        60                default
  rate_limiting.decay_seconds       60 s              default
  rate_limiting.terminate_on_limit  false             default
";
    assert_eq!(settings, expected);
    assert!(!said.out.contains("shop-word"), "{}", said.out);
    let labels = machine
        .lines()
        .map_while(|line| line.split_whitespace().next());
    let labels: Vec<_> = labels.collect();
    let known = [
        "io_uring",
        "driver",
        "CPUs",
        "threads",
        "open",
        "connections",
        "address",
    ];
    assert_eq!(labels, known);
    assert_eq!((said.code, said.err.as_str()), (Some(0), ""));
}

#[test]
fn what_is_used_of_redis_is_told_without_its_passwords() {
    let environment = [
        ("REVERB_SCALING_ENABLED", "true"),
        ("SLAPBACK_REDIS_INGEST", "true"),
        ("REDIS_URL", "rediss://shop:pass-word@r.test/1"),
        ("APP_NAME", "Shop"),
    ];
    let said = check(&["--port=0"], &environment);
    let lines = said.out.lines().filter(|line| {
        let label = line.trim_start();
        label.starts_with("scaling.") || label.starts_with("redis_ingest.")
    });
    let words = lines.map(|line| line.split_whitespace().collect::<Vec<_>>());
    let lines: Vec<_> = words.map(|words| words.join(" ")).collect();
    let expected = [
        "scaling.enabled true REVERB_SCALING_ENABLED",
        "scaling.server.url rediss://********@r.test/1 REDIS_URL",
        "scaling.server.host r.test REDIS_URL",
        "scaling.server.port 6379 default",
        "scaling.server.scheme tls REDIS_URL",
        "scaling.server.username shop REDIS_URL",
        "scaling.server.password ******** REDIS_URL",
        "scaling.server.database 1 REDIS_URL",
        "scaling.server.ca none default",
        "scaling.server.tls_verify true default",
        "scaling.server.sentinels none default",
        "scaling.server.sentinel_service mymaster default",
        "scaling.server.cluster false default",
        "scaling.channel reverb default",
        "redis_ingest.enabled true SLAPBACK_REDIS_INGEST",
        "redis_ingest.app_id the only app default",
        "redis_ingest.prefix shop_database_, shop-database- APP_NAME",
    ];
    assert_eq!(lines, expected);
    assert!(!said.out.contains("pass-word"), "{}", said.out);
    assert_eq!((said.code, said.err.as_str()), (Some(0), ""));
}

#[test]
fn r150_what_is_likely_to_go_wrong_is_told() {
    let said = check(&["--port=0"], &[]);
    assert_eq!((said.warnings(), said.code), (vec![], Some(0)));
    assert!(said.out.ends_with("\nno warnings\n"), "{}", said.out);
    let directory = directory("check-warnings");
    fs::create_dir_all(directory.join("config")).unwrap();
    fs::write(directory.join("config/reverb.php"), "<?php").unwrap();
    let environment = [
        ("REVERB_SERVER_PORT", "0"),
        ("REVERB_SCALING_ENABLED", "1"),
        ("REVERB_APP_RATE_LIMITING_ENABLED", "1"),
        ("REVERB_APP_MAX_CONNECTIONS", "4000000000"),
        ("SLAPBACK_SHARDS", "256"),
    ];
    let said = run_in(
        &directory,
        "ulimit -n 5000;",
        &["check"],
        &[&APP[..], &environment].concat(),
    );
    let warnings = said.warnings();
    let parts = [
        "config/reverb.php is not read",
        "REVERB_APP_RATE_LIMITING_ENABLED: is on only when it is `true`: the rate limit is off",
        "there are more shards than CPUs: they take turns",
        "there is room for 872 connections only: raise the hard limit of open files",
        "max_connections of all apps together is 4000000000, the open files leave room for 872",
    ];
    assert_eq!(warnings.len(), parts.len(), "{warnings:?}");
    for (warning, part) in warnings.iter().zip(parts) {
        assert!(warning.contains(part), "{warning}");
    }
    assert_eq!(said.code, Some(0));
}

#[test]
fn r246_a_taken_address_is_a_warning_and_one_that_cannot_be_had_a_failure() {
    let server = Server::start(FLEETS[0], &[]);
    let address = format!("127.0.0.1:{}", server.port);
    let said = check(&[&format!("--port={}", server.port)], &[]);
    assert_eq!(said.line("address"), format!("address {address} taken"));
    assert_eq!(
        said.warnings(),
        [format!(
            "{address} is taken: as long as it is, start leaves with 1"
        )]
    );
    assert_eq!(said.code, Some(0));
    let said = check(&["--host=192.0.2.1", "--port=8080"], &[]);
    assert_eq!(said.code, Some(1));
    assert!(
        said.err
            .starts_with("slapback: cannot listen on 192.0.2.1:8080: "),
        "{}",
        said.err
    );
}

#[test]
fn a_unix_socket_is_tried_like_the_address_and_leaves_nothing_behind() {
    let path = std::env::temp_dir().join(format!("slapback-check-{}", std::process::id()));
    let shown = path.display();
    let asked = |path: &str| check(&["--port=0"], &[("SLAPBACK_UNIX_SOCKET", path)]);
    let said = asked(path.to_str().unwrap());
    assert_eq!(
        said.line("unix_socket"),
        format!("unix_socket {shown} SLAPBACK_UNIX_SOCKET")
    );
    assert_eq!(said.line("unix"), format!("unix socket {shown} free"));
    assert!(!path.exists());
    let server = Server::start_on_unix(FLEETS[0], &path, &[]);
    let said = asked(path.to_str().unwrap());
    assert_eq!(said.line("unix"), format!("unix socket {shown} taken"));
    let warning = format!("{shown} is taken: as long as it is, start leaves with 1");
    assert_eq!(
        (said.warnings(), said.code),
        (vec![warning.as_str()], Some(0))
    );
    drop(server);
    let nowhere = path.join("socket");
    let said = asked(nowhere.to_str().unwrap());
    let problem = format!("slapback: cannot listen on {}: ", nowhere.display());
    assert!(said.err.starts_with(&problem), "{}", said.err);
    assert_eq!(said.code, Some(1));
}

#[test]
fn what_start_would_refuse_check_refuses_with_the_same_words() {
    for (shell, arguments, environment) in [
        ("", ["--port=65536"].as_slice(), [].as_slice()),
        ("", &[], &[("REVERB_APP_SECRET", "")]),
        ("", &["--config=gone.json"], &[]),
        ("", &["--host=192.0.2.1", "--port=0"], &[]),
        ("ulimit -n 64;", &["--port=0"], &[("SLAPBACK_SHARDS", "1")]),
    ] {
        let environment = [&APP, environment].concat();
        let both = ["check", "start"].map(|command| {
            let arguments = [&[command], arguments].concat();
            run_in(&directory("check"), shell, &arguments, &environment)
        });
        let [check, start] = &both;
        assert_eq!((&check.err, check.code), (&start.err, start.code));
        assert!(matches!(check.code, Some(1 | 2)), "{}", check.err);
    }
}

#[test]
fn a_pipe_in_place_of_a_file_is_refused_and_not_waited_for() {
    let directory = directory("check-pipe");
    let shell = "rm -f pipe .env; mkfifo pipe;";
    let said = run_in(&directory, shell, &["check", "--config=pipe"], &APP);
    assert_eq!(said.err, "slapback: pipe: it is a pipe\n");
    assert_eq!(said.code, Some(2));
    let said = run_in(&directory, "mv pipe .env;", &["check"], &APP);
    assert_eq!(said.err, "slapback: .env cannot be read: it is a pipe\n");
    assert_eq!(said.code, Some(2));
}
