//! What calls ask of all nodes, and what other nodes ask of this one: bytes to what the machine
//! ([`Gather`]) is told.
//!
//! Owned by `scaling`, which carries out what the machine wants.

use std::sync::Arc;
use std::time::Instant;

use tracing::warn;

use crate::app::Apps;
use crate::proto::api::{Facts, Question};
use crate::proto::json::Malformed;
use crate::redis::envelope;
use crate::redis::gather::{Asker, Effect, Gather};
use crate::redis::metric::{self, ANSWER_BYTES_MAX};
use crate::redis::php::Metric;
use crate::shard::question::Ask;

/// The questions, and what it takes to read them.
pub(super) struct Asking {
    gather: Gather,
    /// What the machine wants.
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

    /// A call asks; the other nodes are asked too, if they can be.
    pub(super) fn handle_ask(&mut self, now: Instant, ask: Ask, has_bus: bool) {
        self.gather.handle_ask(now, ask, has_bus, &mut self.effects);
    }

    /// This node's shards have answered what bore this number.
    pub(super) fn handle_own(&mut self, now: Instant, ticket: u32, facts: Facts) {
        self.gather
            .handle_own(now, ticket, facts, &mut self.effects);
    }

    /// This node's shards have ended.
    pub(super) fn handle_end(&mut self, now: Instant) {
        self.gather.handle_end(now, &mut self.effects);
    }

    /// Redis has put a question to so many.
    pub(super) fn handle_heard(&mut self, now: Instant, key: &str, receivers: i64) {
        self.gather
            .handle_heard(now, key, receivers, &mut self.effects);
    }

    /// Does what is due.
    pub(super) fn handle_tick(&mut self, now: Instant) {
        self.gather.handle_tick(now, &mut self.effects);
    }

    /// When [`Self::handle_tick`] has something to do.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.gather.deadline()
    }

    /// A number for a deed of the shards whose answer is for nobody.
    pub(super) fn draw_ticket(&mut self) -> u32 {
        self.gather.draw_ticket()
    }

    /// A connection is lost: nobody on the bus answers any more.
    pub(super) fn handle_loss(&mut self, now: Instant) {
        self.gather.handle_loss(now, &mut self.effects);
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
        self.hear_answer(now, key, |question, scratch| {
            metric::read_of_php(question, answer, scratch)
        })
    }

    /// A node of this kind answers this node.
    pub(super) fn hear_node(
        &mut self,
        now: Instant,
        key: &str,
        answer: &str,
    ) -> Result<(), &'static str> {
        self.hear_answer(now, key, |_, scratch| metric::read_facts(answer, scratch))
    }

    fn hear_answer(
        &mut self,
        now: Instant,
        key: &str,
        read: impl FnOnce(&Question, &mut metric::Scratch) -> Result<Facts, Malformed>,
    ) -> Result<(), &'static str> {
        if let Some(question) = self.gather.question(key) {
            let facts = read(&question, &mut self.scratch);
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
