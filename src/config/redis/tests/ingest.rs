//! Which prefixes are heard, and for which app.

use super::*;

/// What is heard, as `prefix → app`.
fn sources(config: Result<Config, ConfigError>) -> Vec<(String, String)> {
    let ingest = config.unwrap().ingest.unwrap();
    let sources = ingest.sources.into_iter();
    sources
        .map(|source| (source.prefix, source.app_id))
        .collect()
}

fn prefixes(extra: &[(&str, &str)]) -> Vec<String> {
    let sources = sources(with(extra));
    assert!(sources.iter().all(|(_, app)| app == "123456"));
    sources.into_iter().map(|(prefix, _)| prefix).collect()
}

/// A file with the ingest on, these keys of it, and these apps with what their tables hold more.
fn file(ingest: &str, apps: &[(&str, &str)]) -> String {
    let mut text = format!("[redis_ingest]\nenabled = true\n{ingest}\n");
    for (name, more) in apps {
        let app = format!("[[apps]]\napp_id = \"{name}\"\nkey = \"{name}\"\nsecret = \"s\"\n");
        text.push_str(&app);
        text.push_str(more);
        text.push('\n');
    }
    text
}

fn file_complaint(ingest: &str, apps: &[(&str, &str)]) -> String {
    from_file(&file(ingest, apps)).unwrap_err().to_string()
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = |(prefix, app): &(&str, &str)| ((*prefix).to_owned(), (*app).to_owned());
    expected.iter().map(owned).collect()
}

#[test]
fn a_prefix_may_be_empty_and_an_absent_one_is_both_of_laravels() {
    let both = ["laravel_database_", "laravel-database-"];
    assert_eq!(prefixes(&[]), both);
    assert_eq!(prefixes(&[("APP_NAME", "Laravel")]), both);
    assert_eq!(prefixes(&[("REDIS_PREFIX", "shop:")]), ["shop:"]);
    for nothing in ["", "null", "(empty)", "\"\""] {
        assert_eq!(prefixes(&[("REDIS_PREFIX", nothing)]), [""], "{nothing}");
        let ours = ("SLAPBACK_REDIS_INGEST_PREFIX", nothing);
        assert_eq!(prefixes(&[("REDIS_PREFIX", "shop:"), ours]), [""]);
    }
    let ours = ("SLAPBACK_REDIS_INGEST_PREFIX", "ours:");
    assert_eq!(prefixes(&[("REDIS_PREFIX", "shop:"), ours]), ["ours:"]);
    let empty = from_file(&file("prefix = \"\"", &[("a", "")]));
    assert_eq!(sources(empty), pairs(&[("", "a")]));
    let own = from_file(&file("prefix = \"x\"", &[("a", "redis_prefix = \"\"")]));
    assert_eq!(sources(own), pairs(&[("", "a")]));
}

#[test]
fn a_name_becomes_a_prefix_as_laravel_makes_it() {
    for (name, slug) in [
        ("My Shop", "my_shop"),
        ("my-shop", "my_shop"),
        ("my_shop", "my_shop"),
        ("Tom & Jerry's", "tom_jerrys"),
        ("  -- a.b __ c -- ", "ab_c"),
        ("me@home", "me_at_home"),
        ("@", "at"),
        ("Shop\t2", "shop_2"),
        ("!", ""),
        ("", ""),
    ] {
        let with_dash = format!("{}-database-", slug.replace('_', "-"));
        let expected = [format!("{slug}_database_"), with_dash];
        assert_eq!(prefixes(&[("APP_NAME", name)]), expected, "{name}");
    }
    let said = complaint(&[("APP_NAME", "Café")]);
    assert_eq!(
        said,
        "APP_NAME: has letters that Laravel spells its own way in the prefix of Redis: set \
         REDIS_PREFIX to what php artisan tinker --execute 'echo \
         config(\"database.redis.options.prefix\");' prints"
    );
    let said = [("APP_NAME", "Café"), ("REDIS_PREFIX", "cafe_")];
    assert_eq!(prefixes(&said), ["cafe_"]);
}

#[test]
fn reports_tell_the_prefixes_and_who_says_them() {
    let row = |extra: &[(&str, &str)]| shown(&with(extra).unwrap(), "redis_ingest.prefix");
    let told = |value: &str, origin: &str| (value.to_owned(), origin.to_owned());
    let both = "laravel_database_, laravel-database-";
    assert_eq!(row(&[]), told(both, "default"));
    assert_eq!(
        row(&[("APP_NAME", "a")]),
        told("a_database_, a-database-", "APP_NAME")
    );
    assert_eq!(row(&[("REDIS_PREFIX", "")]), told("none", "REDIS_PREFIX"));
    let config = from_file(&file("", &[("a", "redis_prefix = \"x\"")])).unwrap();
    let row = config.listings[1].rows.last().unwrap();
    assert_eq!(
        (row.label.as_str(), row.value.as_str()),
        ("redis_prefix", "x")
    );
}

#[test]
fn several_apps_are_told_apart_by_their_prefixes_or_one_is_named() {
    let apps = [
        ("a", "redis_prefix = \"a_\""),
        ("b", "redis_prefix = \"b_\""),
    ];
    let each = from_file(&file("", &apps));
    assert_eq!(sources(each), pairs(&[("a_", "a"), ("b_", "b")]));
    let apps = [("a", ""), ("b", ""), ("c", "redis_prefix = \"c_\"")];
    let one = from_file(&file("app_id = \"b\"\nprefix = \"shop_\"", &apps));
    assert_eq!(sources(one), pairs(&[("shop_", "b"), ("c_", "c")]));
    assert_eq!(
        file_complaint("", &apps),
        "slapback.toml, line 4: apps[0].redis_prefix: is missing: with several apps each needs one, \
         or redis_ingest.app_id (SLAPBACK_REDIS_INGEST_APP_ID) names the app that all broadcasts \
         are for"
    );
    assert_eq!(
        file_complaint("app_id = \"d\"", &apps),
        "slapback.toml, line 3: redis_ingest.app_id: there is no app with this id"
    );
    let unknown = [("SLAPBACK_REDIS_INGEST_APP_ID", "1")];
    assert_eq!(
        complaint(&unknown),
        "SLAPBACK_REDIS_INGEST_APP_ID: there is no app with this id"
    );
    let named = [("SLAPBACK_REDIS_INGEST_APP_ID", "123456")];
    assert_eq!(prefixes(&named).len(), 2);
}

#[test]
fn no_two_apps_have_one_prefix_and_one_that_begins_another_is_warned_of() {
    let same = [
        ("a", "redis_prefix = \"x_\""),
        ("b", "redis_prefix = \"x_\""),
    ];
    assert_eq!(
        file_complaint("", &same),
        "slapback.toml, line 13: apps[1].redis_prefix: app a has the same prefix in Redis"
    );
    let general = [("a", ""), ("b", "redis_prefix = \"x_\"")];
    let said = file_complaint("app_id = \"a\"\nprefix = \"x_\"", &general);
    assert!(
        said.ends_with("app a has the same prefix in Redis"),
        "{said}"
    );
    let begins = [
        ("a", "redis_prefix = \"x_\""),
        ("b", "redis_prefix = \"y\""),
        ("c", "redis_prefix = \"x_y\""),
    ];
    let config = from_file(&file("", &begins)).unwrap();
    assert_eq!(
        config.warnings.last().unwrap(),
        "slapback.toml, line 18: apps[2].redis_prefix: begins with the prefix of app a, whose \
         clients can listen to these channels too"
    );
}

#[test]
fn a_redis_of_its_own_is_not_told_the_password_of_another() {
    let text = file("server = { host = \"r.test\" }", &[("a", "")]);
    let config = |text: &str| {
        let flags = Flags {
            config: Some("slapback.toml".into()),
            ..Flags::default()
        };
        let read = |path: &std::path::Path| match path.to_str() {
            Some("slapback.toml") => Ok(text.to_owned()),
            _ => no_file(path),
        };
        load(&flags, &variables(&[("REDIS_PASSWORD", "p")]), read).unwrap()
    };
    let own = RedisServer {
        address: tcp("r.test", 6379),
        ..stock()
    };
    let found = config(&text);
    assert_eq!(found.scaling, None);
    assert_eq!(found.ingest.as_ref().unwrap().server, own);
    let told = shown(&found, "redis_ingest.server.host");
    let place = "slapback.toml, line 3: redis_ingest.server.host";
    assert_eq!(told, ("r.test".to_owned(), place.to_owned()));
    let shared = config(&text.replace("host = \"r.test\"", ""));
    let password = shared.ingest.unwrap().server.password;
    assert_eq!(password.as_deref(), Some("p"));
}

#[test]
fn laravels_spelling_may_have_the_ingest_too() {
    let text = "{\"servers\":{},\"apps\":{\"apps\":[{\"app_id\":1,\"key\":\"k\",\"secret\":\"s\",\
                \"redis_prefix\":\"a_\"}]},\"redis_ingest\":{\"enabled\":true,\
                \"server\":{\"url\":\"redis://r.test:7\"}}}";
    let config = from_named("reverb.json", text).unwrap();
    let ingest = config.ingest.as_ref().unwrap();
    assert_eq!(ingest.server.address, tcp("r.test", 7));
    assert_eq!(sources(Ok(config)), pairs(&[("a_", "1")]));
}

#[test]
fn the_demo_app_is_fed_only_if_it_is_alone() {
    let flags = Flags {
        demo: true,
        ..Flags::default()
    };
    let switch = ("SLAPBACK_REDIS_INGEST", "true");
    let config = load(&flags, &variables(&[switch]), no_file);
    assert_eq!(sources(config)[0].1, "123456");
    let process = [(switch.0.into(), switch.1.into())];
    let alone = Environment::new(process, None).unwrap();
    assert_eq!(sources(load(&flags, &alone, no_file))[0].1, "demo");
}
