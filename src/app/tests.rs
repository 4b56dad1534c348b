//! Origins, quotas, signatures, and what stays over a reload.

use super::*;

fn app(origins: &[&str], max_connections: Option<u32>) -> App {
    App::new(AppSettings {
        allowed_origins: origins.iter().map(|&origin| origin.to_owned()).collect(),
        max_connections,
        ..AppSettings::new("123456", "reverb-key", "reverb-secret")
    })
}

fn allows(origins: &[&str], origin: &str) -> bool {
    app(origins, None).origin_allowed(Some(origin))
}

#[test]
fn r021_a_star_accepts_any_origin_and_none() {
    let app = app(&["laravel.com", "*"], None);
    assert!(app.origin_allowed(None));
    assert!(app.origin_allowed(Some("https://evil.test")));
}

#[test]
fn r022_only_the_host_of_the_origin_counts() {
    for origin in [
        "http://laravel.com",
        "https://laravel.com:8443",
        "https://a:b@laravel.com:1/x",
    ] {
        assert!(allows(&["laravel.com"], origin), "{origin}");
    }
    assert!(allows(&["[::1]"], "http://[::1]:8000"));
}

#[test]
fn r023_no_origin_is_refused() {
    assert!(!app(&["laravel.com"], None).origin_allowed(None));
    assert!(!app(&[], None).origin_allowed(None));
}

#[test]
fn r024_r027_other_hosts_are_refused() {
    for origin in [
        "http://localhost",
        "http://sub.laravel.com",
        "http://LARAVEL.com",
        "null",
        "laravel.com",
        "http://laravel.com.evil.com",
        "http:/laravel.com",
        "http://laravel.com:port",
        "",
    ] {
        assert!(!allows(&["laravel.com"], origin), "{origin}");
    }
    assert!(!allows(&["https://laravel.com"], "https://laravel.com"));
}

#[test]
fn r025_r026_a_wildcard_stands_for_any_run() {
    assert!(!allows(&["*.laravel.com"], "http://laravel.com"));
    assert!(allows(&["*.laravel.com"], "http://a.laravel.com"));
    assert!(allows(&["*.laravel.com"], "http://a.b.laravel.com"));
    assert!(allows(
        &["localhost", "*.localhost"],
        "http://sub.localhost"
    ));
    assert!(allows(&["a*b*c"], "http://aXbXbXc"));
    assert!(!allows(&["a*b*c"], "http://aXbXbX"));
    assert!(allows(&["a**"], "http://a"));
}

#[test]
fn r029_r032_places_are_taken_and_given_back() {
    let limited = app(&[], Some(1));
    assert!(limited.admit());
    assert!(!limited.admit());
    limited.release();
    limited.release();
    assert!(limited.admit());
    assert!(!app(&[], Some(0)).admit());
    let unlimited = app(&[], None);
    assert!((0..10).all(|_| unlimited.admit()));
}

#[test]
fn signatures_equal_those_of_rfc_4231() {
    let short = Signer::new(b"Jefe");
    let parts: [&[u8]; 2] = [b"what do ya want ", b"for nothing?"];
    let hex = b"5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
    assert_eq!(&short.sign_hex(&parts), hex);
    assert!(short.verify_hex(&parts, hex));
    assert!(!short.verify_hex(&parts, &hex.to_ascii_uppercase()));
    assert!(!short.verify_hex(&parts, &hex[1..]));
    let long = Signer::new(&[0xaa; 131]);
    let text: &[u8] = b"Test Using Larger Than Block-Size Key - Hash Key First";
    let hex = b"60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54";
    assert_eq!(&long.sign_hex(&[text]), hex);
}

#[test]
fn a_secret_is_never_shown() {
    let shown = format!("{:?}", app(&[], None).settings);
    assert!(shown.contains("reverb-key") && !shown.contains("reverb-secret"));
}

#[test]
fn r019_apps_are_found_by_exact_id_and_key() {
    let mut second = app(&[], None).settings;
    second.id = "654321".to_owned();
    second.key = "reverb-key-2".to_owned();
    let apps = Apps::new(vec![app(&[], None).settings, second]);
    assert_eq!(apps.by_id("654321"), Some(AppIndex(1)));
    assert_eq!(apps.by_key("reverb-key"), Some(AppIndex(0)));
    assert_eq!(apps.by_id("123456.0"), None);
    assert_eq!(apps.by_key(""), None);
    assert!(apps.get(AppIndex(2)).is_none());
    assert_eq!(apps.iter().count(), 2);
}

fn settings(names: &[&str]) -> Vec<AppSettings> {
    let app = |name: &&str| AppSettings::new(*name, format!("key-{name}"), "secret");
    names.iter().map(app).collect()
}

#[test]
fn an_app_keeps_its_index_over_reloads_also_while_it_is_gone() {
    let first = Apps::new(settings(&["a", "b"]));
    let second = first.reloaded(settings(&["c", "b"])).unwrap();
    assert_eq!(second.by_id("a"), None);
    assert_eq!(second.by_key("key-a"), None);
    assert!(second.get(AppIndex(0)).is_none());
    assert_eq!(second.by_id("b"), Some(AppIndex(1)));
    assert_eq!(second.by_key("key-c"), Some(AppIndex(2)));
    let ids: Vec<_> = second
        .iter()
        .map(|(_, app)| app.settings.id.as_str())
        .collect();
    assert_eq!(ids, ["b", "c"]);
    let third = second.reloaded(settings(&["a"])).unwrap();
    assert_eq!(third.by_id("a"), Some(AppIndex(0)));
    assert_eq!(third.iter().count(), 1);
}

#[test]
fn connections_are_counted_over_reloads() {
    let limited = |max_connections| {
        let mut apps = settings(&["a"]);
        apps[0].max_connections = max_connections;
        apps
    };
    let apps = Apps::new(limited(None));
    let admits = |apps: &Apps| apps.get(AppIndex(0)).unwrap().admit();
    assert!(admits(&apps) && admits(&apps));
    let apps = apps.reloaded(limited(Some(2))).unwrap();
    assert!(!admits(&apps));
    let gone = apps.reloaded(Vec::new()).unwrap();
    gone.release(AppIndex(0));
    let apps = gone.reloaded(limited(Some(2))).unwrap();
    assert!(admits(&apps) && !admits(&apps));
}

#[test]
fn a_key_may_move_to_another_app() {
    let apps = Apps::new(settings(&["a", "b"]));
    let mut swapped = settings(&["a", "b"]);
    swapped[0].key = "key-b".to_owned();
    swapped[1].key = "key-a".to_owned();
    let apps = apps.reloaded(swapped).unwrap();
    assert_eq!(apps.by_key("key-a"), Some(AppIndex(1)));
    assert_eq!(apps.by_key("key-b"), Some(AppIndex(0)));
}

#[test]
fn there_are_no_more_indices_than_bits_for_them() {
    let ids: Vec<String> = (0..APPS_MAX).map(|id| id.to_string()).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let apps = Apps::new(settings(&ids));
    assert!(apps.reloaded(settings(&ids)).is_some());
    assert!(apps.reloaded(settings(&["one more"])).is_none());
}

#[test]
fn differences_are_named_without_their_values() {
    let old = app(&["a.test"], None).settings;
    let new = AppSettings {
        secret: "another".to_owned(),
        max_connections: Some(1),
        ..old.clone()
    };
    assert_eq!(old.differences(&new), ["secret", "max_connections"]);
    assert_eq!(old.differences(&old), [""; 0]);
}
