// Pusher's server library for Node: everything that it asks of the HTTP API.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import { World } from '../../harness/world.js';

const LIMIT = { timeout: 60_000 };
let world;

before(async () => (world = await World.open()));
after(() => world?.close());

async function get(path, params) {
  const answer = await world.publisher.get({ path, params });
  return answer.json();
}

test('trigger() with info says how many are there', LIMIT, async () => {
  const pages = [];
  for (const user of ['ann', 'ann', 'bob']) pages.push(await world.connect(user));
  for (const page of pages) await page.follow('presence-info', 'ev');
  await pages[0].follow('info', 'ev');
  const info = { info: 'user_count,subscription_count' };
  const answer = await world.publisher.trigger(['info', 'presence-info'], 'ev', 1, info);
  assert.deepEqual(await answer.json(), {
    channels: { info: { subscription_count: 1 }, 'presence-info': { user_count: 2 } },
  });
  await world.fence();
  assert.deepEqual(await pages[0].take(), [
    ['info ev', 1],
    ['presence-info ev', 1],
  ]);
});

test('triggerBatch() is taken whole and in order', LIMIT, async () => {
  const [page, sender] = [await world.connect('ann'), await world.connect('bob')];
  for (const one of [page, sender]) {
    for (const name of ['batch-a', 'private-batch-b']) await one.follow(name, 'one', 'two');
  }
  const answer = await world.publisher.triggerBatch([
    { channel: 'batch-a', name: 'one', data: { n: 1 } },
    { channel: 'private-batch-b', name: 'two', data: { n: 2 }, info: 'subscription_count' },
    { channel: 'batch-a', name: 'two', data: { n: 3 }, socket_id: await sender.socketId() },
  ]);
  assert.deepEqual(await answer.json(), { batch: [{}, { subscription_count: 2 }, {}] });
  await world.fence();
  const firstTwo = [
    ['batch-a one', { n: 1 }],
    ['private-batch-b two', { n: 2 }],
  ];
  assert.deepEqual(await page.take(), [...firstTwo, ['batch-a two', { n: 3 }]]);
  assert.deepEqual(await sender.take(), firstTwo);
});

test('triggerBatch() encrypts for encrypted channels', LIMIT, async () => {
  const page = await world.connect('ann');
  await page.follow('private-encrypted-batch', 'ev');
  await world.publisher.triggerBatch([
    { channel: 'private-encrypted-batch', name: 'ev', data: { pin: 1234 } },
  ]);
  await world.fence();
  assert.deepEqual(await page.take(), [['private-encrypted-batch ev', { pin: 1234 }]]);
});

test('get() lists occupied channels, by prefix and with their users', LIMIT, async () => {
  const pages = [await world.connect('ann'), await world.connect('bob')];
  await pages[0].follow('list-public');
  for (const page of pages) await page.follow('presence-list');
  assert.deepEqual(await get('/channels', { filter_by_prefix: 'list-' }), {
    channels: { 'list-public': {} },
  });
  const presence = { filter_by_prefix: 'presence-list', info: 'user_count' };
  assert.deepEqual(await get('/channels', presence), {
    channels: { 'presence-list': { user_count: 2 } },
  });
  assert.deepEqual(await get('/channels', { filter_by_prefix: 'nobody-' }), { channels: {} });
});

test('get() describes a channel and names the users of one', LIMIT, async () => {
  const pages = [];
  for (const user of ['bob', 'ann', 'ann']) pages.push(await world.connect(user));
  for (const page of pages) await page.follow('presence-one');
  await pages[0].follow('one');
  assert.deepEqual(await get('/channels/one', { info: 'subscription_count' }), {
    occupied: true,
    subscription_count: 1,
  });
  assert.deepEqual(await get('/channels/presence-one', { info: 'user_count' }), {
    occupied: true,
    user_count: 2,
  });
  assert.deepEqual(await get('/channels/nobody'), { occupied: false });
  const { users } = await get('/channels/presence-one/users');
  assert.deepEqual(users.map(({ id }) => id).sort(), ['ann', 'bob']);
  await assert.rejects(get('/channels/presence-nobody/users'), { status: 404, body: '{}' });
});

test('get() gives what a cache channel keeps', LIMIT, async () => {
  const page = await world.connect('ann');
  await page.follow('cache-kept');
  await world.publisher.trigger('cache-kept', 'ev', { n: 1 });
  assert.deepEqual(await get('/channels/cache-kept', { info: 'cache' }), {
    occupied: true,
    cache: { event: 'ev', data: '{"n":1}', channel: 'cache-kept' },
  });
});

test('a wrong secret is refused in words', LIMIT, async () => {
  await assert.rejects(world.library('another').trigger('news', 'ev', 1), {
    status: 401,
    body: 'Authentication signature invalid.',
  });
});
