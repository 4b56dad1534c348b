//! Any bytes as a message of the bus: read without harm, and an event heard within its bounds.

use serde_json::Value;
use slapback::app::AppIndex;
use slapback::proto::api::Question;
use slapback::proto::frame;
use slapback::proto::json::Workspace;
use slapback::redis::envelope::{self, CHANNELS_MAX, Message, Scratch};
use slapback::redis::{metric, php, side};

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
        let once = metric::question_of(&metric, false)
            .as_ref()
            .and_then(crossed);
        assert_eq!(once.as_ref().and_then(crossed), once);
    }
    let mut workspace = Workspace::default();
    if let Some(said) = side::read(input, &mut workspace) {
        assert!(said.node.len() <= envelope::NODE_BYTES_MAX);
    }
    run_answer(text);
}

/// What is left of a question when another node has read it.
fn crossed(question: &Question) -> Option<Question> {
    metric::with_metric(question, "k", |metric| metric::question_of(metric, false))?
}

/// Reads the text as an answer of either kind of node; what is known of it is known when it has
/// crossed over.
fn run_answer(text: &str) {
    let mut scratch = metric::Scratch::default();
    for question in [
        Question::Connections,
        Question::Users {
            channel: "presence-c".into(),
        },
    ] {
        let _ = metric::read_of_php(&question, text, &mut scratch);
    }
    if let Ok(facts) = metric::read_facts(text, &mut scratch) {
        let mut out = Vec::new();
        metric::write_facts(&mut out, &facts);
        let written = str::from_utf8(&out).expect("JSON is UTF-8");
        let again = metric::read_facts(written, &mut scratch).expect("it was just written");
        assert_eq!(again.connections, facts.connections);
        assert_eq!(again.users, facts.users);
        assert_eq!(again.channels.len(), facts.channels.len());
    }
}
