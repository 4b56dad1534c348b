//! Many subscribers, and readers that do not read: nothing is lost, doubled or late, and memory
//! stays within its bounds.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::{Duration, Instant};

use crowd::{Crowd, End, Publisher};
use harness::{FLEETS, Server, on_every_fleet};

mod crowd;
mod harness;

const MIB: u64 = 1 << 20;

/// What a server may take with ten thousand subscribed sockets.
const RESIDENT_MAX: u64 = 40 * MIB;

/// How long a crowd may take to hear all of a test. Only a failing test takes as long.
const PATIENCE: Duration = Duration::from_secs(60);

/// A counter of the line that the server says when it has stopped.
fn counted(stopped: &str, name: &str) -> u64 {
    let mut fields = stopped.split_whitespace();
    let value = fields.find_map(|field| field.strip_prefix(name)?.strip_prefix('='));
    value.map_or(0, |digits| digits.parse().unwrap())
}

/// Publishes a burst of events while a crowd listens; each of it must hear each event.
fn publish(publisher: &mut Publisher, count: u32, healthy: &mut Crowd) {
    let all = u64::from(publisher.count + count) * healthy.seen().count() as u64;
    std::thread::scope(|scope| {
        scope.spawn(|| publisher.publish_burst(count));
        healthy.watch(PATIENCE, |crowd| crowd.events_count >= all);
    });
    assert!(healthy.seen().all(|seen| seen == publisher.count));
    assert_eq!(healthy.ended_count, 0);
}

/// Publishes bursts that add up to `count` events. A burst is within the bounds of a backlog:
/// healthy readers are not to be taken for stalled ones only because this machine is busy.
fn publish_bursts(publisher: &mut Publisher, count: u32, healthy: &mut Crowd) {
    for _ in 0..count / BURST {
        publish(publisher, BURST, healthy);
    }
}

const BURST: u32 = 40;

#[test]
fn ten_thousand_subscribers_hear_100_events_once_each_and_in_order() {
    // One fleet at a time: twice as many sockets are more than a process may have.
    for fleet in FLEETS {
        let server = Server::start(fleet, &[]);
        let mut crowd = Crowd::join(&server, 10_000, None);
        let resident = server.memory("VmRSS:");
        assert!(
            resident <= RESIDENT_MAX,
            "{fleet}: {resident} bytes with 10,000 subscribed sockets"
        );
        let mut publisher = Publisher::new(&server, 150);
        (0..20).for_each(|_| publish(&mut publisher, 1, &mut crowd));
        publish_bursts(&mut publisher, 80, &mut crowd);
        assert_eq!(crowd.events_count, 1_000_000, "{fleet}");
    }
}

/// A server whose backlogs have these bounds, with stalled readers and healthy ones.
struct Scene {
    server: Server,
    stalled: Crowd,
    healthy: Crowd,
    /// Files that are left when the stalled readers' are closed.
    files: usize,
}

const HEALTHY: usize = 50;

impl Scene {
    fn start(fleet: harness::Fleet, count: usize, environment: &[(&str, &str)]) -> Self {
        let environment = [environment, &[("SLAPBACK_DRAIN_SECONDS", "0")]].concat();
        let server = Server::start(fleet, &environment);
        // Little room in the kernel, so that it is the server that has to wait.
        let stalled = Crowd::join(&server, count, Some(2048));
        let healthy = Crowd::join(&server, HEALTHY, None);
        let files = server.files() - count;
        Self {
            server,
            stalled,
            healthy,
            files,
        }
    }

    /// Waits until the server has closed every stalled socket, which goes on not reading.
    fn are_closed(&self) {
        let end = Instant::now() + PATIENCE;
        // The publisher's own connection may still be open.
        while self.server.files() > self.files + 1 {
            assert!(Instant::now() < end, "{} files", self.server.files());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Stops the server and gives its last line.
    fn stop(mut self) -> String {
        assert_eq!(self.server.terminate().code(), Some(0));
        self.server.says("stopped: ")
    }
}

#[test]
fn a_firehose_closes_a_thousand_stalled_readers_and_no_other() {
    const STALLED: usize = 1000;
    const LIMIT: u64 = 64 << 10;
    on_every_fleet(|fleet| {
        let limit = LIMIT.to_string();
        let mut line = Scene::start(fleet, STALLED, &[("SLAPBACK_BACKLOG_BYTES", &limit)]);
        let mut publisher = Publisher::new(&line.server, 1000);
        // 400 KB for each: far more than kernel and backlog take together.
        publish_bursts(&mut publisher, 400, &mut line.healthy);
        let most = line.server.memory("VmHWM:");
        // A backlog's buffer may be twice what is in it.
        let bound = RESIDENT_MAX + 2 * LIMIT * STALLED as u64;
        assert!(most <= bound, "{fleet}: {most} bytes at most");
        // Whoever reads now finds events without a gap, then the Close frame or, if it was not
        // taken within its two seconds, a reset.
        line.stalled
            .watch(PATIENCE, |crowd| crowd.ended_count == STALLED);
        let mut ends = line.stalled.ends();
        let expected = [Some(End::Close(4100)), Some(End::Reset)];
        assert!(ends.all(|end| expected.contains(&end)), "{fleet}");
        assert!(line.stalled.seen().all(|seen| seen < 400));
        drop(ends);
        publish(&mut publisher, 10, &mut line.healthy);
        let stopped = line.stop();
        assert_eq!(
            counted(&stopped, "backlog_bytes"),
            STALLED as u64,
            "{stopped}"
        );
        assert_eq!(counted(&stopped, "session_panicked"), 0, "{stopped}");
    });
}

#[test]
fn readers_that_take_nothing_are_reset_after_their_seconds() {
    const STALLED: usize = 200;
    on_every_fleet(|fleet| {
        let mut line = Scene::start(fleet, STALLED, &[("SLAPBACK_BACKLOG_SECONDS", "1")]);
        let mut publisher = Publisher::new(&line.server, 1000);
        let begun = Instant::now();
        publish_bursts(&mut publisher, 200, &mut line.healthy);
        line.are_closed();
        // One second without progress, and two for a Close frame that is not taken.
        let took = begun.elapsed().as_millis();
        assert!((2_800..8_000).contains(&took), "{fleet}: after {took} ms");
        publish(&mut publisher, 10, &mut line.healthy);
        line.stalled
            .watch(PATIENCE, |crowd| crowd.ended_count == STALLED);
        assert!(line.stalled.ends().all(|end| end == Some(End::Reset)));
        let stopped = line.stop();
        assert_eq!(
            counted(&stopped, "backlog_seconds"),
            STALLED as u64,
            "{stopped}"
        );
        assert_eq!(counted(&stopped, "reset"), STALLED as u64, "{stopped}");
    });
}

#[test]
fn all_backlogs_of_a_shard_together_are_bounded() {
    const STALLED: usize = 200;
    const TOTAL: u64 = MIB;
    on_every_fleet(|fleet| {
        let total = TOTAL.to_string();
        let bounds = [
            ("SLAPBACK_BACKLOG_TOTAL", total.as_str()),
            ("SLAPBACK_BACKLOG_BYTES", "100000000"),
            ("SLAPBACK_BACKLOG_SECONDS", "60"),
        ];
        let mut line = Scene::start(fleet, STALLED, &bounds);
        let mut publisher = Publisher::new(&line.server, 1000);
        // 80 MB in all, of which the kernel takes a part.
        publish_bursts(&mut publisher, 400, &mut line.healthy);
        let most = line.server.memory("VmHWM:");
        // A shard's backlogs, buffers of twice their size, and what the allocator keeps of those.
        let bound = 12 * MIB + 10 * TOTAL * u64::from(fleet.shards);
        assert!(most <= bound, "{fleet}: {most} bytes at most");
        publish(&mut publisher, 10, &mut line.healthy);
        let stopped = line.stop();
        let closed = counted(&stopped, "backlog_total");
        assert!((100..=STALLED as u64).contains(&closed), "{stopped}");
    });
}
