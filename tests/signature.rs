//! Who may call the HTTP API: signatures as PHP's Pusher library makes them (R-174 to R-187).
//!
//! A call without a body that is signed well gets as far as its missing body: 400. So 400 here
//! means that the signature was found right.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use answers::{bad_request, is_answered, taken, text, unauthorised};
use harness::api::{publish_request, request, sign, signed_target_at, unix_s};
use harness::{Fleet, Server, on_every_fleet, on_every_server};

mod answers;
mod harness;

const PATH: &str = "/apps/app-1/events";
const EVENT: &str = r#"{"name":"e","channels":["c1"],"data":"1"}"#;
/// Of [`EVENT`].
const MD5: &str = "body_md5=2c8f6cd9ce893aed6c282bfad9116850";

/// A call of app-1 that sends one query and signs another, both completed with the key, the time
/// and, if there is a body, its digest.
struct Call<'a> {
    path: &'a str,
    signed_path: &'a str,
    sent: &'a str,
    signed: &'a str,
    body: &'a str,
}

impl Default for Call<'_> {
    fn default() -> Self {
        let (path, signed_path) = (PATH, PATH);
        let (sent, signed, body) = ("", "", "");
        Self {
            path,
            signed_path,
            sent,
            signed,
            body,
        }
    }
}

impl Call<'_> {
    /// The bytes of the call. `signed` stands behind the other parameters, as it would be sorted
    /// if its names begin with a letter behind `b`.
    fn bytes(&self) -> String {
        let time = format!(
            "auth_key=key-1&auth_timestamp={}&auth_version=1.0",
            unix_s()
        );
        let digest = if self.body.is_empty() { "" } else { MD5 };
        let signed = joined(&[&time, digest, self.signed]);
        let signature = sign("secret-1", &format!("POST\n{}\n{signed}", self.signed_path));
        let signature = format!("auth_signature={signature}");
        let sent = joined(&[&time, self.sent, &signature]);
        request("POST", &format!("{}?{sent}", self.path), "", self.body)
    }
}

fn joined(parts: &[&str]) -> String {
    let parts: Vec<&str> = parts
        .iter()
        .copied()
        .filter(|part| !part.is_empty())
        .collect();
    parts.join("&")
}

/// A publish with exactly this query, of which `signed` is signed with this secret.
fn exact(query: &str, signed: &str, secret: &str) -> String {
    let signature = sign(secret, &format!("POST\n{PATH}\n{signed}"));
    let target = format!("{PATH}?{query}&auth_signature={signature}");
    request("POST", &target, "", EVENT)
}

#[test]
fn r174_a_right_signature_is_200_and_a_wrong_or_missing_one_401() {
    on_every_server(|server| {
        is_answered(server, publish_request("1", EVENT), &taken());
        let time = format!(
            "auth_key=key-1&auth_timestamp={}&auth_version=1.0",
            unix_s()
        );
        let right = joined(&[&time, MD5]);
        is_answered(server, exact(&right, &right, "secret-1"), &taken());
        let signature = sign("secret-1", &format!("POST\n{PATH}\n{right}"));
        let unsigned = request("POST", &format!("{PATH}?{right}"), "", EVENT);
        let upper = signature.to_uppercase();
        let upper = request(
            "POST",
            &format!("{PATH}?{right}&auth_signature={upper}"),
            "",
            EVENT,
        );
        let extra = format!("{PATH}?{right}&auth_signature={signature}&x=1");
        for refused in [
            exact(&right, &right, "secret-2"),
            exact(&right, &time, "secret-1"),
            request("POST", PATH, "", EVENT),
            unsigned,
            upper,
            request("POST", &extra, "", EVENT),
        ] {
            is_answered(server, refused, &unauthorised());
        }
    });
}

#[test]
fn r175_an_unknown_app_is_404_whatever_the_signature() {
    on_every_server(|server| {
        let unknown = text("404 Not Found", "No matching application for ID [nope].");
        is_answered(
            server,
            request("POST", "/apps/nope/events", "", EVENT),
            &unknown,
        );
        is_answered(
            server,
            publish_request("1", EVENT).replace("app-1", "nope"),
            &unknown,
        );
    });
}

#[test]
fn r176_the_key_must_be_the_apps_and_the_time_within_600_s() {
    on_every_server(|server| {
        let now = unix_s();
        let dated = |at: u64| {
            let target = signed_target_at(at, "1", "POST", PATH, "", EVENT);
            request("POST", &target, "", EVENT)
        };
        // Some seconds of leeway, for the time that the test takes.
        for near in [now - 590, now + 590] {
            is_answered(server, dated(near), &taken());
        }
        // And for the server's clock, which it reads once a tick: at a full second it may be behind.
        for far in [now - 610, now + 610, now - 86_400, 1, 0] {
            is_answered(server, dated(far), &unauthorised());
        }
        let undated = joined(&["auth_key=key-1&auth_version=9", MD5]);
        is_answered(server, exact(&undated, &undated, "secret-1"), &taken());
        let unversioned = joined(&["auth_key=key-1", MD5]);
        is_answered(
            server,
            exact(&unversioned, &unversioned, "secret-1"),
            &taken(),
        );
        for key in ["auth_key=key-origin", "auth_key=", "other=1"] {
            let query = joined(&[key, MD5]);
            is_answered(server, exact(&query, &query, "secret-1"), &unauthorised());
        }
        let odd = joined(&["auth_key=key-1&auth_timestamp=today", MD5]);
        is_answered(server, exact(&odd, &odd, "secret-1"), &unauthorised());
    });
}

#[test]
fn r176_the_tolerance_can_be_switched_off() {
    on_every_fleet(|fleet| {
        let server = Server::start(fleet, &[("SLAPBACK_AUTH_TIMESTAMP_TOLERANCE", "0")]);
        let target = signed_target_at(1, "1", "POST", PATH, "", EVENT);
        is_answered(&server, request("POST", &target, "", EVENT), &taken());
    });
}

#[test]
fn r177_body_md5_is_that_of_the_body_and_not_the_one_sent() {
    on_every_server(|server| {
        let query = "auth_key=key-1&auth_version=1.0";
        let signed = joined(&[query, MD5]);
        is_answered(server, exact(query, &signed, "secret-1"), &taken());
        let wrong = joined(&[query, "body_md5=00"]);
        is_answered(server, exact(&wrong, &signed, "secret-1"), &taken());
        is_answered(server, exact(&wrong, &wrong, "secret-1"), &unauthorised());
        is_answered(server, exact(query, query, "secret-1"), &unauthorised());
    });
}

#[test]
fn r178_body_md5_is_left_out_if_there_is_no_body() {
    on_every_server(|server| {
        let sent = MD5;
        let call = |signed| Call {
            sent,
            signed,
            ..Call::default()
        };
        is_answered(server, call("").bytes(), &bad_request());
        is_answered(server, call(MD5).bytes(), &unauthorised());
    });
}

#[test]
fn r178_the_digest_of_no_body_may_be_signed_or_left_out() {
    on_every_server(|server| {
        let sent = "body_md5=d41d8cd98f00b204e9800998ecf8427e";
        let call = |sent, signed| Call {
            sent,
            signed,
            ..Call::default()
        };
        is_answered(server, call(sent, sent).bytes(), &bad_request());
        is_answered(server, call(sent, "").bytes(), &bad_request());
        is_answered(server, call("", sent).bytes(), &unauthorised());
    });
}

/// Asserts how app-1's parameters are signed: those sent as those signed, and not as they are.
fn signs(server: &Server, sent: &str, signed: &str) {
    let body = EVENT;
    let call = |signed| Call {
        sent,
        signed,
        body,
        ..Call::default()
    };
    is_answered(server, call(signed).bytes(), &taken());
    is_answered(server, call(sent).bytes(), &unauthorised());
}

#[test]
fn r179_lists_are_signed_joined_by_commas() {
    on_every_server(|server| {
        signs(server, "x[]=a&x[]=b", "x=a,b");
        signs(server, "x%5B%5D=a&x%5B%5D=b", "x=a,b");
        let nested = "x[a][b]=1";
        let call = Call {
            sent: nested,
            body: EVENT,
            ..Call::default()
        };
        is_answered(server, call.bytes(), &bad_request());
    });
}

#[test]
fn r180_values_are_signed_decoded_and_a_plus_is_a_space() {
    on_every_server(|server| {
        signs(server, "x=a%2Cb", "x=a,b");
        signs(server, "x=a+b%20c", "x=a b c");
        signs(server, "x=%C3%A9%zz", "x=\u{e9}%zz");
    });
}

#[test]
fn r181_dots_and_spaces_in_names_are_signed_as_underscores() {
    on_every_server(|server| {
        signs(server, "x.y=1&x+z=2", "x_y=1&x_z=2");
    });
}

#[test]
fn r182_names_are_signed_in_the_order_of_their_bytes_and_the_last_of_a_name_counts() {
    on_every_server(|server| {
        signs(server, "z=1&x=2&x=3&y=4", "x=3&y=4&z=1");
        // Capitals come before all others, so the whole query is given here.
        let sent = "auth_key=key-1&a=1&B=2&Zed=3&10=4&9=5";
        let signed = joined(&["9=5&10=4&B=2&Zed=3&a=1&auth_key=key-1", MD5]);
        is_answered(server, exact(sent, &signed, "secret-1"), &taken());
    });
}

#[test]
fn r183_parameters_that_name_the_route_are_not_signed() {
    on_every_server(|server| {
        let route = "appId=1&appKey=2&channelName=3";
        signs(server, route, "");
    });
}

#[test]
fn r184_the_path_is_signed_as_it_is_sent() {
    on_every_server(|server| {
        let path = "/apps/app%2D1/events";
        let call = |signed_path| Call {
            path,
            signed_path,
            body: EVENT,
            ..Call::default()
        };
        is_answered(server, call(path).bytes(), &taken());
        is_answered(server, call(PATH).bytes(), &unauthorised());
    });
}

/// A publish under the prefix `/ws` that signs this path.
fn prefixed(signed_path: &str) -> String {
    let (path, body) = ("/ws/apps/app-1/events", EVENT);
    let call = Call {
        path,
        signed_path,
        body,
        ..Call::default()
    };
    call.bytes()
}

fn signs_without_prefix(server: &Server) {
    is_answered(server, prefixed(PATH), &taken());
    is_answered(server, prefixed("/ws/apps/app-1/events"), &unauthorised());
    is_answered(
        server,
        publish_request("1", EVENT),
        &text("404 Not Found", "Not found."),
    );
}

#[test]
fn r185_the_path_is_signed_without_the_prefix_of_the_environment() {
    on_every_fleet(|fleet| {
        for prefix in ["/ws", "ws/"] {
            signs_without_prefix(&Server::start(fleet, &[("REVERB_SERVER_PATH", prefix)]));
        }
    });
}

#[test]
fn r186_the_path_is_signed_without_the_prefix_of_the_command_line() {
    let start = |fleet: Fleet| {
        let app = [
            ("REVERB_APP_ID", "app-1"),
            ("REVERB_APP_KEY", "key-1"),
            ("REVERB_APP_SECRET", "secret-1"),
        ];
        Server::start_with(fleet, &["start", "--path=/ws"], &app)
    };
    on_every_fleet(|fleet| signs_without_prefix(&start(fleet)));
}

#[test]
fn r187_a_list_is_no_signature() {
    on_every_server(|server| {
        let listed = Call {
            body: EVENT,
            ..Call::default()
        };
        let listed = listed.bytes();
        is_answered(server, &listed, &taken());
        let listed = listed.replace("auth_signature=", "auth_signature[]=");
        is_answered(server, listed, &unauthorised());
    });
}
