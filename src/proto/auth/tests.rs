//! Signatures of channels and API calls, some of them taken from a real Reverb.

use super::*;
use crate::app::AppSettings;

fn app() -> App {
    App::new(AppSettings::new("123456", "reverb-key", "reverb-secret"))
}

const SOCKET: SocketId = SocketId {
    a: 86_935_741,
    b: 725_973_289,
};

fn signature(text: &str) -> String {
    String::from_utf8(app().signer().sign_hex(&[text.as_bytes()]).to_vec()).unwrap()
}

fn channel(auth: &str, data: Option<&str>) -> bool {
    channel_is_authorised(&app(), SOCKET, "private-test-channel", Some(auth), data)
}

const NOW_S: u64 = 1_795_476_443;
const PATH: &str = "/apps/123456/events";

/// Signs `signed` and calls with the query `sent`.
fn call(sent: &str, signed: &str, body: &str) -> Result<(), ApiRefusal> {
    let signature = signature(&format!("POST\n{PATH}\n{signed}"));
    let query = format!("{sent}&auth_signature={signature}");
    check_api_call(&app(), "post", PATH, &query, body.as_bytes(), NOW_S, 600).map(drop)
}

fn call_signed(parameters: &str) -> Result<(), ApiRefusal> {
    call(parameters, parameters, "")
}

#[test]
fn r082_right_signature_with_the_apps_key_is_accepted() {
    let signature = signature("86935741.725973289:private-test-channel");
    assert!(channel(&format!("reverb-key:{signature}"), None));
    assert!(channel(&format!("reverb-key:{signature}"), Some("")));
    assert!(channel(&format!("reverb-key:{signature}"), Some("0")));
    assert!(!channel(&format!("app-key:{signature}"), None));
}

#[test]
fn r083_r084_wrong_or_missing_signatures_are_refused() {
    for auth in [
        "invalid-signature",
        "reverb-key:",
        "reverb-key:deadbeef",
        ":",
        "",
    ] {
        assert!(!channel(auth, None), "{auth}");
    }
    assert!(!channel_is_authorised(
        &app(),
        SOCKET,
        "private-a",
        None,
        None
    ));
    let foreign = signature("1.2:private-test-channel");
    assert!(!channel(&format!("reverb-key:{foreign}"), None));
}

#[test]
fn r085_r092_what_stands_before_the_first_colon_must_be_the_key() {
    let signature = signature("86935741.725973289:private-test-channel");
    for auth in [
        signature.clone(),
        format!(":{signature}"),
        format!("reverb-key:k:{signature}"),
    ] {
        assert!(!channel(&auth, None), "{auth}");
    }
}

#[test]
fn r086_upper_case_hex_is_refused() {
    let signature = signature("86935741.725973289:private-test-channel").to_ascii_uppercase();
    assert!(!channel(&format!("reverb-key:{signature}"), None));
}

#[test]
fn r087_channel_data_is_part_of_what_is_signed() {
    let data = r#"{"user_id":"9"}"#;
    let with = signature(&format!("86935741.725973289:private-test-channel:{data}"));
    let without = signature("86935741.725973289:private-test-channel");
    assert!(channel(&format!("reverb-key:{with}"), Some(data)));
    assert!(!channel(&format!("reverb-key:{without}"), Some(data)));
    assert!(!channel(&format!("reverb-key:{with}"), None));
}

#[test]
fn r174_right_signature_is_accepted_and_a_wrong_or_missing_one_refused() {
    let signed = "auth_key=reverb-key&auth_timestamp=1795476443&auth_version=1.0";
    assert_eq!(call_signed(signed), Ok(()));
    assert_eq!(call(signed, "x=1", ""), Err(ApiRefusal::SignatureWrong));
    assert_eq!(
        call(&format!("{signed}&x=1"), signed, ""),
        Err(ApiRefusal::SignatureWrong)
    );
    let missing = check_api_call(&app(), "POST", PATH, signed, b"", NOW_S, 600).map(drop);
    assert_eq!(missing, Err(ApiRefusal::SignatureMissing));
}

#[test]
fn r176_key_must_be_the_apps_and_the_timestamp_near() {
    assert_eq!(call_signed("auth_key=other"), Err(ApiRefusal::KeyWrong));
    assert_eq!(call_signed("a=1"), Err(ApiRefusal::KeyWrong));
    assert_eq!(call_signed("auth_key=reverb-key"), Ok(()));
    let at =
        |timestamp: &str| call_signed(&format!("auth_key=reverb-key&auth_timestamp={timestamp}"));
    assert_eq!(at("1795475843"), Ok(()));
    assert_eq!(
        at("1795475842"),
        Err(ApiRefusal::TimestampSkewed { skew_s: 601 })
    );
    assert_eq!(
        at("1795477044"),
        Err(ApiRefusal::TimestampSkewed { skew_s: -601 })
    );
    assert_eq!(at("soon"), Err(ApiRefusal::TimestampInvalid));
    assert!(matches!(
        at("-9223372036854775808"),
        Err(ApiRefusal::TimestampSkewed { .. })
    ));
    let query = "auth_key=reverb-key&auth_timestamp=1";
    let signature = signature(&format!("GET\n/x\n{query}"));
    let query = format!("{query}&auth_signature={signature}");
    assert_eq!(
        check_api_call(&app(), "GET", "/x", &query, b"", NOW_S, 0).map(drop),
        Ok(())
    );
}

#[test]
fn r177_r178_body_md5_is_that_of_the_body_and_not_the_one_sent() {
    let signed = "auth_key=reverb-key&body_md5=900150983cd24fb0d6963f7d28e17f72&z=1";
    assert_eq!(
        call("auth_key=reverb-key&z=1&body_md5=00", signed, "abc"),
        Ok(())
    );
    assert_eq!(call("auth_key=reverb-key&z=1", signed, "abc"), Ok(()));
    assert_eq!(call(signed, "auth_key=reverb-key&z=1", ""), Ok(()));
}

#[test]
fn r179_r180_r181_r182_parameters_are_signed_as_php_reads_them() {
    let sent = "x[]=a&x[]=b&auth_key=reverb-key&p.q=c+d&i=1%2C2&Z=1&Z=2";
    assert_eq!(
        call(sent, "Z=2&auth_key=reverb-key&i=1,2&p_q=c d&x=a,b", ""),
        Ok(())
    );
    assert_eq!(
        call("auth_key=reverb-key&x[a][b]=1", "", ""),
        Err(ApiRefusal::BadQuery)
    );
}

#[test]
fn r183_parameters_of_the_route_are_left_out() {
    let sent = "appId=1&appKey=2&channelName=3&auth_key=reverb-key";
    assert_eq!(call(sent, "auth_key=reverb-key", ""), Ok(()));
}

#[test]
fn r187_a_list_is_no_signature() {
    let query = "auth_key=reverb-key&auth_signature[]=x";
    let refused = check_api_call(&app(), "POST", PATH, query, b"", NOW_S, 600).map(drop);
    assert_eq!(refused, Err(ApiRefusal::SignatureMissing));
}

#[test]
fn calls_that_reverb_accepted_are_accepted() {
    let app = App::new(AppSettings::new("app-1", "key-1", "secret-1"));
    let body: &[u8] = br#"{"name":"e","channels":["c1"],"data":"1"}"#;
    let events = "/apps/app-1/events";
    let md5 = "2c8f6cd9ce893aed6c282bfad9116850";
    for (query, signature) in [
        (
            "auth_key=key-1&auth_timestamp=1795476443&auth_version=1.0&body_md5=00".to_owned(),
            "eab8814d0be0f92f4c46617c342acf755ad96198d8976074f9a0db3589fbac2b",
        ),
        (
            format!("auth_key=key-1&auth_version=1.0&body_md5={md5}"),
            "6fc7ef1d9319ce31ff22fdb420bc132c368b9a8d69a3b0b0c2c3027da3e2f611",
        ),
        (
            format!("body_md5={md5}&auth_version=1.0&auth_timestamp=1795476444&auth_key=key-1"),
            "1d6eecc86d1e4c22c4d559f378a42874eacb3aca3e769c34c01baee3a0843477",
        ),
    ] {
        let query = format!("auth_signature={signature}&{query}");
        let checked = check_api_call(&app, "POST", events, &query, body, NOW_S, 600).map(drop);
        assert_eq!(checked, Ok(()), "{query}");
    }
    let query = concat!(
        "auth_key=key-1&auth_timestamp=1&auth_version=1.0&x.y=1",
        "&auth_signature=2c350f6cd9f3c33d9845ea5a1cd45d5d3862d657ba22f840f6ba4f19650941a4"
    );
    let channels = "/apps/app-1/channels";
    assert_eq!(
        check_api_call(&app, "GET", channels, query, b"", NOW_S, 0).map(drop),
        Ok(())
    );
}
