//! The demo: what `start --demo` says and serves, and that the page's own app works.
//!
//! The page's script runs in no browser here; what it needs from the server is asked for by hand.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use harness::{Client, Fleet, Server, api, on_every_fleet};
use md5::{Digest as _, Md5};

mod harness;

/// What the log and the page say of the demo's app.
#[derive(Debug, PartialEq, Eq)]
struct DemoApp {
    id: String,
    key: String,
    secret: String,
}

impl DemoApp {
    /// Read off `demo: id ID key KEY secret SECRET`.
    fn logged(server: &Server) -> Self {
        let line = server.says("demo: id ");
        let after = |name: &str| {
            let mut words = line.split_whitespace().skip_while(|word| *word != name);
            words.nth(1).unwrap().to_owned()
        };
        Self::new(after)
    }

    /// Read off the page's `<meta name="app">`.
    fn on_page(page: &str) -> Self {
        Self::new(|name| {
            let (_, rest) = page.split_once(&format!(" data-{name}=\"")).unwrap();
            rest.split('"').next().unwrap().to_owned()
        })
    }

    fn new(value: impl Fn(&str) -> String) -> Self {
        Self {
            id: value("id"),
            key: value("key"),
            secret: value("secret"),
        }
    }
}

fn start(fleet: Fleet, further: &[&str]) -> Server {
    Server::start_with(fleet, &[&["start", "--demo"], further].concat(), &[])
}

fn page(server: &Server, path: &str) -> api::Answer {
    api::call(server, &api::request("GET", path, "", ""))
}

#[test]
fn the_page_stands_at_the_root_and_needs_nothing_from_elsewhere() {
    on_every_fleet(|fleet| {
        let server = start(fleet, &[]);
        let answer = page(&server, "/");
        assert_eq!(answer.status, 200);
        assert_eq!(
            answer.header("Content-Type"),
            Some("text/html; charset=utf-8")
        );
        let page = answer.body;
        for reference in ["src=", "href=\"http", "href=\"//", "url(", "@import", "{{"] {
            assert!(!page.contains(reference), "the page has {reference}");
        }
        assert_eq!(DemoApp::on_page(&page), DemoApp::logged(&server));
        let port = server.port;
        server.says(&format!("demo: open http://127.0.0.1:{port}/ in two tabs"));
    });
}

#[test]
fn the_app_on_the_page_signs_subscriptions_and_events() {
    on_every_fleet(|fleet| {
        let server = start(fleet, &["--path", "ws"]);
        let app = DemoApp::on_page(&page(&server, "/ws/").body);
        let mut client = Client::connect(&server, &format!("/ws/app/{}?protocol=7", app.key));
        let signature = api::sign(&app.secret, &format!("{}:private-lobby", client.id));
        client.say(format!(
            r#"{{"event":"pusher:subscribe","data":{{"channel":"private-lobby","auth":"{}:{signature}"}}}}"#,
            app.key
        ));
        assert_eq!(client.hear(), harness::subscribed("private-lobby"));

        let body = r#"{"name":"message","channel":"private-lobby","data":"{}"}"#;
        let path = format!("/apps/{}/events", app.id);
        let md5 = api::hex(&Md5::digest(body));
        let query = format!("auth_key={}&auth_version=1.0&body_md5={md5}", app.key);
        let signature = api::sign(&app.secret, &format!("POST\n{path}\n{query}"));
        let target = format!("/ws{path}?{query}&auth_signature={signature}");
        let answer = api::call(&server, &api::request("POST", &target, "", body));
        assert_eq!((answer.status, answer.body.as_str()), (200, "{}"));
        assert_eq!(
            client.hear(),
            r#"{"event":"message","data":"{}","channel":"private-lobby"}"#
        );
    });
}

#[test]
fn each_start_draws_secrets_of_its_own_and_no_other_server_has_the_page() {
    on_every_fleet(|fleet| {
        let first = DemoApp::logged(&start(fleet, &[]));
        let second = DemoApp::logged(&start(fleet, &[]));
        assert_ne!(first.key, second.key);
        assert_ne!(first.secret, second.secret);
        assert_eq!(page(&Server::start(fleet, &[]), "/").status, 404);
    });
}
