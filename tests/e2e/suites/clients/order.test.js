// Order and counts: what was published one after the other arrives so, once, everywhere.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import { World } from '../../harness/world.js';

const LIMIT = { timeout: 60_000 };
const COUNT = 100;
let world;

before(async () => (world = await World.open()));
after(() => world?.close());

/** Pages that follow the event `ev` on all these channels. */
async function followers(count, names) {
  const pages = await Promise.all(Array.from({ length: count }, () => world.connect('ann')));
  for (const page of pages) for (const name of names) await page.follow(name, 'ev');
  return pages;
}

test('a hundred publishes in a row keep their order on one channel', LIMIT, async () => {
  const pages = await followers(4, ['row']);
  // Each publish is a connection of its own, so that they land on different shards.
  for (let n = 0; n < COUNT; n += 1) await world.publisher.trigger('row', 'ev', { n });
  await world.fence();
  const expected = Array.from({ length: COUNT }, (_, n) => ['row ev', { n }]);
  for (const page of pages) assert.deepEqual(await page.take(), expected);
});

test('and across the channels of an app', LIMIT, async () => {
  const names = ['across-a', 'private-across', 'across-b'];
  const pages = await followers(4, names);
  const sent = Array.from({ length: COUNT }, (_, n) => [names[n % names.length], { n }]);
  for (const [name, data] of sent) await world.publisher.trigger(name, 'ev', data);
  await world.fence();
  const expected = sent.map(([name, data]) => [`${name} ev`, data]);
  for (const page of pages) assert.deepEqual(await page.take(), expected);
});

test('publishes at the same time reach everybody in the same order', LIMIT, async () => {
  const pages = await followers(4, ['crowd']);
  const publish = (_, n) => world.publisher.trigger('crowd', 'ev', { n });
  await Promise.all(Array.from({ length: COUNT }, publish));
  await world.fence();
  const [first, ...others] = await Promise.all(pages.map((page) => page.take()));
  const numbers = first.map(([, { n }]) => n).sort((a, b) => a - b);
  assert.deepEqual(numbers, Array.from({ length: COUNT }, (_, n) => n));
  for (const other of others) assert.deepEqual(other, first);
});

test('who subscribed before a publish gets it, a hundred times over', LIMIT, async () => {
  const page = await world.connect('ann');
  for (let n = 0; n < COUNT; n += 1) {
    await page.follow(`fresh-${n}`, 'ev');
    await world.publisher.trigger(`fresh-${n}`, 'ev', n);
  }
  await world.fence();
  const expected = Array.from({ length: COUNT }, (_, n) => [`fresh-${n} ev`, n]);
  assert.deepEqual(await page.take(), expected);
});
