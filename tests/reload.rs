//! SIGHUP: the apps are read anew under live sockets, whole or not at all.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use harness::{Client, Fleet, Frame, Opcode, Redis, Server, api, directory, error, on_every_fleet};
use harness::{subscribed, upgrade_head};
use rustix::process::Signal;

mod harness;

const TAKEN: &str = "reload: every shard serves the apps as they are now";
const KEPT: &str = "reload: everything stays as it was: ";
const UNKNOWN: (u16, &str) = (4001, "Application does not exist");

/// A server whose file is rewritten under it.
struct Reloaded {
    server: Server,
    file: PathBuf,
    times: usize,
}

impl Reloaded {
    fn start(fleet: Fleet, name: &str, apps: &str) -> Self {
        Self::start_with(fleet, name, apps, &[])
    }

    fn start_with(fleet: Fleet, name: &str, apps: &str, environment: &[(&str, &str)]) -> Self {
        let name = format!("{name}-{}-{}.toml", fleet.shards, fleet.driver);
        let file = directory("reload").join(name);
        fs::write(&file, apps).unwrap();
        let arguments = ["start", "--config", file.to_str().unwrap()];
        Self {
            server: Server::start_with(fleet, &arguments, environment),
            file,
            times: 0,
        }
    }

    /// Puts another text into the file and waits until every shard has taken it.
    fn reload(&mut self, text: &str) {
        fs::write(&self.file, text).unwrap();
        self.server.signal(Signal::HUP);
        self.times += 1;
        self.server.says_times(TAKEN, self.times);
    }
}

/// The app `app-NAME` with what else its table holds.
fn app(name: &str, more: &str) -> String {
    format!(
        "[[apps]]\napp_id = \"app-{name}\"\nkey = \"key-{name}\"\nsecret = \"secret-{name}\"\n{more}\n"
    )
}

/// The upgrade is answered 101, then this error and Close.
fn is_turned_away(server: &Server, target: &str, (code, why): (u16, &str)) {
    let mut client = Client::upgrade(server, target, "");
    assert_eq!(client.hear(), error(code, why));
    client.is_closed_with(code, why);
}

#[test]
fn a_new_app_works_at_once_and_the_sockets_of_one_that_is_gone_are_closed() {
    on_every_fleet(|fleet| {
        let (one, two, three) = (app("1", ""), app("2", ""), app("3", ""));
        let mut reloaded = Reloaded::start(fleet, "apps", &(one.clone() + &two));
        let mut stays = Client::of_app(&reloaded.server, "1");
        stays.subscribe("c");
        let mut gone: Vec<_> = (0..8)
            .map(|_| Client::of_app(&reloaded.server, "2"))
            .collect();
        gone.iter_mut()
            .step_by(2)
            .for_each(|client| client.subscribe("c"));
        join(&mut gone[0], "2");
        reloaded.reload(&(three + &one));
        gone.iter_mut().for_each(Client::is_gone);
        is_turned_away(&reloaded.server, "/app/key-2", UNKNOWN);
        let answer = api::publish(
            &reloaded.server,
            "2",
            r#"{"name":"E","channel":"c","data":"x"}"#,
        );
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (404, "No matching application for ID [app-2].")
        );
        let event = r#"{"event":"E","data":"x","channel":"c"}"#;
        let mut newcomer = Client::of_app(&reloaded.server, "3");
        newcomer.subscribe("c");
        for name in ["3", "1"] {
            api::publish_event(&reloaded.server, name, "c", "E", "x");
        }
        assert_eq!([newcomer.hear(), stays.hear()], [event, event]);
        // Nobody is left on the channel of the app that went.
        reloaded.reload(&(one + &two));
        newcomer.is_gone();
        join(&mut Client::of_app(&reloaded.server, "2"), "2");
        for line in [
            "reload: app app-2 is gone: its sockets are closed with 4001",
            "reload: app app-3 is new",
            "reload: app app-3 is gone: its sockets are closed with 4001",
            "reload: app app-2 is new",
        ] {
            reloaded.server.says(line);
        }
    });
}

/// Joins a presence channel on which nobody else is.
fn join(client: &mut Client, name: &str) {
    let data = r#"{"user_id":"1"}"#;
    let auth = api::channel_auth(name, &client.id, "presence-p", Some(data));
    let data = serde_json::to_string(data).unwrap();
    client.say(format!(
        r#"{{"event":"pusher:subscribe","data":{{"channel":"presence-p","auth":"{auth}","channel_data":{data}}}}}"#
    ));
    let roster = r#"{"event":"pusher_internal:subscription_succeeded","data":"{\"presence\":{\"count\":1,\"ids\":[\"1\"],\"hash\":{\"1\":null}}}","channel":"presence-p"}"#;
    assert_eq!(client.hear(), roster);
}

#[test]
fn a_changed_secret_counts_for_subscriptions_and_calls_from_then_on() {
    on_every_fleet(|fleet| {
        let mut reloaded = Reloaded::start(fleet, "secret", &app("1", ""));
        let mut client = Client::of_app(&reloaded.server, "1");
        subscribe_signed(&mut client, "private-a", "secret-1");
        assert_eq!(client.hear(), subscribed("private-a"));
        reloaded.reload(&app("1", "").replace("secret-1", "an-0ther"));
        let body = r#"{"name":"E","channel":"private-a","data":"x"}"#;
        assert_eq!(api::publish(&reloaded.server, "1", body).status, 401);
        subscribe_signed(&mut client, "private-b", "secret-1");
        assert_eq!(client.hear(), error(4009, "Connection is unauthorized"));
        subscribe_signed(&mut client, "private-c", "an-0ther");
        assert_eq!(client.hear(), subscribed("private-c"));
        reloaded.reload(&app("1", ""));
        assert_eq!(api::publish(&reloaded.server, "1", body).status, 200);
        assert_eq!(
            client.hear(),
            r#"{"event":"E","data":"x","channel":"private-a"}"#
        );
        reloaded
            .server
            .says("reload: app app-1 has changed: secret");
        let said = reloaded.server.said();
        assert!(
            !said.contains("secret-1") && !said.contains("an-0ther"),
            "{said}"
        );
    });
}

fn subscribe_signed(client: &mut Client, channel: &str, secret: &str) {
    let signature = api::sign(secret, &format!("{}:{channel}", client.id));
    client.say(format!(
        r#"{{"event":"pusher:subscribe","data":{{"channel":"{channel}","auth":"key-1:{signature}"}}}}"#
    ));
}

#[test]
fn a_changed_limit_of_connections_counts_those_there_are() {
    const FULL: (u16, &str) = (4004, "Application is over connection quota");
    on_every_fleet(|fleet| {
        let mut reloaded = Reloaded::start(fleet, "limit", &app("1", ""));
        let mut clients: Vec<_> = (0..3)
            .map(|_| Client::of_app(&reloaded.server, "1"))
            .collect();
        reloaded.reload(&app("1", "max_connections = 2"));
        clients.iter_mut().for_each(Client::hears_nothing);
        is_turned_away(&reloaded.server, "/app/key-1", FULL);
        clients.pop().unwrap().leaves();
        is_turned_away(&reloaded.server, "/app/key-1", FULL);
        clients.pop().unwrap().leaves();
        clients.push(Client::of_app(&reloaded.server, "1"));
        is_turned_away(&reloaded.server, "/app/key-1", FULL);
        reloaded.reload(&app("1", "max_connections = 3"));
        clients.push(Client::of_app(&reloaded.server, "1"));
        is_turned_away(&reloaded.server, "/app/key-1", FULL);
        reloaded.reload(&app("1", ""));
        clients.extend((0..3).map(|_| Client::of_app(&reloaded.server, "1")));
        reloaded.reload(&app("1", "max_connections = 0"));
        is_turned_away(&reloaded.server, "/app/key-1", FULL);
        clients.iter_mut().for_each(Client::hears_nothing);
        reloaded
            .server
            .says("reload: app app-1 has changed: max_connections");
    });
}

#[test]
fn other_changes_count_from_the_next_handshake_or_message_on() {
    on_every_fleet(|fleet| {
        let mut reloaded = Reloaded::start(fleet, "others", &app("1", ""));
        let mut talks = Client::of_app(&reloaded.server, "1");
        let mut silent = Client::of_app(&reloaded.server, "1");
        reloaded.reload(&app(
            "1",
            "allowed_origins = [\"a.test\"]\nmax_message_size = 100\nactivity_timeout = 7",
        ));
        let head = upgrade_head("/app/key-1", "Origin: https://b.test\r\n");
        let mut foreign = Client::connect_with(&reloaded.server, &head);
        foreign.head();
        assert_eq!(foreign.hear(), error(4009, "Origin not allowed"));
        let mut native =
            Client::upgrade(&reloaded.server, "/app/key-1", "Origin: https://a.test\r\n");
        native.is_established(7);
        talks.say("x".repeat(101));
        assert_eq!(talks.hear_frame().payload[..2], 1009_u16.to_be_bytes());
        reloaded.server.says(
            "reload: app app-1 has changed: allowed_origins, activity_timeout, max_message_size",
        );
        reloaded.reload(&app("1", "ping_interval = 1"));
        assert_eq!(silent.hear(), r#"{"event":"pusher:ping"}"#);
        reloaded.server.says("reload: app app-1 has changed: allowed_origins, ping_interval, activity_timeout, max_message_size");
    });
}

#[test]
fn a_broken_file_changes_nothing_and_the_log_says_why() {
    on_every_fleet(|fleet| {
        let mut reloaded = Reloaded::start(fleet, "broken", &app("1", ""));
        let mut client = Client::of_app(&reloaded.server, "1");
        let two = app("2", "");
        for (times, (text, why)) in (1..).zip([
            (two.replace("secret-2", ""), "line 4: apps[0].secret: is missing or empty"),
            (two.clone() + "max_conections = 1", "line 6: apps[0].max_conections: there is no such key; did you mean `max_connections`?"),
            (two.clone() + &two, "line 7: apps[1].app_id: another app has the same one"),
            ("apps = []".to_owned(), "no app to serve: "),
            (two.replace("secret-2\"", "secret-2"), "line 4: "),
        ]) {
            fs::write(&reloaded.file, text).unwrap();
            reloaded.server.signal(Signal::HUP);
            reloaded.server.says_times(KEPT, times);
            let lines = reloaded.server.said();
            let line = lines.lines().rfind(|line| line.contains(KEPT)).unwrap();
            assert!(line.contains(why), "{line}");
        }
        client.hears_nothing();
        Client::of_app(&reloaded.server, "1").hears_nothing();
        is_turned_away(&reloaded.server, "/app/key-2", UNKNOWN);
        fs::remove_file(&reloaded.file).unwrap();
        reloaded.server.signal(Signal::HUP);
        reloaded.server.says("No such file or directory");
        reloaded.reload(&two);
        Client::of_app(&reloaded.server, "2").hears_nothing();
        let said = reloaded.server.said();
        assert!(
            !said.contains("secret-1") && !said.contains("secret-2"),
            "{said}"
        );
    });
}

#[test]
fn what_the_server_was_started_with_stays_and_is_told() {
    on_every_fleet(|fleet| {
        let server = "[server]\nmax_request_size = 9000\n";
        let mut reloaded = Reloaded::start(fleet, "server", &(server.to_owned() + &app("1", "")));
        let server = "[server]\nmax_request_size = 70\npath = \"ws\"\n";
        reloaded.reload(&(server.to_owned() + &app("1", "")));
        Client::of_app(&reloaded.server, "1").hears_nothing();
        api::publish_event(&reloaded.server, "1", "c", "E", "x");
        reloaded.server.says("reload: path stays none; /ws (");
        reloaded
            .server
            .says("reload: max_request_size stays 9000; 70 (");
        reloaded
            .server
            .says("line 2: server.max_request_size) counts from the next start on");
        reloaded.server.says("reload: no app has changed");
    });
}

#[test]
fn what_is_said_of_redis_counts_from_the_next_start_on() {
    on_every_fleet(|fleet| {
        let text = |redis: &str| {
            let app = app("1", "redis_prefix = \"a_\"");
            format!(
                "[server.scaling.server]\nport = 1\n[redis_ingest]\nenabled = true\n{redis}\n{app}"
            )
        };
        let mut reloaded = Reloaded::start(fleet, "redis", &text(""));
        let kept = "reload: all of Redis stays as it is until the next start";
        reloaded.reload(&text("server = { password = \"pass-word\" }"));
        reloaded.server.says(kept);
        reloaded.reload(&text("").replace("port = 1", "port = 2"));
        reloaded
            .server
            .says("reload: scaling.server.port stays 1; 2 (");
        reloaded.reload(&text("").replace("enabled = true", "enabled = false"));
        reloaded
            .server
            .says("reload: redis_ingest.enabled stays true; false (");
        reloaded.reload(&text("").replace("a_", "b_"));
        reloaded.server.says_times(kept, 4);
        assert!(!reloaded.server.said().contains("pass-word"));
    });
}

#[test]
fn dotenv_is_read_anew_too() {
    on_every_fleet(|fleet| {
        let directory = directory(&format!("reload-dotenv-{}-{}", fleet.shards, fleet.driver));
        let dotenv = |secret: &str| {
            let text =
                format!("REVERB_APP_ID=app-1\nREVERB_APP_KEY=key-1\nREVERB_APP_SECRET={secret}\n");
            fs::write(directory.join(".env"), text).unwrap();
        };
        dotenv("secret-2");
        let shards = fleet.shards.to_string();
        let variables = [
            ("REVERB_SERVER_PORT", "0"),
            ("SLAPBACK_SHARDS", &shards),
            ("SLAPBACK_DRIVER", fleet.driver),
        ];
        let mut server = Server::launch_in(&directory, &["start"], &variables);
        server.listens();
        let body = r#"{"name":"E","channel":"c","data":"x"}"#;
        assert_eq!(api::publish(&server, "1", body).status, 401);
        dotenv("secret-1");
        server.signal(Signal::HUP);
        server.says(TAKEN);
        assert_eq!(api::publish(&server, "1", body).status, 200);
        dotenv("\"");
        server.signal(Signal::HUP);
        server.says(&format!(
            "{KEPT}.env, line 3: a quote is opened and never closed"
        ));
    });
}

#[test]
fn while_the_server_leaves_a_reload_is_ignored() {
    on_every_fleet(|fleet| {
        let environment = [("SLAPBACK_DRAIN_DELAY", "60")];
        let mut reloaded = Reloaded::start_with(fleet, "leaving", &app("1", ""), &environment);
        let mut client = Client::of_app(&reloaded.server, "1");
        reloaded.server.signal(Signal::TERM);
        reloaded.server.says("Gracefully terminating connections.");
        fs::write(&reloaded.file, app("2", "")).unwrap();
        reloaded.server.signal(Signal::HUP);
        reloaded
            .server
            .says("reload: ignored, the server is leaving");
        client.hears_nothing();
        reloaded.server.signal(Signal::TERM);
        assert_eq!(reloaded.server.exit_status().code(), Some(0));
        assert!(!reloaded.server.said().contains(TAKEN));
    });
}

/// Another app comes and goes, limits change, all under publishes and arrivals.
#[test]
fn many_reloads_lose_nothing_of_an_app_that_stays() {
    const EVENTS_MIN: usize = 200;
    const RELOADS: usize = 12;
    on_every_fleet(|fleet| {
        let mut reloaded = Reloaded::start(fleet, "many", &app("1", ""));
        let mut clients: Vec<_> = (0..4)
            .map(|_| Client::of_app(&reloaded.server, "1"))
            .collect();
        for client in &mut clients {
            client.subscribe("c");
        }
        let port_of = reloaded.server.port;
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let publisher = scope.spawn(|| {
                let mut count = 0;
                while count < EVENTS_MIN || !done.load(Ordering::Relaxed) {
                    let body = format!(r#"{{"name":"E","channel":"c","data":"{count}"}}"#);
                    let request = api::publish_request("1", &body);
                    assert_eq!(Client::to_port(port_of, &request).answer().status, 200);
                    let event = format!(r#"{{"event":"E","data":"{count}","channel":"c"}}"#);
                    for client in &mut clients {
                        assert_eq!(client.hear(), event);
                    }
                    count += 1;
                }
            });
            for round in 0..RELOADS {
                let limit = format!(
                    "max_connections = {}\nping_interval = {}",
                    50 + round,
                    600 + round
                );
                let other = if round % 2 == 0 {
                    app("2", "")
                } else {
                    String::new()
                };
                reloaded.reload(&(other + &app("1", &limit)));
                Client::of_app(&reloaded.server, "1").hears_nothing();
                if round % 2 == 0 {
                    Client::of_app(&reloaded.server, "2").hears_nothing();
                } else {
                    is_turned_away(&reloaded.server, "/app/key-2", UNKNOWN);
                }
            }
            done.store(true, Ordering::Relaxed);
            publisher.join().unwrap();
        });
        for client in &mut clients {
            client.hears_nothing();
        }
    });
}

trait Ends {
    /// Closes in order; the server has let it go when its Close comes.
    fn leaves(self);
    /// Its app has been taken away.
    fn is_gone(&mut self);
}

impl Ends for Client {
    fn leaves(mut self) {
        let close = Frame::close(1000, "");
        self.send(Opcode::CLOSE, &close.payload);
        assert_eq!(self.hear_frame(), close);
        self.ends();
    }

    fn is_gone(&mut self) {
        assert_eq!(self.hear(), error(UNKNOWN.0, UNKNOWN.1));
        self.is_closed_with(UNKNOWN.0, UNKNOWN.1);
    }
}

/// What it had said is published as it was: a number that is spent must not be missing.
#[test]
fn an_app_that_goes_while_its_first_event_waits_for_redis_takes_nobody_with_it() {
    on_every_fleet(|fleet| {
        let mut redis = Redis::start();
        let port = redis.port.to_string();
        let scaling = [("REVERB_SCALING_ENABLED", "true"), ("REDIS_PORT", &port)];
        let (one, two) = (app("1", ""), app("2", ""));
        let both = one.clone() + &two;
        let mut leaver = Reloaded::start_with(fleet, "leaver", &both, &scaling);
        let keeper = Reloaded::start_with(fleet, "keeper", &both, &scaling).server;
        for node in [&leaver.server, &keeper] {
            node.is_on_the_bus();
        }
        let mut clients = ["1", "2"].map(|name| {
            let mut client = Client::of_app(&keeper, name);
            client.subscribe("c");
            client
        });
        // The two know one another.
        api::publish_event(&leaver.server, "1", "c", "e", "known");
        assert!(clients[0].hear().contains("known"));
        redis.kill();
        leaver
            .server
            .says("redis: scaling (publishing) does not work");
        api::publish_event(&leaver.server, "2", "c", "e", "last");
        leaver.reload(&one);
        redis.revive();
        assert!(clients[1].hear().contains("last"));
        api::publish_event(&leaver.server, "1", "c", "e", "on");
        assert!(clients[0].hear().contains(r#""data":"on""#));
        for client in &mut clients {
            client.hears_nothing();
        }
        assert!(!keeper.said().contains("messages of other nodes are lost"));
    });
}
