// Laravel's redis broadcaster, run by PHP with Laravel's own code: Laravel, Redis, server, page.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import { Laravel, Redis } from '../../harness/laravel.js';
import { World } from '../../harness/world.js';

const LIMIT = { timeout: 60_000 };
const MESSAGES = Number(process.env.E2E_MESSAGES ?? 20_000);
/** What is published before the page has taken what came before it. */
const PIECE = 5_000;
let redis;
let laravel;
let world;

before(async () => {
  redis = await Redis.start();
  laravel = await Laravel.start(redis);
  const environment = { SLAPBACK_REDIS_INGEST: 'true', REDIS_PORT: String(redis.port) };
  world = await World.open({ environment });
  await world.server.child.line(/redis: ingest works/, 15_000);
});
after(async () => {
  await world?.close();
  await laravel?.stop();
  await redis?.stop();
});

/** A page of this user, who asks Laravel to be let in. */
function connect(user) {
  const headers = { 'X-User': user };
  const channelAuthorization = { endpoint: laravel.authEndpoint, transport: 'ajax', headers };
  return world.connect(user, { channelAuthorization });
}

test('Laravel signs for whom it lets in, and its events arrive', LIMIT, async () => {
  const [ann, bob] = [await connect('ann'), await connect('bob')];
  const event = 'App\\Events\\OrderShipped';
  for (const page of [ann, bob]) await page.follow('private-orders.1', event);
  await laravel.publish({
    channels: ['private-orders.1', 'private-orders.2'],
    event,
    data: { order: { id: 1, note: 'é/"\\' }, socket: null },
  });
  for (const page of [ann, bob]) {
    await page.until(1);
    const data = { order: { id: 1, note: 'é/"\\' } };
    assert.deepEqual(await page.take(), [[`private-orders.1 ${event}`, data]]);
  }
  const mallory = await connect('mallory');
  await assert.rejects(mallory.follow('private-orders.1', event), /private-orders\.1/);
});

test('toOthers() leaves out the page that asked', LIMIT, async () => {
  const [ann, bob] = [await connect('ann'), await connect('bob')];
  for (const page of [ann, bob]) await page.follow('public', 'ev', 'last');
  const socket = await ann.socketId();
  await laravel.publish({ channels: ['public'], event: 'ev', data: { n: 1, socket } });
  await laravel.publish({ channels: ['public'], event: 'last', data: {} });
  await bob.until(2);
  await ann.until(1);
  assert.deepEqual(await bob.take(), [
    ['public ev', { n: 1 }],
    ['public last', []],
  ]);
  assert.deepEqual(await ann.take(), [['public last', []]]);
});

test('the members of a presence channel are those that Laravel says', LIMIT, async () => {
  const ann = await connect('ann');
  const { members } = await ann.follow('presence-room.1', 'ev');
  assert.deepEqual(members, { ann: { name: 'ann' } });
  await laravel.publish({ channels: ['presence-room.1'], event: 'ev', data: { n: 1 } });
  await ann.until(1);
  assert.deepEqual(await ann.take(), [['presence-room.1 ev', { n: 1 }]]);
});

test(`${MESSAGES} messages arrive once and in order`, { timeout: 270_000 }, async () => {
  const page = await connect('ann');
  await page.run(count);
  for (let from = 0; from < MESSAGES; from += PIECE) {
    const times = Math.min(PIECE, MESSAGES - from);
    const data = { from, text: 'x'.repeat(100) };
    await laravel.publish({ channels: ['numbers'], event: 'n', data, times });
    await page.run(counted, from + times);
  }
  assert.deepEqual(await page.run(({ tally }) => tally), { count: MESSAGES, wrong: 0 });
});

/** Counts the events, and those that are not the one behind the last. */
async function count(page) {
  page.tally = { count: 0, wrong: 0 };
  const channel = page.pusher.subscribe('numbers');
  channel.bind('n', ({ from, n }) => {
    if (from + n !== page.tally.count) page.tally.wrong += 1;
    page.tally.count += 1;
  });
  await page.subscribed(channel);
}

/** Returns when so many have come, or none has for long. */
async function counted({ tally }, wanted) {
  const STILL_MS = 10_000;
  let [last, since] = [tally.count, Date.now()];
  while (tally.count < wanted) {
    await new Promise((resolve) => setTimeout(resolve, 5));
    if (tally.count !== last) [last, since] = [tally.count, Date.now()];
    if (Date.now() - since > STILL_MS) throw new Error(`${tally.count} of ${wanted} came`);
  }
}
