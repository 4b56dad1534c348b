// laravel-echo as an application uses it.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import { subscribed, World } from '../harness/world.js';

const LIMIT = { timeout: 30_000 };
let world;

before(async () => (world = await World.open()));
after(() => world?.close());

test('listen() hears an event class by its short name, and a literal one', LIMIT, async () => {
  const { echo, journal } = await world.echo();
  const channel = echo.channel('orders');
  channel.listen('OrderShipped', journal.note('class'));
  channel.listen('.order.shipped', journal.note('literal'));
  await subscribed(channel.subscription);
  await world.publisher.trigger('orders', 'App\\Events\\OrderShipped', { id: 1 });
  await world.publisher.trigger('orders', 'order.shipped', { id: 2 });
  await world.publisher.trigger('orders', 'App\\Events\\OrderPaid', { id: 3 });
  await world.fence();
  assert.deepEqual(journal.take(), [
    ['class', { id: 1 }],
    ['literal', { id: 2 }],
  ]);
});

test('toOthers(): the socket id that Echo reports is left out', LIMIT, async () => {
  const [mine, theirs] = [await world.echo('ann'), await world.echo('bob')];
  for (const { echo, journal } of [mine, theirs]) {
    const channel = echo.private('doc.1');
    channel.listen('Saved', journal.note('saved'));
    await subscribed(channel.subscription);
  }
  const socket_id = mine.echo.socketId();
  assert.match(socket_id, /^[1-9]\d{0,9}\.[1-9]\d{0,9}$/);
  await world.publisher.trigger('private-doc.1', 'App\\Events\\Saved', { v: 1 }, { socket_id });
  await world.fence();
  assert.deepEqual(mine.journal.take(), []);
  assert.deepEqual(theirs.journal.take(), [['saved', { v: 1 }]]);
});

test('whisper() and listenForWhisper()', LIMIT, async () => {
  const [ann, bob] = [await world.echo('ann'), await world.echo('bob')];
  for (const { echo, journal } of [ann, bob]) {
    const channel = echo.private('chat');
    channel.listenForWhisper('typing', journal.note('typing'));
    await subscribed(channel.subscription);
  }
  ann.echo.private('chat').whisper('typing', { name: 'ann' });
  await bob.journal.until(1);
  await world.fence();
  assert.deepEqual(bob.journal.take(), [['typing', { name: 'ann' }]]);
  assert.deepEqual(ann.journal.take(), []);
});

test('here(), joining() and leaving() in a room', LIMIT, async () => {
  const enter = async ({ echo, journal }) => {
    const room = echo.join('room');
    room.here(journal.note('here')).joining(journal.note('joining')).leaving(journal.note('leaving'));
    await subscribed(room.subscription);
  };
  const [ann, bob] = [await world.echo('ann'), await world.echo('bob')];
  await enter(ann);
  await enter(bob);
  bob.echo.leave('room');
  await ann.journal.until(3);
  await world.fence();
  assert.deepEqual(ann.journal.take(), [
    ['here', [{ name: 'ann' }]],
    ['joining', { name: 'bob' }],
    ['leaving', { name: 'bob' }],
  ]);
  const [[label, here], ...rest] = bob.journal.take();
  assert.equal(label, 'here');
  assert.deepEqual(here.map(({ name }) => name).sort(), ['ann', 'bob']);
  assert.deepEqual(rest, []);
});
