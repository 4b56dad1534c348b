// The server goes away and comes back on its port: pusher-js finds it by itself.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import { World } from '../../harness/world.js';

// A client whose attempt falls between two servers sits out 15 s before the next one.
const LIMIT = { timeout: 120_000 };
const BACK_MS = 60_000;
const NAMES = ['news', 'private-news', 'presence-news'];
let world;

before(async () => (world = await World.open()));
after(() => world?.close());

/** Two pages on three channels, and the ids of their sockets. */
async function settled() {
  const pages = [await world.connect('ann'), await world.connect('bob')];
  for (const page of pages) {
    await page.run(({ pusher, note }) => {
      pusher.connection.bind('connected', () => note('connected')(null));
    });
    for (const name of NAMES) await page.follow(name, 'ev');
  }
  return { pages, ids: await Promise.all(pages.map((page) => page.socketId())) };
}

/** Waits until the pages are back with all their channels, then proves it with events. */
async function areWhole({ pages, ids }) {
  for (const [index, page] of pages.entries()) {
    await page.run(async ({ pusher, journal, subscribed }, waitMs) => {
      await journal.find((label) => label === 'connected', waitMs);
      for (const channel of pusher.allChannels()) await subscribed(channel);
    }, BACK_MS);
    assert.notEqual(await page.socketId(), ids[index]);
    assert.deepEqual(await page.take(), [['connected', null]]);
  }
  for (const name of NAMES) await world.publisher.trigger(name, 'ev', { on: name });
  await world.fence();
  for (const page of pages) {
    assert.deepEqual(
      await page.take(),
      NAMES.map((name) => [`${name} ev`, { on: name }]),
    );
    const members = ({ pusher }) => pusher.channel('presence-news').members.members;
    assert.deepEqual(await page.run(members), { ann: { name: 'ann' }, bob: { name: 'bob' } });
  }
}

test('after an orderly restart clients return and resubscribe', LIMIT, async () => {
  const before = await settled();
  await world.server.stop();
  await world.restart();
  await areWhole(before);
  for (const page of before.pages) await world.leave(page);
});

test('after a crash clients return and resubscribe', LIMIT, async () => {
  const before = await settled();
  await world.server.kill();
  await world.restart();
  await areWhole(before);
});
