//! Who may call the HTTP API: signatures as PHP's Pusher library makes them (R-174 to R-187).
#![allow(clippy::unwrap_used, clippy::expect_used)]

use answers::{bad_request, is_answered, json, taken, text, unauthorised};
use harness::api::{call_request, publish_request, request, sign, signed_target_at, unix_s};
use harness::{Fleet, Server, on_every_fleet, on_every_server};

mod answers;
mod harness;

const PATH: &str = "/apps/app-1/events";
const EVENT: &str = r#"{"name":"e","channels":["c1"],"data":"1"}"#;
/// Of [`EVENT`].
const MD5: &str = "body_md5=2c8f6cd9ce893aed6c282bfad9116850";

/// A publish of [`EVENT`] by app-1 that sends one query and signs another, both completed with the
/// key, the time and the digest.
struct Call<'a> {
    path: &'a str,
    signed_path: &'a str,
    sent: &'a str,
    signed: &'a str,
}

impl Default for Call<'_> {
    fn default() -> Self {
        let (path, signed_path) = (PATH, PATH);
        let (sent, signed) = ("", "");
        Self {
            path,
            signed_path,
            sent,
            signed,
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
        let signed = joined(&[&time, MD5, self.signed]);
        let signature = sign("secret-1", &format!("POST\n{}\n{signed}", self.signed_path));
        let signature = format!("auth_signature={signature}");
        let sent = joined(&[&time, self.sent, &signature]);
        request("POST", &format!("{}?{sent}", self.path), "", EVENT)
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
fn r174_what_is_signed_is_the_whole_query_and_the_body() {
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

/// Every call of the API: method, path, body, and what its app is answered.
fn calls() -> [(&'static str, &'static str, &'static str, String); 7] {
    let told = |body: &str| json("200 OK", body);
    [
        ("POST", "/events", EVENT, taken()),
        ("POST", "/batch_events", BATCH, told(r#"{"batch":{}}"#)),
        ("GET", "/channels", "", told(r#"{"channels":{}}"#)),
        ("GET", "/channels/c1", "", told(r#"{"occupied":false}"#)),
        ("GET", "/channels/c1/users", "", json("404 Not Found", "{}")),
        ("GET", "/connections", "", told(r#"{"connections":0}"#)),
        ("POST", "/users/1/terminate_connections", "", taken()),
    ]
}

const BATCH: &str = r#"{"batch":[{"name":"e","channel":"c1","data":"1"}]}"#;

#[test]
fn r174_each_call_is_answered_if_it_is_signed_and_401_if_not_or_wrongly() {
    on_every_server(|server| {
        for (method, path, body, expected) in calls() {
            let signed = call_request("1", method, path, body);
            is_answered(server, &signed, &expected);
            let (before, behind) = signed.split_once("&auth_signature=").unwrap();
            let (signature, rest) = behind.split_once(' ').unwrap();
            let with = |parameter: &str| format!("{before}{parameter} {rest}");
            let digit = if signature.starts_with('0') { "1" } else { "0" };
            let other_secret = call_request("all", method, path, body)
                .replace("app-all", "app-1")
                .replace("key-all", "key-1");
            for refused in [
                request(method, &format!("/apps/app-1{path}"), "", body),
                with(""),
                with("&auth_signature="),
                with("&auth_signature=invalid"),
                with(&format!("&auth_signature={digit}{}", &signature[1..])),
                with(&format!("&auth_signature={signature}0")),
                with(&format!("&auth_signature={signature}&further=1")),
                other_secret,
            ] {
                is_answered(server, refused, &unauthorised());
            }
        }
    });
}

#[test]
fn r174_a_signature_is_good_for_its_method_path_and_body_only() {
    on_every_server(|server| {
        let batch = call_request("1", "POST", "/batch_events", EVENT);
        let event = batch.replacen("/batch_events?", "/events?", 1);
        let head = call_request("1", "HEAD", "/channels", "");
        let get = head.replacen("HEAD", "GET", 1);
        let channel = call_request("1", "GET", "/channels/c2", "");
        let other = channel.replacen("/c2?", "/c1?", 1);
        let altered = publish_request("1", EVENT).replace(r#"["c1"]"#, r#"["c2"]"#);
        for refused in [event, get, other, altered] {
            is_answered(server, refused, &unauthorised());
        }
    });
}

#[test]
fn r175_an_unknown_app_is_404_whatever_the_call_and_its_signature() {
    on_every_server(|server| {
        let unknown = text("404 Not Found", "No matching application for ID [nope].");
        for (method, path, body, _) in calls() {
            let unsigned = request(method, &format!("/apps/nope{path}"), "", body);
            let foreign = call_request("1", method, path, body).replace("app-1", "nope");
            for call in [unsigned, foreign] {
                is_answered(server, call, &unknown);
            }
        }
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

/// Every call that may be without a body is answered so if it sends one parameter and signs another.
fn without_body(server: &Server, sent: &str, signed: &str, is_right: bool) {
    for (method, path, _, expected) in calls().into_iter().filter(|call| call.2.is_empty()) {
        let query = |parameter: &str| joined(&["auth_key=key-1&auth_version=1.0", parameter]);
        let path = format!("/apps/app-1{path}");
        let signature = sign("secret-1", &format!("{method}\n{path}\n{}", query(signed)));
        let target = format!("{path}?{}&auth_signature={signature}", query(sent));
        let refused = unauthorised();
        let expected = if is_right { &expected } else { &refused };
        is_answered(server, request(method, &target, "", ""), expected);
    }
}

#[test]
fn r178_body_md5_is_left_out_if_there_is_no_body() {
    on_every_server(|server| {
        without_body(server, "", "", true);
        without_body(server, MD5, "", true);
        without_body(server, MD5, MD5, false);
        without_body(server, "", MD5, false);
    });
}

#[test]
fn r178_the_digest_of_no_body_may_be_signed_or_left_out() {
    const NOTHING: &str = "body_md5=d41d8cd98f00b204e9800998ecf8427e";
    on_every_server(|server| {
        without_body(server, NOTHING, NOTHING, true);
        without_body(server, NOTHING, "", true);
        without_body(server, "", NOTHING, false);
        without_body(server, MD5, NOTHING, false);
    });
}

/// Asserts how app-1's parameters are signed: those sent as those signed, and not as they are.
fn signs(server: &Server, sent: &str, signed: &str) {
    let call = |signed| Call {
        sent,
        signed,
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
            ..Call::default()
        };
        is_answered(server, call(path).bytes(), &taken());
        is_answered(server, call(PATH).bytes(), &unauthorised());
    });
}

/// A publish under the prefix `/ws` that signs this path.
fn prefixed(signed_path: &str) -> String {
    let path = "/ws/apps/app-1/events";
    let call = Call {
        path,
        signed_path,
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
        let listed = Call::default().bytes();
        is_answered(server, &listed, &taken());
        let listed = listed.replace("auth_signature=", "auth_signature[]=");
        is_answered(server, listed, &unauthorised());
    });
}
