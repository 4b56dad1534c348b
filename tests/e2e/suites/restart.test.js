// The server goes away and comes back on its port: pusher-js finds it by itself.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import { subscribed, World } from '../harness/world.js';

// A client whose attempt falls between two servers sits out 15 s before the next one.
const LIMIT = { timeout: 90_000 };
const BACK_MS = 60_000;
let world;

before(async () => (world = await World.open()));
after(() => world?.close());

async function settled() {
  const clients = [await world.connect('ann'), await world.connect('bob')];
  for (const { pusher, journal } of clients) {
    pusher.connection.bind('connected', () => journal.note('connected')(null));
    for (const name of ['news', 'private-news', 'presence-news']) {
      const channel = pusher.subscribe(name);
      await subscribed(channel);
      channel.bind('ev', journal.note(name));
    }
  }
  return clients;
}

/** Waits until a client is back with all its channels, then proves it with events. */
async function isWhole(clients, oldIds) {
  for (const [index, { pusher, journal }] of clients.entries()) {
    await journal.find((label) => label === 'connected', BACK_MS);
    for (const channel of pusher.allChannels()) await subscribed(channel);
    assert.notEqual(pusher.connection.socket_id, oldIds[index]);
  }
  for (const { journal } of clients) journal.take();
  const names = ['news', 'private-news', 'presence-news'];
  for (const name of names) await world.publisher.trigger(name, 'ev', { on: name });
  await world.fence();
  const expected = names.map((name) => [name, { on: name }]);
  for (const { pusher, journal } of clients) {
    assert.deepEqual(journal.take(), expected);
    const { members } = pusher.channel('presence-news');
    assert.deepEqual(Object.keys(members.members).sort(), ['ann', 'bob']);
  }
}

test('after an orderly restart clients return and resubscribe', LIMIT, async () => {
  const clients = await settled();
  const ids = clients.map(({ pusher }) => pusher.connection.socket_id);
  await world.server.stop();
  await world.restart();
  await isWhole(clients, ids);
  for (const { pusher } of clients) world.leave(pusher);
});

test('after a crash clients return and resubscribe', LIMIT, async () => {
  const clients = await settled();
  const ids = clients.map(({ pusher }) => pusher.connection.socket_id);
  await world.server.kill();
  await world.restart();
  await isWhole(clients, ids);
});
