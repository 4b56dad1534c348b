// The network between the page and the server breaks: pusher-js comes back and misses nothing
// that is said from then on.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import { Cable } from '../../harness/cable.js';
import { World } from '../../harness/world.js';

const LIMIT = { timeout: 120_000 };
const NAMES = ['news', 'private-news', 'presence-news', 'private-encrypted-news'];
const ann = { id: 'ann', info: { name: 'ann' } };
let world;
let cable;
let watcher;

before(async () => {
  world = await World.open();
  cable = await Cable.lay(world.front.port);
  watcher = await world.connect('watcher');
  await watcher.follow('presence-news', 'pusher:member_added', 'pusher:member_removed');
});
after(async () => {
  // The server would wait for the silent socket's farewell.
  await cable?.close();
  await world?.close();
});

/** A page that reaches the server over the cable, on all the channels. */
async function connected(options) {
  const address = { wsPort: cable.port, wssPort: cable.port };
  const page = await world.connect('ann', { ...address, ...options });
  await page.run(({ pusher, note }) => {
    pusher.connection.bind('state_change', ({ current }) => note('state')(current));
  });
  for (const name of NAMES) await page.follow(name, 'ev');
  await watcher.until(1);
  assert.deepEqual(await watcher.take(), [['presence-news pusher:member_added', ann]]);
  return page;
}

/** Waits until the page is back on its channels, over a new socket. */
async function isBack(page, oldId) {
  await page.run(async ({ pusher, journal, subscribed }) => {
    await journal.find((label, state) => label === 'state' && state === 'connected');
    for (const channel of pusher.allChannels()) await subscribed(channel);
  });
  assert.notEqual(await page.socketId(), oldId);
}

/** Publishes on each channel and expects each once, in that order, behind `before`. */
async function hearsAll(page, before) {
  for (const name of NAMES) await world.publisher.trigger(name, 'ev', { on: name });
  await world.fence();
  const events = NAMES.map((name) => [`${name} ev`, { on: name }]);
  assert.deepEqual(await page.take(), [...before, ...events]);
}

test('a cut connection is made anew, and its member left and came back', LIMIT, async () => {
  const page = await connected();
  await hearsAll(page, []);
  const id = await page.socketId();
  cable.cut();
  cable.splice();
  await isBack(page, id);
  await hearsAll(page, [
    ['state', 'connecting'],
    ['state', 'connected'],
  ]);
  assert.deepEqual(await watcher.take(), [
    ['presence-news pusher:member_removed', ann],
    ['presence-news pusher:member_added', ann],
  ]);
  await world.leave(page);
  await watcher.until(1);
  assert.deepEqual(await watcher.take(), [['presence-news pusher:member_removed', ann]]);
});

test('a silent network is found out by a ping; the old socket is a second tab', LIMIT, async () => {
  const page = await connected({ activityTimeout: 1_000, pongTimeout: 2_000 });
  const id = await page.socketId();
  cable.silence();
  await world.publisher.trigger('news', 'ev', 'lost on the way');
  await isBack(page, id);
  await hearsAll(page, [
    ['state', 'connecting'],
    ['state', 'connected'],
  ]);
  // The server has not heard of the end of the old socket, so the member never left.
  assert.deepEqual(await watcher.take(), []);
});
