//! The channels' machine by plain calls, with a Redis of its own that confirms when it is told to.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

const APP: AppIndex = AppIndex(0);
/// Of an app with two prefixes, one of which may be taken for the other app's.
const PREFIXES: [(&str, AppIndex); 3] =
    [("shop-", APP), ("shop_", APP), ("shop-two-", AppIndex(1))];
const NAME_BYTES_MAX: usize = 40;

fn shard(number: u16) -> ShardIndex {
    ShardIndex(number)
}

/// The machine, its clock, and a Redis.
struct World {
    interest: Interest,
    prefixes: Prefixes,
    now: Instant,
    effects: Vec<Effect>,
    redis: Redis,
}

#[derive(Default)]
struct Redis {
    /// What it was told and has not done, one name after the other.
    told: VecDeque<(&'static str, String)>,
    subscribed: BTreeSet<String>,
    commands: Vec<(&'static str, usize)>,
}

impl World {
    fn new() -> Self {
        let sources = PREFIXES.map(|(prefix, app)| (prefix.to_owned(), app));
        Self {
            interest: Interest::new(NAME_BYTES_MAX),
            prefixes: Prefixes::new(sources.into_iter(), vec!["shop-reverb".to_owned()]),
            now: Instant::now(),
            effects: Vec::new(),
            redis: Redis::default(),
        }
    }

    /// One whose connection is there.
    fn connected() -> Self {
        let mut world = Self::new();
        world.up();
        assert!(world.interest.has_returned());
        world
    }

    fn up(&mut self) {
        self.redis = Redis::default();
        self.interest.handle_up();
        self.say();
    }

    fn down(&mut self) -> Vec<String> {
        self.redis = Redis::default();
        self.interest.handle_down(&mut self.effects);
        self.told()
    }

    fn want(&mut self, by: u16, (app, channel): (AppIndex, &str)) -> Vec<String> {
        let channel = (app, channel.into());
        let (interest, effects) = (&mut self.interest, &mut self.effects);
        interest.handle_wanted(self.now, &self.prefixes, (shard(by), 0), channel, effects);
        self.say();
        self.told()
    }

    fn unwant(&mut self, by: u16, (app, channel): (AppIndex, &str)) {
        let channel = (app, channel.into());
        let (interest, effects) = (&mut self.interest, &mut self.effects);
        interest.handle_unwanted(self.now, shard(by), &channel, effects);
        self.say();
    }

    fn pass(&mut self, time: Duration) -> Vec<String> {
        self.now += time;
        self.interest.handle_tick(self.now, &mut self.effects);
        self.say();
        self.told()
    }

    /// Redis does so many of the things it was told.
    fn confirm(&mut self, most: usize) -> Vec<String> {
        for _ in 0..most {
            let Some((command, name)) = self.redis.told.pop_front() else {
                break;
            };
            if command == "UNSUBSCRIBE" {
                assert!(self.redis.subscribed.remove(&name), "{name} twice");
                continue;
            }
            assert!(self.redis.subscribed.insert(name.clone()), "{name} twice");
            let (interest, effects) = (&mut self.interest, &mut self.effects);
            interest.handle_confirmed(self.now, &self.prefixes, name.as_bytes(), effects);
            self.say();
        }
        self.told()
    }

    fn say(&mut self) {
        while let Some((command, names)) = self.interest.next_command(&self.prefixes) {
            assert!(!names.is_empty());
            self.redis.commands.push((command, names.len()));
            let names = names.into_iter().map(|name| (command, name));
            self.redis.told.extend(names);
        }
    }

    /// What came of it, in order.
    fn told(&mut self) -> Vec<String> {
        let told = self.effects.drain(..).map(|effect| match effect {
            Effect::Heard((shard, _), (_, channel)) => format!("{} hears {channel}", shard.0),
            Effect::Dropped((_, channel)) => format!("{channel} is dropped"),
        });
        told.collect()
    }

    fn subscribed(&self) -> Vec<&str> {
        self.redis.subscribed.iter().map(String::as_str).collect()
    }
}

const C: (AppIndex, &str) = (APP, "c");

#[test]
fn a_shard_is_told_when_every_name_of_its_channel_is_confirmed() {
    let mut world = World::connected();
    assert_eq!(world.want(0, C), [""; 0]);
    assert_eq!(world.confirm(1), [""; 0]);
    assert_eq!(world.want(1, C), [""; 0]);
    assert_eq!(world.confirm(1), ["0 hears c", "1 hears c"]);
    assert_eq!(world.subscribed(), ["shop-c", "shop_c"]);
    assert_eq!(world.want(2, C), ["2 hears c"]);
    assert_eq!(world.redis.commands, [("SUBSCRIBE", 2)]);
    assert!(world.pass(10 * LINGER).is_empty());
}

#[test]
fn a_shard_waits_two_seconds_and_no_longer() {
    let mut world = World::connected();
    assert!(world.want(0, C).is_empty());
    assert!(world.pass(WAIT / 2).is_empty());
    assert!(world.want(1, C).is_empty());
    assert!(world.pass(WAIT / 4).is_empty());
    assert_eq!(world.interest.deadline(), Some(world.now + WAIT / 4));
    assert_eq!(world.pass(WAIT / 4), ["0 hears c"]);
    // Who came later has the rest of its own time.
    assert_eq!(world.confirm(2), ["1 hears c"]);
    assert!(world.pass(WAIT).is_empty());
}

#[test]
fn a_channel_that_nobody_wants_lingers_for_a_minute() {
    let mut world = World::connected();
    for by in [0, 1] {
        world.want(by, C);
    }
    world.confirm(2);
    world.unwant(0, C);
    assert!(world.pass(10 * LINGER).is_empty());
    world.unwant(1, C);
    assert!(world.pass(LINGER * 9 / 10).is_empty());
    // It is wanted again in time: nobody waits, and it does not go when it would have.
    assert_eq!(world.want(0, C), ["0 hears c"]);
    assert!(world.pass(LINGER).is_empty());
    world.unwant(0, C);
    assert_eq!(world.interest.deadline(), Some(world.now + LINGER));
    assert_eq!(world.pass(LINGER), ["c is dropped"]);
    world.confirm(2);
    assert_eq!(world.subscribed(), [""; 0]);
    assert_eq!(world.redis.commands, [("SUBSCRIBE", 2), ("UNSUBSCRIBE", 2)]);
    assert!(world.interest.channels.is_empty());
}

#[test]
fn of_very_many_that_linger_the_oldest_go() {
    let mut world = World::connected();
    let name = |number: usize| format!("c{number:05}");
    for number in 0..=LINGERING_MAX {
        world.want(0, (APP, &name(number)));
        world.confirm(2);
        world.unwant(0, (APP, &name(number)));
    }
    let told = world.told();
    assert_eq!(told.last().unwrap(), "c00000 is dropped");
    assert_eq!(
        told.iter().filter(|told| told.contains("dropped")).count(),
        1
    );
    assert_eq!(world.interest.channels.len(), LINGERING_MAX);
}

#[test]
fn nobody_waits_for_a_redis_that_is_away_and_all_is_asked_again_when_it_is_back() {
    let mut world = World::new();
    // Nothing is known of it yet.
    assert!(world.want(0, C).is_empty());
    assert_eq!(world.down(), ["0 hears c"]);
    assert_eq!(world.want(1, (APP, "d")), ["1 hears d"]);
    world.want(1, (APP, "e"));
    world.unwant(1, (APP, "e"));
    world.up();
    assert!(!world.interest.has_returned());
    assert!(world.want(2, C).is_empty());
    assert_eq!(world.confirm(4), ["2 hears c"]);
    assert!(world.interest.has_returned());
    assert!(!world.interest.has_returned());
    assert_eq!(world.subscribed(), ["shop-c", "shop-d", "shop_c", "shop_d"]);
    // What lingers is not asked for again.
    world.unwant(1, (APP, "d"));
    assert_eq!(world.down(), ["d is dropped"]);
    assert_eq!(world.down(), [""; 0]);
    world.up();
    world.confirm(4);
    assert_eq!(world.subscribed(), ["shop-c", "shop_c"]);
}

#[test]
fn who_is_gone_before_redis_answers_leaves_nothing_behind() {
    let mut world = World::connected();
    world.want(0, C);
    // While one command is under way the next channels gather for one.
    world.want(0, (APP, "d"));
    world.want(0, (APP, "e"));
    world.unwant(0, C);
    world.unwant(0, (APP, "d"));
    assert_eq!(world.confirm(4), ["0 hears e"]);
    assert_eq!(world.redis.commands, [("SUBSCRIBE", 2), ("SUBSCRIBE", 2)]);
    assert_eq!(world.pass(LINGER), ["c is dropped"]);
    world.confirm(2);
    assert_eq!(world.subscribed(), ["shop-e", "shop_e"]);
}

#[test]
fn a_name_that_is_another_apps_or_no_channels_is_not_asked_for() {
    let mut world = World::connected();
    // The longer prefix of the other app fits one of its names.
    world.want(0, (APP, "two-c"));
    assert_eq!(world.confirm(9), ["0 hears two-c"]);
    world.want(0, (APP, "reverb"));
    assert_eq!(world.confirm(9), ["0 hears reverb"]);
    assert_eq!(world.subscribed(), ["shop_reverb", "shop_two-c"]);
    // Nothing is published for them.
    assert_eq!(world.want(0, (AppIndex(2), "c")), ["0 hears c"]);
    let long = "x".repeat(NAME_BYTES_MAX);
    assert_eq!(world.want(0, (APP, &long)), [format!("0 hears {long}")]);
    world.unwant(0, (APP, &long));
    assert_eq!(world.interest.channels.len(), 2);
}

#[test]
fn commands_are_bounded_and_one_is_under_way_at_a_time() {
    let mut world = World::new();
    let channels = 2 * NAMES_MAX;
    for number in 0..channels {
        world.want(0, (APP, &number.to_string()));
    }
    world.up();
    assert_eq!(world.redis.commands, [("SUBSCRIBE", NAMES_MAX)]);
    world.confirm(NAMES_MAX - 1);
    assert_eq!(world.redis.commands.len(), 1);
    world.confirm(usize::MAX);
    assert_eq!(world.redis.commands, [("SUBSCRIBE", NAMES_MAX); 4]);
    assert_eq!(world.redis.subscribed.len(), 2 * channels);
    for number in 0..channels {
        world.unwant(0, (APP, &number.to_string()));
    }
    world.pass(LINGER);
    assert_eq!(world.redis.commands[4..], [("UNSUBSCRIBE", NAMES_MAX); 4]);
}

#[derive(Debug, Clone)]
enum Step {
    Toggle(u16, usize),
    Confirm(usize),
    Pass(u64),
    Up,
    Down,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..3_u16, 0..CHANNELS.len()).prop_map(|(by, channel)| Step::Toggle(by, channel)),
        6 => (1..5_usize).prop_map(Step::Confirm),
        3 => prop_oneof![0..2500_u64, 0..70_000_u64].prop_map(Step::Pass),
        1 => Just(Step::Up),
        1 => Just(Step::Down),
    ]
}

const CHANNELS: [(AppIndex, &str); 4] =
    [(APP, "a"), (APP, "b"), (AppIndex(1), "c"), (APP, "two-a")];

impl World {
    fn take(&mut self, step: &Step, is_up: &mut Option<bool>, wanted: &Wanted) -> Vec<String> {
        match *step {
            Step::Toggle(by, at) if wanted.contains_key(&(by, at)) => self.want(by, CHANNELS[at]),
            Step::Toggle(by, at) => {
                self.unwant(by, CHANNELS[at]);
                Vec::new()
            }
            Step::Confirm(most) => self.confirm(most),
            Step::Pass(ms) => self.pass(Duration::from_millis(ms)),
            Step::Up => {
                if is_up.replace(true) != Some(true) {
                    self.up();
                }
                Vec::new()
            }
            Step::Down => {
                *is_up = Some(false);
                self.down()
            }
        }
    }
}

/// What each shard wants, and since when it waits.
type Wanted = BTreeMap<(u16, usize), Option<Instant>>;

proptest! {
    #[test]
    fn every_interest_is_answered_once_in_time_and_redis_hears_of_what_is_wanted(
        steps in proptest::collection::vec(step(), 0..200),
    ) {
        let mut world = World::new();
        let mut wanted = Wanted::new();
        let mut is_up = None;
        for step in steps {
            if let Step::Toggle(by, at) = step && wanted.remove(&(by, at)).is_none() {
                wanted.insert((by, at), Some(world.now));
            }
            for told in world.take(&step, &mut is_up, &wanted) {
                let Some((by, channel)) = told.split_once(" hears ") else {
                    continue;
                };
                let at = CHANNELS.iter().position(|known| known.1 == channel).unwrap();
                let since = wanted.get_mut(&(by.parse().unwrap(), at)).and_then(Option::take);
                prop_assert!(since.is_some(), "{told}, and did not wait");
                // Before its time is over, only of what Redis hears.
                if is_up != Some(false) && world.now < since.unwrap() + WAIT {
                    for name in world.prefixes.names(CHANNELS[at].0, channel) {
                        prop_assert!(world.redis.subscribed.contains(&name), "{told} on {name}");
                    }
                }
            }
            let may_wait = |&since: &Instant| is_up != Some(false) && world.now < since + WAIT;
            prop_assert!(wanted.values().flatten().all(may_wait));
        }
        // Left alone, Redis hears of what is wanted and of nothing else.
        if is_up != Some(true) {
            world.up();
        }
        world.confirm(usize::MAX);
        world.pass(LINGER);
        world.confirm(usize::MAX);
        let names = wanted.keys().map(|&(_, at)| CHANNELS[at]);
        let names = names.flat_map(|(app, channel)| world.prefixes.names(app, channel));
        let names: BTreeSet<String> = names.collect();
        prop_assert_eq!(&world.redis.subscribed, &names);
        let Interest { unasked, waiting, lingering, dropped, .. } = &world.interest;
        prop_assert!(unasked.is_empty() && waiting.is_empty());
        prop_assert!(lingering.is_empty() && dropped.is_empty());
    }
}
