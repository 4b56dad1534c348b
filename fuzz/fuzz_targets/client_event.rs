//! Any bytes as a client message: parsed or refused, and what is passed on is UTF-8 again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use slapback::proto::event::{self, ClientMessage, Scratch};
use slapback::proto::presence::Member;

fuzz_target!(|payload: &[u8]| {
    let mut scratch = Scratch::default();
    match event::parse(payload, &mut scratch) {
        Ok(ClientMessage::Whisper(whisper)) => {
            for write in [event::whisper, event::whisper_whole] {
                let mut out = Vec::new();
                write(&mut out, &whisper, &whisper.channel, Some("1"));
                assert!(std::str::from_utf8(&out).is_ok());
            }
        }
        Ok(ClientMessage::Subscribe(subscribe)) => {
            let _ = Member::parse(subscribe.channel_data.as_deref());
        }
        Ok(_) | Err(_) => {}
    }
});
