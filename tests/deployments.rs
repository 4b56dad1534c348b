//! What people set for Reverb today starts Slapback as it is, command line and environment alike.
//!
//! Each runs on the ports that it names, so in a network of its own.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;

use harness::{Client, Server, alone, api, directory, subscribed};
use md5::{Digest, Md5};

mod harness;

/// A way of running Reverb that must run Slapback unchanged.
struct Deployment<'a> {
    name: &'a str,
    /// The words behind the program's name.
    command: &'a [&'a str],
    environment: &'a [(&'a str, &'a str)],
    /// The text of `.env`, if one lies in the working directory.
    dotenv: Option<&'a str>,
}

/// What connects, and where.
struct App<'a> {
    id: &'a str,
    key: &'a str,
    secret: &'a str,
}

/// What an orchestrator adds to every process.
const PROCESS: [(&str, &str); 4] = [
    (
        "PATH",
        "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    ),
    ("HOME", "/root"),
    ("HOSTNAME", "0a1b2c3d4e5f"),
    ("TERM", "xterm"),
];

impl Deployment<'_> {
    /// Starts it and says that it listens by exactly this line; on its port an app is served.
    fn serves(&self, banner: &str, port: u16, app: &App<'_>) {
        let directory = directory(&format!("deployments-{}", self.name));
        if let Some(dotenv) = self.dotenv {
            fs::write(directory.join(".env"), dotenv).unwrap();
        }
        let environment = [&PROCESS, self.environment].concat();
        let mut server = Server::launch_in(&directory, self.command, &environment);
        assert_eq!(
            server.listens(),
            format!("   INFO  {banner}"),
            "{}",
            self.name
        );
        assert_eq!(server.port, port, "{}", self.name);
        let up = api::call(&server, &api::request("GET", "/up", "", ""));
        assert_eq!((up.status, up.body.as_str()), (200, r#"{"health":"OK"}"#));
        serves_app(&server, app);
        let said = server.said();
        assert!(
            !said.contains("WARN") && !said.contains(app.secret),
            "{said}"
        );
        assert_eq!(server.terminate().code(), Some(0), "{}", self.name);
    }
}

/// A browser connects and subscribes to a private channel, and the Laravel application publishes.
fn serves_app(server: &Server, app: &App<'_>) {
    let target = format!(
        "/app/{}?protocol=7&client=js&version=8.4.0&flash=false",
        app.key
    );
    let mut client = Client::upgrade(server, &target, "Origin: https://app.example.com\r\n");
    client.is_established(30);
    let signature = api::sign(app.secret, &format!("{}:private-c", client.id));
    client.say(format!(
        r#"{{"event":"pusher:subscribe","data":{{"channel":"private-c","auth":"{}:{signature}"}}}}"#,
        app.key
    ));
    assert_eq!(client.hear(), subscribed("private-c"));
    let body = r#"{"name":"E","channel":"private-c","data":"x"}"#;
    let path = format!("/apps/{}/events", app.id);
    let query = format!(
        "auth_key={}&auth_timestamp={}&auth_version=1.0&body_md5={}",
        app.key,
        api::unix_s(),
        api::hex(&Md5::digest(body))
    );
    let signature = api::sign(app.secret, &format!("POST\n{path}\n{query}"));
    let target = format!("{path}?{query}&auth_signature={signature}");
    let answer = api::call(server, &api::request("POST", &target, "", body));
    assert_eq!((answer.status, answer.body.as_str()), (200, "{}"));
    let event = r#"{"event":"E","data":"x","channel":"private-c"}"#;
    assert_eq!(client.hear(), event);
}

#[test]
fn r246_r248_a_compose_service_with_the_command_of_reverb() {
    alone(|| {
        let deployment = Deployment {
            name: "compose",
            command: &[
                "php",
                "artisan",
                "reverb:start",
                "--host=0.0.0.0",
                "--port=8080",
            ],
            environment: &[
                ("APP_NAME", "Shop"),
                ("APP_ENV", "production"),
                (
                    "APP_KEY",
                    "base64:MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=",
                ),
                ("APP_DEBUG", "false"),
                ("APP_URL", "https://shop.example"),
                ("DB_CONNECTION", "pgsql"),
                ("DB_HOST", "postgres"),
                ("CACHE_STORE", "redis"),
                ("QUEUE_CONNECTION", "redis"),
                ("REDIS_CLIENT", "phpredis"),
                ("REDIS_HOST", "redis"),
                ("REDIS_PASSWORD", "null"),
                ("REDIS_PORT", "6379"),
                ("BROADCAST_CONNECTION", "reverb"),
                ("REVERB_APP_ID", "shop"),
                ("REVERB_APP_KEY", "shop-key"),
                ("REVERB_APP_SECRET", "shop-word"),
                ("REVERB_HOST", "ws.shop.example"),
                ("REVERB_PORT", "443"),
                ("REVERB_SCHEME", "https"),
                ("REVERB_SERVER_HOST", "0.0.0.0"),
                ("REVERB_SERVER_PORT", "8080"),
                ("VITE_REVERB_APP_KEY", "shop-key"),
            ],
            dotenv: None,
        };
        let app = App {
            id: "shop",
            key: "shop-key",
            secret: "shop-word",
        };
        let banner = "Starting server on 0.0.0.0:8080 (ws.shop.example).";
        deployment.serves(banner, 8080, &app);
    });
}

#[test]
fn r246_the_eight_variables_of_a_prebuilt_image() {
    alone(|| {
        let deployment = Deployment {
            name: "eight",
            command: &["start"],
            environment: &[
                ("REVERB_APP_ID", "1001"),
                ("REVERB_APP_KEY", "laravel-herd"),
                ("REVERB_APP_SECRET", "a-word"),
                ("REVERB_HOST", "localhost"),
                ("REVERB_PORT", "9000"),
                ("REVERB_SCHEME", "http"),
                ("REVERB_SERVER_HOST", "0.0.0.0"),
                ("REVERB_SERVER_PORT", "9000"),
            ],
            dotenv: None,
        };
        let app = App {
            id: "1001",
            key: "laravel-herd",
            secret: "a-word",
        };
        let banner = "Starting server on 0.0.0.0:9000 (localhost).";
        deployment.serves(banner, 9000, &app);
    });
}

#[test]
fn a_forge_daemon_beside_the_env_file_of_each_laravel() {
    alone(|| {
        for (version, dotenv) in [
            ("11", include_str!("fixtures/env/laravel-11.env")),
            ("12", include_str!("fixtures/env/laravel-12.env")),
            ("13", include_str!("fixtures/env/laravel-13.env")),
        ] {
            let app = App {
                id: &format!("{version}00{version}"),
                key: &format!("key-of-laravel-{version}"),
                secret: &format!("secret-of-laravel-{version}"),
            };
            let name = format!("forge-{version}");
            for command in [
                ["php8.3", "artisan", "reverb:start"].as_slice(),
                &[
                    "php",
                    "artisan",
                    "reverb:start",
                    "--no-interaction",
                    "--quiet",
                ],
                &[
                    "php",
                    "/home/forge/shop/artisan",
                    "reverb:start",
                    "--env=production",
                    "-vvv",
                ],
            ] {
                let deployment = Deployment {
                    name: &name,
                    command,
                    environment: &[("USER", "forge"), ("SUPERVISOR_ENABLED", "1")],
                    dotenv: Some(dotenv),
                };
                let banner = "Starting server on 0.0.0.0:8080 (localhost).";
                deployment.serves(banner, 8080, &app);
            }
        }
    });
}

#[test]
fn r248_a_coolify_application_with_quoted_values_and_empty_ones() {
    alone(|| {
        let deployment = Deployment {
            name: "coolify",
            command: &[
                "php",
                "artisan",
                "reverb:start",
                "--host=0.0.0.0",
                "--port=",
                "--debug",
            ],
            environment: &[
                ("COOLIFY_FQDN", "https://ws.shop.example"),
                ("COOLIFY_BRANCH", "main"),
                ("SOURCE_COMMIT", "0000000000000000000000000000000000000000"),
                ("PORT", "8080"),
                ("HOST", "0.0.0.0"),
                ("REVERB_APP_ID", "\"shop\""),
                ("REVERB_APP_KEY", "'shop-key'"),
                ("REVERB_APP_SECRET", "\"shop-word\""),
                ("REVERB_HOST", "\"ws.shop.example\""),
                ("REVERB_PORT", "443"),
                ("REVERB_SCHEME", "https"),
                ("REVERB_SERVER_PORT", ""),
                ("REVERB_APP_MAX_CONNECTIONS", ""),
                ("REVERB_APP_PING_INTERVAL", "null"),
                ("REVERB_SCALING_ENABLED", "false"),
                ("REVERB_APP_RATE_LIMITING_ENABLED", "(false)"),
                ("REVERB_PULSE_INGEST_INTERVAL", "15"),
                ("REVERB_TELESCOPE_INGEST_INTERVAL", "15"),
            ],
            dotenv: None,
        };
        let app = App {
            id: "shop",
            key: "shop-key",
            secret: "shop-word",
        };
        let banner = "Starting server on 0.0.0.0:8080 (ws.shop.example).";
        deployment.serves(banner, 8080, &app);
    });
}

#[test]
fn r248_sail_with_flags_and_the_env_file() {
    alone(|| {
        let deployment = Deployment {
            name: "sail",
            command: &[
                "artisan",
                "reverb:start",
                "--host=0.0.0.0",
                "--port=8090",
                "--hostname=laravel.test",
            ],
            environment: &[
                ("WWWUSER", "1000"),
                ("LARAVEL_SAIL", "1"),
                ("XDEBUG_MODE", "off"),
                ("XDEBUG_CONFIG", "client_host=host.docker.internal"),
                ("IGNITION_LOCAL_SITES_PATH", "/home/user/shop"),
            ],
            dotenv: Some(include_str!("fixtures/env/laravel-12.env")),
        };
        let app = App {
            id: "120012",
            key: "key-of-laravel-12",
            secret: "secret-of-laravel-12",
        };
        let banner = "Starting server on 0.0.0.0:8090 (laravel.test).";
        deployment.serves(banner, 8090, &app);
    });
}

/// `php artisan tinker --execute 'echo json_encode(config("reverb"));'` of old and new versions.
#[test]
fn r251_the_configuration_that_laravel_prints() {
    alone(|| {
        let directory = directory("deployments-json");
        for (name, id, text) in [
            (
                "first",
                "app-first",
                include_str!("fixtures/config/first.json"),
            ),
            (
                "middle",
                "123456",
                include_str!("fixtures/config/middle.json"),
            ),
            (
                "current",
                "app-current",
                include_str!("fixtures/config/current.json"),
            ),
        ] {
            fs::write(directory.join("reverb.json"), text).unwrap();
            let app = App {
                id,
                key: &format!("key-{name}"),
                secret: &format!("secret-{name}"),
            };
            for (command, environment) in [
                (["start", "--config=reverb.json"].as_slice(), [].as_slice()),
                (
                    &["php", "artisan", "reverb:start"],
                    &[("SLAPBACK_CONFIG", "reverb.json")],
                ),
            ] {
                let deployment = Deployment {
                    name: "json",
                    command,
                    environment,
                    dotenv: None,
                };
                let banner = "Starting server on 0.0.0.0:8080 (ws.example.com).";
                deployment.serves(banner, 8080, &app);
            }
        }
    });
}
