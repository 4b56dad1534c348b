//! Any bytes as a message of the bus: read without harm, and an event heard within its bounds.

use serde_json::Value;
use slapback::app::AppIndex;
use slapback::proto::frame;
use slapback::redis::envelope::{self, CHANNELS_MAX, Message, Scratch};
use slapback::redis::php;

/// Reads the bytes as a message, and as what PHP serialises within one.
pub fn run(input: &[u8]) {
    let mut scratch = Scratch::default();
    if let Ok(Message::Event(event)) = envelope::read(input, &mut scratch)
        && let Ok(broadcast) = event.broadcast(AppIndex(0), &mut Scratch::default())
    {
        assert!(broadcast.deliveries.len() <= CHANNELS_MAX);
        for delivery in broadcast.deliveries {
            // It holds less than PHP does: no half of a surrogate pair, no deep nesting.
            if let Ok(heard) = serde_json::from_slice::<Value>(frame::payload(&delivery.frame)) {
                assert_eq!(heard["channel"], *delivery.channel);
                assert!(heard.get("channels").is_none());
            }
        }
    }
    let Ok(text) = str::from_utf8(input) else {
        return;
    };
    let _ = php::read_application(text);
    if let Ok(metric) = php::read_metric(text) {
        assert!(metric.options.len() <= php::ENTRIES_MAX);
    }
}
