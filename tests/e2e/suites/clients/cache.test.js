// Cache channels: who comes later is told the last event, or that there is none.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import { Cable } from '../../harness/cable.js';
import { World } from '../../harness/world.js';

const LIMIT = { timeout: 120_000 };
const KINDS = ['cache-', 'private-cache-', 'presence-cache-'];
const MISS = 'pusher:cache_miss';
let world;

before(async () => (world = await World.open()));
after(() => world?.close());

/** Subscribes and notes, in the order heard: that it is, `ev`, the miss, and a whisper. */
async function follow(page, name) {
  await page.run(async ({ pusher, note, subscribed }, channelName) => {
    const channel = pusher.subscribe(channelName);
    channel.bind('pusher:subscription_succeeded', () => note('subscribed')(null));
    channel.bind('pusher:cache_miss', note('pusher:cache_miss'));
    for (const event of ['ev', 'client-ev']) channel.bind(event, note(event));
    await subscribed(channel);
  }, name);
}

for (const kind of KINDS) {
  test(`${kind}: a miss, then what was said last`, LIMIT, async () => {
    const name = `${kind}rate`;
    const first = await world.connect('ann');
    await follow(first, name);
    await first.until(2);
    await world.publisher.trigger(name, 'ev', { n: 1 });
    await world.publisher.trigger(name, 'ev', { n: 2 });
    await world.fence();
    const [subscribed, miss, ...events] = await first.take();
    assert.deepEqual(subscribed, ['subscribed', null]);
    assert.equal(miss[0], MISS);
    assert.deepEqual(events, [
      ['ev', { n: 1 }],
      ['ev', { n: 2 }],
    ]);

    const second = await world.connect('bob');
    await follow(second, name);
    await second.until(2);
    await world.publisher.trigger(name, 'ev', { n: 3 });
    await world.fence();
    assert.deepEqual(await second.take(), [
      ['subscribed', null],
      ['ev', { n: 2 }],
      ['ev', { n: 3 }],
    ]);
    assert.deepEqual(await first.take(), [['ev', { n: 3 }]]);
  });

  test(`${kind}: what was said is kept while nobody is there`, LIMIT, async () => {
    const name = `${kind}kept`;
    await world.publisher.trigger(name, 'ev', 'before anybody came');
    for (const user of ['ann', 'bob']) {
      const page = await world.connect(user);
      await follow(page, name);
      await page.until(2);
      await world.fence();
      assert.deepEqual(await page.take(), [
        ['subscribed', null],
        ['ev', 'before anybody came'],
      ]);
      await world.leave(page);
    }
  });
}

test('a whisper is heard and never kept', LIMIT, async () => {
  const name = 'private-cache-whisper';
  await world.publisher.trigger(name, 'ev', 'from the server');
  const [ann, bob] = [await world.connect('ann'), await world.connect('bob')];
  for (const page of [ann, bob]) await follow(page, name);
  await ann.run(({ pusher }, channel) => {
    pusher.channel(channel).trigger('client-ev', { n: 1 });
  }, name);
  await bob.until(3);
  const late = await world.connect('cy');
  await follow(late, name);
  await late.until(2);
  await world.fence();
  const kept = [
    ['subscribed', null],
    ['ev', 'from the server'],
  ];
  assert.deepEqual(await ann.take(), kept);
  assert.deepEqual(await bob.take(), [...kept, ['client-ev', { n: 1 }]]);
  assert.deepEqual(await late.take(), kept);
});

test('who was cut off is told what was said last meanwhile', LIMIT, async () => {
  const cable = await Cable.lay(world.front.port);
  const page = await world.connect('ann', { wsPort: cable.port, wssPort: cable.port });
  await follow(page, 'cache-away');
  await page.until(2);
  await page.take();
  await page.run(({ pusher, note }) => {
    pusher.connection.bind('state_change', ({ current }) => note('state')(current));
  });
  cable.cut();
  await page.until(1);
  await world.publisher.trigger('cache-away', 'ev', { n: 1 });
  await world.publisher.trigger('cache-away', 'ev', { n: 2 });
  cable.splice();
  await page.until(4);
  await world.fence();
  assert.deepEqual(await page.take(), [
    ['state', 'connecting'],
    ['state', 'connected'],
    ['subscribed', null],
    ['ev', { n: 2 }],
  ]);
  await world.leave(page);
  await cable.close();
});

test('laravel-echo hears the kept event on its three kinds of channel', LIMIT, async () => {
  const event = 'App\\Events\\RateChanged';
  await world.publisher.trigger(KINDS.map((kind) => `${kind}echo`), event, { rate: 7 });
  const page = await world.echo('ann');
  await page.run(async ({ echo, note, subscribed }) => {
    for (const open of ['channel', 'private', 'join']) {
      const channel = echo[open]('cache-echo');
      channel.listen('RateChanged', note(open)).on('pusher:cache_miss', note('miss'));
      await subscribed(channel.subscription);
    }
  });
  await page.until(3);
  await world.fence();
  assert.deepEqual(await page.take(), [
    ['channel', { rate: 7 }],
    ['private', { rate: 7 }],
    ['join', { rate: 7 }],
  ]);
});
