//! The events of the bench on the wire: the frames that subscribers get, those that clients send,
//! and signatures. Both ends and the floor write them here.

use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use hmac::{Hmac, KeyInit, Mac};
use md5::{Digest, Md5};
use sha2::Sha256;

use crate::Failure;
use crate::receiver::{DIGITS, MARK};

/// Bytes of one published event's frame on the wire, whatever its channel.
pub const FRAME_BYTES: usize = 200;
const HEADER_BYTES: usize = 4;
/// The name of published events.
pub const EVENT: &str = "tick";
/// The name of whispers.
pub const WHISPER: &str = "client-tick";

/// What a client and the API need to know of an app.
#[derive(Clone)]
pub struct App {
    /// Its id, in the API's paths.
    pub id: String,
    /// Its key, in clients' paths.
    pub key: String,
    /// What signs.
    pub secret: String,
}

impl App {
    /// What lets a socket onto a private channel.
    pub fn auth(&self, socket_id: &str, channel: &str) -> Result<String, Failure> {
        let signature = self.sign(&format!("{socket_id}:{channel}"))?;
        Ok(format!("{}:{signature}", self.key))
    }

    /// The signed API call that publishes event `number`.
    pub fn request(&self, channel: &str, number: u64) -> Result<Vec<u8>, Failure> {
        let data = data(channel, number);
        let body = format!(r#"{{"name":"{EVENT}","channel":"{channel}","data":"{data}"}}"#);
        let path = format!("/apps/{}/events", self.id);
        let digest = hex(&Md5::digest(&body));
        let line = self.signed("POST", &path, &format!("body_md5={digest}"))?;
        let length = body.len();
        Ok(format!(
            "{line}\r\nHost: localhost\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        )
        .into_bytes())
    }

    /// The signed API call that asks how many sockets are on a channel, and ends the connection.
    pub fn count_request(&self, channel: &str) -> Result<Vec<u8>, Failure> {
        let path = format!("/apps/{}/channels/{channel}", self.id);
        let line = self.signed("GET", &path, "info=subscription_count")?;
        Ok(format!("{line}\r\nHost: localhost\r\nConnection: close\r\n\r\n").into_bytes())
    }

    /// The first line of an API call; `last` must come behind `auth_version` in the alphabet.
    fn signed(&self, method: &str, path: &str, last: &str) -> Result<String, Failure> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let key = &self.key;
        let query = format!("auth_key={key}&auth_timestamp={now}&auth_version=1.0&{last}");
        let signature = self.sign(&format!("{method}\n{path}\n{query}"))?;
        Ok(format!(
            "{method} {path}?{query}&auth_signature={signature} HTTP/1.1"
        ))
    }

    fn sign(&self, text: &str) -> Result<String, Failure> {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.secret.as_bytes())?;
        mac.update(text.as_bytes());
        Ok(hex(&mac.finalize().into_bytes()))
    }
}

/// The frame that a subscriber gets of event `number`, byte for byte as long as the server's.
pub fn frame(channel: &str, number: u64) -> Vec<u8> {
    let message = message(EVENT, channel, &format!(r#""{}""#, data(channel, number)));
    let mut frame = vec![0x81, 126];
    frame.extend((message.len() as u16).to_be_bytes());
    frame.extend(message.as_bytes());
    frame
}

/// The frame in which a client whispers event `number`; its data must be a list or an object.
pub fn whisper(channel: &str, number: u64) -> Result<Vec<u8>, Failure> {
    client_frame(&message(
        WHISPER,
        channel,
        &format!(r#"["{}"]"#, data(channel, number)),
    ))
}

/// A client's text frame. A mask of zeros is a mask.
pub fn client_frame(message: &str) -> Result<Vec<u8>, Failure> {
    let mut frame = vec![0x81];
    match u8::try_from(message.len()) {
        Ok(length) if length < 126 => frame.push(0x80 | length),
        _ => {
            frame.push(0x80 | 126);
            frame.extend(u16::try_from(message.len())?.to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(message.as_bytes());
    Ok(frame)
}

fn message(event: &str, channel: &str, data: &str) -> String {
    format!(r#"{{"event":"{event}","data":{data},"channel":"{channel}"}}"#)
}

/// The number, and as much behind it as makes a published event's frame [`FRAME_BYTES`] long.
fn data(channel: &str, number: u64) -> String {
    let length = FRAME_BYTES - HEADER_BYTES - message(EVENT, channel, r#""""#).len();
    let mut data = format!("{}{number:0DIGITS$}", char::from(MARK));
    data.extend(std::iter::repeat_n('x', length - data.len()));
    data
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}"); // a String takes everything
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_frame_has_the_length_it_is_said_to_have() {
        for (channel, number) in [("bench", 0), ("bench-9999", 9_999_999_999)] {
            assert_eq!(frame(channel, number).len(), FRAME_BYTES);
            let whisper = whisper(channel, number).unwrap();
            // Besides its name and the brackets the client's has a mask.
            let more = WHISPER.len() - EVENT.len() + "[]".len() + 4;
            assert_eq!(whisper.len(), FRAME_BYTES + more);
        }
    }

    #[test]
    fn a_short_client_frame_has_a_short_header() {
        assert_eq!(client_frame("{}").unwrap(), b"\x81\x82\0\0\0\0{}");
    }

    #[test]
    fn a_private_channel_is_signed_as_the_protocol_says() {
        let app = App {
            id: String::new(),
            key: "278d425bdf160c739803".into(),
            secret: "7ad3773142a6692b25b8".into(),
        };
        // The example of the protocol's own documentation.
        assert_eq!(
            app.auth("1234.1234", "private-foobar").unwrap(),
            "278d425bdf160c739803:\
             58df8b0c36d6982b82c3ecf6b4662e34fe8c25bba48f5369f135bf843651c3a4"
        );
    }
}
