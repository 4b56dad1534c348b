//! What calls ask of all nodes, and what other nodes ask of this one: bytes to what the machine
//! ([`Gather`]) is told.
//!
//! Owned by `scaling`, which carries out what the machine wants.

use std::sync::Arc;
use std::time::Instant;

use tracing::warn;

use crate::app::Apps;
use crate::proto::api::{Facts, Question};
use crate::redis::envelope;
use crate::redis::gather::{Asker, Effect, Gather};
use crate::redis::metric::{self, ANSWER_BYTES_MAX};
use crate::redis::php::Metric;

/// The questions, and what it takes to read them.
pub(super) struct Asking {
    pub(super) gather: Gather,
    pub(super) effects: Vec<Effect>,
    scratch: metric::Scratch,
}

impl Asking {
    pub(super) fn new() -> Self {
        Self {
            gather: Gather::new(fastrand::u64(..)),
            effects: Vec::new(),
            scratch: metric::Scratch::default(),
        }
    }

    /// A node asks; a PHP node has no name.
    pub(super) fn hear_question(
        &mut self,
        metric: &Metric<'_>,
        node: Option<&str>,
        apps: &Apps,
    ) -> Result<(), &'static str> {
        let question = metric::question_of(metric, node.is_none());
        let question = Arc::new(question.ok_or("the metric lacks an option")?);
        let key = metric.key.into();
        let asker = match node {
            Some(node) => Asker::Node {
                node: node.into(),
                key,
            },
            None => Asker::Php {
                key,
                question: Arc::clone(&question),
            },
        };
        let app = apps.by_id(metric.app);
        self.gather
            .handle_foreign_ask(asker, app, &question, &mut self.effects);
        Ok(())
    }

    /// A PHP node answers somebody, perhaps this node.
    pub(super) fn hear_php(
        &mut self,
        now: Instant,
        key: &str,
        answer: &str,
    ) -> Result<(), &'static str> {
        if let Some(question) = self.gather.question(key) {
            let facts = metric::read_of_php(&question, answer, &mut self.scratch);
            let facts = facts.map_err(|_| "no answer to what was asked")?;
            self.gather
                .handle_answer(now, key, facts, &mut self.effects);
        }
        Ok(())
    }

    /// A node of this kind answers this node.
    pub(super) fn hear_node(
        &mut self,
        now: Instant,
        key: &str,
        answer: &str,
    ) -> Result<(), &'static str> {
        if self.gather.question(key).is_some() {
            let facts = metric::read_facts(answer, &mut self.scratch);
            let facts = facts.map_err(|_| "no answer to what was asked")?;
            self.gather
                .handle_answer(now, key, facts, &mut self.effects);
        }
        Ok(())
    }
}

/// Appends what another node of this kind is told.
pub(super) fn write_facts(out: &mut Vec<u8>, facts: &Facts) {
    let start = out.len();
    metric::write_facts(out, facts);
    if out.len() - start > ANSWER_BYTES_MAX {
        out.truncate(start);
        let cut = Facts {
            is_cut: true,
            ..Facts::default()
        };
        metric::write_facts(out, &cut);
    }
}

/// Words what a PHP node is told. One that is too long would have Redis cut every subscriber.
pub(super) fn answer_php(
    key: &str,
    question: &Question,
    mut facts: Facts,
    say: impl FnOnce(&[u8]),
) {
    facts.merge();
    let (mut payload, mut out) = (Vec::new(), Vec::new());
    metric::write_for_php(&mut payload, question, &facts);
    if payload.len() > ANSWER_BYTES_MAX {
        warn!("scaling: a Reverb node asks for more than can be told it; it is told nothing");
        payload = b"[]".to_vec();
    }
    envelope::answer(&mut out, key, &payload);
    say(&out);
}
