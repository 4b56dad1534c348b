//! Paths and methods, one by one.

use super::*;

fn settings(prefix: &str) -> ApiSettings {
    ApiSettings {
        path_prefix: prefix.to_owned(),
        timestamp_tolerance_s: 600,
        publish_bytes_max: None,
    }
}

fn routed(method: &str, path: &str, prefix: &str) -> String {
    let path = decoded_path(path);
    let found = |path| route(method, path, &settings(prefix));
    let found = path.as_deref().map_or(Route::NotFound, found);
    match found {
        Route::Api { app_id, call } => format!("{call:?} of {app_id}"),
        Route::MethodNotAllowed { allow } => format!("{allow} alone"),
        other => format!("{other:?}"),
    }
}

#[test]
fn r015_r017_r018_r159_r163_paths_lead_to_their_routes() {
    for (method, path, route) in [
        ("GET", "/app/reverb-key", r#"App { key: "reverb-key" }"#),
        ("get", "/app/reverb%2Dkey", r#"App { key: "reverb-key" }"#),
        ("POST", "/app/reverb-key", "GET alone"),
        ("GET", "/app/reverb-key/", "NotFound"),
        ("GET", "/app/", "NotFound"),
        ("GET", "/app", "NotFound"),
        ("GET", "/app/a%2Fb", "NotFound"),
        ("GET", "/app/%ff", "NotFound"),
        ("GET", "/up", "Up"),
        ("HEAD", "/up", "Up"),
        ("POST", "/up", "GET alone"),
        ("OPTIONS", "/up", "GET alone"),
        ("GET", "/up/", "NotFound"),
        ("GET", "/", "Root"),
        ("POST", "/", "NotFound"),
        ("GET", "//", "NotFound"),
        ("GET", "/nope", "NotFound"),
        ("GET", "nope", "NotFound"),
    ] {
        assert_eq!(routed(method, path, ""), route, "{method} {path}");
    }
}

#[test]
fn r163_r223_r225_every_call_has_one_path_and_one_method() {
    for (path, call, method) in [
        ("/events", "Events", "POST"),
        ("/batch_events", "BatchEvents", "POST"),
        ("/connections", "Connections", "GET"),
        ("/channels", "Channels", "GET"),
        ("/channels/c%201", r#"Channel("c 1")"#, "GET"),
        ("/channels/users", r#"Channel("users")"#, "GET"),
        ("/channels/c/users", r#"Users("c")"#, "GET"),
        ("/channels/users/users", r#"Users("users")"#, "GET"),
        (
            "/users/7/terminate_connections",
            r#"TerminateConnections("7")"#,
            "POST",
        ),
    ] {
        let path = format!("/apps/a%20b%2{path}");
        for sent in ["GET", "HEAD", "POST", "post", "PUT", "DELETE", "OPTIONS"] {
            let is_head = sent == "HEAD" && method == "GET";
            let expected = if is_head || sent.eq_ignore_ascii_case(method) {
                format!("{call} of a b%2")
            } else {
                format!("{method} alone")
            };
            assert_eq!(routed(sent, &path, ""), expected, "{sent} {path}");
        }
        for path in [
            format!("{path}/"),
            format!("{path}/x/y/z"),
            format!("/ws{path}"),
        ] {
            assert_eq!(routed(method, &path, ""), "NotFound", "{path}");
        }
        assert_eq!(
            routed(method, &path.replace("/apps/a%20b%2", "/apps/"), ""),
            "NotFound"
        );
    }
    for path in [
        "/apps",
        "/apps/",
        "/apps/1",
        "/apps//events",
        "/apps/1/users",
        "/apps/1/users/7",
        "/apps/1/channels//users",
        "/apps/1/channels/a%2Fb",
        "/apps/1/channels/a/b",
        "/apps/1/channels/users/7/terminate_connections",
        "/apps/1/channels/%ff",
    ] {
        for method in ["GET", "POST"] {
            assert_eq!(routed(method, path, ""), "NotFound", "{path}");
        }
    }
}

#[test]
fn r020_with_a_prefix_everything_lives_under_it() {
    assert_eq!(routed("GET", "/ws/app/key", "/ws"), r#"App { key: "key" }"#);
    assert_eq!(routed("GET", "/ws/up", "/ws"), "Up");
    assert_eq!(routed("POST", "/ws/apps/1/events", "/ws"), "Events of 1");
    for path in ["/app/key", "/up", "/wsx/up", "/ws", "/"] {
        assert_eq!(routed("GET", path, "/ws"), "NotFound", "{path}");
    }
}
