//! A node of Reverb's kind on the bus, in PHP itself: see `node.php` beside this file.

use std::fmt::Display;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;

use serde_json::{Value, json};

use super::{DEADLINE, Redis};

/// Such a node, subscribed. Dropping it ends the process; it must not have died before.
pub struct PhpNode {
    child: Child,
    news: Receiver<Value>,
}

impl PhpNode {
    /// Starts it and waits until it is subscribed.
    pub fn start(redis: &Redis) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/harness/node.php");
        let mut child = Command::new("php")
            .args(["-d", "display_errors=stderr", "-f"])
            .arg(script)
            .args(["--", &redis.port.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("tests need php");
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (sender, news) = channel();
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let news = serde_json::from_str(&line);
                let news = news.unwrap_or_else(|_| panic!("PHP says: {line}"));
                // A test that is over reads no more.
                let _ = sender.send(news);
            }
        });
        let mut node = Self { child, news };
        assert_eq!(node.next(), json!({"is": "ready"}));
        node
    }

    /// Publishes an event as this node's own: `payload`, JSON, as on the bus.
    pub fn publish(&mut self, payload: &str, socket_id: Option<&str>) {
        let socket_id = json!(socket_id);
        let text = format!(r#"{{"do":"publish","payload":{payload},"socket_id":{socket_id}}}"#);
        self.tell(text);
    }

    /// Has a user's sockets closed.
    pub fn terminate(&mut self, user: &str) {
        self.tell(json!({"do": "terminate", "user_id": user}));
    }

    /// What it answers from now on to metrics of this type.
    pub fn knows(&mut self, metric: &str, answer: &Value) {
        self.tell(json!({"do": "know", "type": metric, "answer": answer}));
    }

    /// Asks all nodes; gives the sum, and after how many milliseconds.
    pub fn asks(&mut self, metric: &str, options: &Value) -> (Value, u64) {
        self.tell(json!({"do": "ask", "type": metric, "options": options}));
        let news = self.hears("answer");
        (news["answer"].clone(), news["ms"].as_u64().unwrap())
    }

    /// The next news of this kind; others before it are passed over.
    pub fn hears(&mut self, kind: &str) -> Value {
        loop {
            let news = self.next();
            if news["is"] == kind {
                return news;
            }
        }
    }

    /// All news that have come; it must be alive.
    pub fn heard(&mut self) -> Vec<Value> {
        assert!(
            self.child.try_wait().unwrap().is_none(),
            "the PHP node has died"
        );
        self.news.try_iter().collect()
    }

    fn next(&mut self) -> Value {
        match self.news.recv_timeout(DEADLINE) {
            Ok(news) => news,
            Err(RecvTimeoutError::Timeout) => panic!("the PHP node says nothing"),
            Err(RecvTimeoutError::Disconnected) => panic!("the PHP node has died"),
        }
    }

    fn tell(&mut self, command: impl Display) {
        let stdin = self.child.stdin.as_mut().unwrap();
        writeln!(stdin, "{command}").unwrap();
        stdin.flush().unwrap();
    }
}

impl Drop for PhpNode {
    fn drop(&mut self) {
        let died = self.child.try_wait().unwrap();
        let _ = self.child.kill();
        let _ = self.child.wait();
        if !thread::panicking() {
            assert!(died.is_none(), "the PHP node has died");
        }
    }
}
