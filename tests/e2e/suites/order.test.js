// Order and counts: what was published one after the other arrives so, once, everywhere.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import { subscribed, World } from '../harness/world.js';

const LIMIT = { timeout: 60_000 };
const COUNT = 100;
let world;

before(async () => (world = await World.open()));
after(() => world?.close());

async function followers(count, names) {
  const clients = await Promise.all(Array.from({ length: count }, () => world.connect('ann')));
  for (const { pusher, journal } of clients) {
    for (const name of names) {
      const channel = pusher.subscribe(name);
      channel.bind('ev', journal.note(name));
      await subscribed(channel);
    }
  }
  return clients;
}

test('a hundred publishes in a row keep their order on one channel', LIMIT, async () => {
  const clients = await followers(4, ['row']);
  // Each publish is a connection of its own, so that they land on different shards.
  for (let n = 0; n < COUNT; n += 1) await world.publisher.trigger('row', 'ev', { n });
  await world.fence();
  const expected = Array.from({ length: COUNT }, (_, n) => ['row', { n }]);
  for (const { journal } of clients) assert.deepEqual(journal.take(), expected);
});

test('and across the channels of an app', LIMIT, async () => {
  const names = ['across-a', 'private-across', 'across-b'];
  const clients = await followers(4, names);
  const expected = Array.from({ length: COUNT }, (_, n) => [names[n % names.length], { n }]);
  for (const [name, data] of expected) await world.publisher.trigger(name, 'ev', data);
  await world.fence();
  for (const { journal } of clients) assert.deepEqual(journal.take(), expected);
});

test('publishes at the same time reach everybody in the same order', LIMIT, async () => {
  const clients = await followers(4, ['crowd']);
  const publish = (_, n) => world.publisher.trigger('crowd', 'ev', { n });
  await Promise.all(Array.from({ length: COUNT }, publish));
  await world.fence();
  const [first, ...others] = clients.map(({ journal }) => journal.take());
  const numbers = first.map(([, { n }]) => n).sort((a, b) => a - b);
  assert.deepEqual(numbers, Array.from({ length: COUNT }, (_, n) => n));
  for (const other of others) assert.deepEqual(other, first);
});

test('who subscribed before a publish gets it, a hundred times over', LIMIT, async () => {
  const { pusher, journal } = await world.connect('ann');
  for (let n = 0; n < COUNT; n += 1) {
    const channel = pusher.subscribe(`fresh-${n}`);
    channel.bind('ev', journal.note(`fresh-${n}`));
    await subscribed(channel);
    await world.publisher.trigger(`fresh-${n}`, 'ev', n);
  }
  await world.fence();
  const expected = Array.from({ length: COUNT }, (_, n) => [`fresh-${n}`, n]);
  assert.deepEqual(journal.take(), expected);
});
