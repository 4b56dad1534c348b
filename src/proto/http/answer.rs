//! Answers to HTTP requests.
//!
//! Called by the session; appends to a buffer that the caller sends.

/// One answer.
#[derive(Debug, Clone, Copy)]
pub struct Answer<'a> {
    /// The number of the status line.
    pub status: u16,
    /// `application/json` also brings `Cache-Control` and `Date` (R-170).
    pub content_type: &'a str,
    /// The method that would have been right, with 405.
    pub allow: Option<&'a str>,
    /// The whole body.
    pub body: &'a [u8],
    /// False: the connection closes after this answer, and says so.
    pub keep_alive: bool,
    /// The answer to HEAD: the body's length, but no body.
    pub head_only: bool,
    /// Wall clock in seconds since 1970.
    pub now_unix_s: u64,
}

/// Appends the answer, always HTTP/1.1 with `Content-Type` and `Content-Length` (R-170).
pub fn write_answer(out: &mut Vec<u8>, answer: &Answer<'_>) {
    let mut number = itoa::Buffer::new();
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(number.format(answer.status).as_bytes());
    out.push(b' ');
    out.extend_from_slice(reason(answer.status).as_bytes());
    write_header(out, "Content-Type", answer.content_type);
    write_header(out, "Content-Length", number.format(answer.body.len()));
    if answer.content_type == "application/json" {
        write_header(out, "Cache-Control", "no-cache, private");
        out.extend_from_slice(b"\r\nDate: ");
        write_date(out, answer.now_unix_s);
    }
    if let Some(method) = answer.allow {
        write_header(out, "Allow", method);
    }
    // HTTP/1.0 clients keep a connection only if told; the others do not mind.
    write_header(
        out,
        "Connection",
        if answer.keep_alive {
            "keep-alive"
        } else {
            "close"
        },
    );
    out.extend_from_slice(b"\r\n\r\n");
    if !answer.head_only {
        out.extend_from_slice(answer.body);
    }
}

/// The words of the status line, as Reverb's libraries have them.
fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        401 => "Unauthorized",
        404 => "Not Found",
        405 => "Method Not Allowed",
        413 => "Request Entity Too Large",
        422 => "Unprocessable Content",
        503 => "Service Unavailable",
        _ => "Unknown",
    }
}

fn write_header(out: &mut Vec<u8>, name: &str, value: &str) {
    for part in ["\r\n", name, ": ", value] {
        out.extend_from_slice(part.as_bytes());
    }
}

/// Appends an IMF-fixdate (RFC 9110 5.6.7).
fn write_date(out: &mut Vec<u8>, unix_s: u64) {
    let (days, second) = (unix_s / DAY_S, unix_s % DAY_S);
    let (year, month, day) = civil_date(days);
    // The first of January 1970 was a Thursday.
    out.extend_from_slice(name_at(WEEKDAYS, (days + 4) % 7));
    out.extend_from_slice(b", ");
    write_two_digits(out, day);
    out.push(b' ');
    out.extend_from_slice(name_at(MONTHS, month));
    out.push(b' ');
    write_two_digits(out, year / 100 % 100);
    write_two_digits(out, year % 100);
    for (before, value) in [
        (b' ', second / 3600),
        (b':', second / 60 % 60),
        (b':', second % 60),
    ] {
        out.push(before);
        write_two_digits(out, value);
    }
    out.extend_from_slice(b" GMT");
}

/// Year, month from 0, and day of the month of a day counted from 1970.
fn civil_date(days: u64) -> (u64, u64, u64) {
    // Years that begin in March keep the leap day last, so that month lengths repeat.
    let since_year_0 = days + DAYS_TO_1970;
    let (era, day_of_era) = (since_year_0 / DAYS_400_YEARS, since_year_0 % DAYS_400_YEARS);
    let leap_days = day_of_era / 1460 + day_of_era / 146_096 - day_of_era / 36_524;
    let year_of_era = (day_of_era - leap_days) / 365;
    let year_start = 365 * year_of_era + year_of_era / 4 - year_of_era / 100;
    let day_of_year = day_of_era - year_start;
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = (march_month + 2) % 12;
    let year = 400 * era + year_of_era + u64::from(month < 2);
    (year, month, day)
}

fn name_at(names: &[u8], index: u64) -> &[u8] {
    let (names, _) = names.as_chunks::<3>();
    let index = usize::try_from(index).unwrap_or_default();
    names.get(index).map_or(&[], <[u8; 3]>::as_slice)
}

fn write_two_digits(out: &mut Vec<u8>, value: u64) {
    for digit in [value / 10 % 10, value % 10] {
        out.push(
            b"0123456789"
                .get(usize::try_from(digit).unwrap_or_default())
                .map_or(b'0', |&d| d),
        );
    }
}

const DAY_S: u64 = 24 * 60 * 60;
const DAYS_400_YEARS: u64 = 146_097;
/// From the first of March of the year 0.
const DAYS_TO_1970: u64 = 719_468;
const WEEKDAYS: &[u8] = b"SunMonTueWedThuFriSat";
const MONTHS: &[u8] = b"JanFebMarAprMayJunJulAugSepOctNovDec";

#[cfg(test)]
mod tests {
    use super::*;

    fn answer<'a>(content_type: &'a str, body: &'a [u8]) -> Answer<'a> {
        let (status, allow, keep_alive, head_only) = (200, None, true, false);
        let now_unix_s = 1_782_259_200;
        Answer {
            status,
            content_type,
            allow,
            body,
            keep_alive,
            head_only,
            now_unix_s,
        }
    }

    fn written(answer: &Answer<'_>) -> String {
        let mut out = Vec::new();
        write_answer(&mut out, answer);
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn r170_json_answers_have_cache_control_and_date() {
        assert_eq!(
            written(&answer("application/json", br#"{"health":"OK"}"#)),
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 15\r\n\
         Cache-Control: no-cache, private\r\nDate: Wed, 24 Jun 2026 00:00:00 GMT\r\n\
         Connection: keep-alive\r\n\r\n{\"health\":\"OK\"}"
        );
    }

    #[test]
    fn r160_an_answer_to_head_has_the_length_but_no_body() {
        let answer = Answer {
            head_only: true,
            ..answer("application/json", b"{}")
        };
        let text = written(&answer);
        assert!(text.contains("\r\nContent-Length: 2\r\n") && text.ends_with("\r\n\r\n"));
    }

    #[test]
    fn r170_errors_have_type_and_length_and_405_its_allow() {
        let refused = Answer {
            status: 405,
            allow: Some("GET"),
            keep_alive: false,
            ..answer("text/plain", b"Method not allowed.")
        };
        assert_eq!(
            written(&refused),
            "HTTP/1.1 405 Method Not Allowed\r\nContent-Type: text/plain\r\nContent-Length: 19\r\n\
         Allow: GET\r\nConnection: close\r\n\r\nMethod not allowed."
        );
    }

    #[test]
    fn dates_are_right_on_leap_days_and_across_centuries() {
        for (unix_s, date) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (951_782_399, "Mon, 28 Feb 2000 23:59:59 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (1_735_689_599, "Tue, 31 Dec 2024 23:59:59 GMT"),
            (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT"),
        ] {
            let mut out = Vec::new();
            write_date(&mut out, unix_s);
            assert_eq!(String::from_utf8_lossy(&out), date);
        }
    }
}
