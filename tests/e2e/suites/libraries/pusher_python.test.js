// Pusher's server library for Python: everything that it asks of the HTTP API.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import { PythonLibrary } from '../../harness/python_library.js';
import { World } from '../../harness/world.js';

const LIMIT = { timeout: 60_000 };
let world;
let python;

before(async () => {
  world = await World.open();
  python = new PythonLibrary(world.front, world.masterKey);
});
after(async () => {
  await python?.stop();
  await world?.close();
});

test('trigger() on one channel, on many, and to all but one socket', LIMIT, async () => {
  const [ann, bob] = [await world.connect('ann'), await world.connect('bob')];
  for (const page of [ann, bob]) {
    for (const name of ['news', 'private-news']) await page.follow(name, 'ev');
  }
  const data = { text: 'é \u{1f980} "quoted" \\ / <b>', list: [1, 2.5, null, true], none: {} };
  assert.deepEqual(await python.call('trigger', ['news', 'ev', data]), {});
  assert.deepEqual(await python.call('trigger', [['news', 'private-news'], 'ev', 'text']), {});
  const socket_id = await ann.socketId();
  assert.deepEqual(await python.call('trigger', ['news', 'ev', 3], { socket_id }), {});
  await world.fence();
  const both = [
    ['news ev', data],
    ['news ev', 'text'],
    ['private-news ev', 'text'],
  ];
  assert.deepEqual(await ann.take(), both);
  assert.deepEqual(await bob.take(), [...both, ['news ev', 3]]);
});

test('trigger() on an encrypted channel is read by its users', LIMIT, async () => {
  const page = await world.connect('ann');
  await page.follow('private-encrypted-safe', 'ev');
  await python.call('trigger', ['private-encrypted-safe', 'ev', { pin: 1234 }]);
  await world.fence();
  assert.deepEqual(await page.take(), [['private-encrypted-safe ev', { pin: 1234 }]]);
});

test('trigger_batch() is taken whole and in order', LIMIT, async () => {
  const page = await world.connect('ann');
  const names = ['batch-a', 'private-batch-b', 'private-encrypted-batch'];
  for (const name of names) await page.follow(name, 'ev');
  const batch = [...names, 'batch-a'].map((channel, n) => ({ channel, name: 'ev', data: { n } }));
  assert.deepEqual(await python.call('trigger_batch', [batch]), { batch: {} });
  await world.fence();
  assert.deepEqual(
    await page.take(),
    [...names, 'batch-a'].map((channel, n) => [`${channel} ev`, { n }]),
  );
});

test('channels_info() lists occupied channels, by prefix and with their users', LIMIT, async () => {
  const pages = [await world.connect('ann'), await world.connect('bob')];
  for (const page of pages) for (const name of ['list', 'presence-list']) await page.follow(name);
  assert.deepEqual(await python.call('channels_info', ['list']), { channels: { list: {} } });
  assert.deepEqual(await python.call('channels_info', ['presence-list', ['user_count']]), {
    channels: { 'presence-list': { user_count: 2 } },
  });
  assert.deepEqual(await python.call('channels_info', ['nobody']), { channels: {} });
});

test('channel_info() and users_info() describe one channel', LIMIT, async () => {
  const pages = [];
  for (const user of ['ann', 'ann', 'bob']) pages.push(await world.connect(user));
  for (const page of pages) await page.follow('presence-one');
  assert.deepEqual(await python.call('channel_info', ['presence-one', ['user_count']]), {
    occupied: true,
    user_count: 2,
  });
  assert.deepEqual(await python.call('channel_info', ['nobody']), { occupied: false });
  const { users } = await python.call('users_info', ['presence-one']);
  assert.deepEqual(users.map(({ id }) => id).sort(), ['ann', 'bob']);
});

test('what is refused is raised with the words of the answer', LIMIT, async () => {
  await assert.rejects(python.call('users_info', ['list']), { name: 'PusherBadRequest' });
  // Version 3.3.4 asks for `/users/...` and names no app, which no server can know of.
  await assert.rejects(python.call('terminate_user_connections', ['ann']), {
    name: 'PusherBadStatus',
    message: '404: Not found.',
  });
});
