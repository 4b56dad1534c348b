// laravel-echo as an application uses it.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import { World } from '../../harness/world.js';

const LIMIT = { timeout: 60_000 };
let world;

before(async () => (world = await World.open()));
after(() => world?.close());

test('listen() hears an event class by its short name, and a literal one', LIMIT, async () => {
  const page = await world.echo();
  await page.run(async ({ echo, note, subscribed }) => {
    const channel = echo.channel('orders');
    channel.listen('OrderShipped', note('class')).listen('.order.shipped', note('literal'));
    await subscribed(channel.subscription);
  });
  await world.publisher.trigger('orders', 'App\\Events\\OrderShipped', { id: 1 });
  await world.publisher.trigger('orders', 'order.shipped', { id: 2 });
  await world.publisher.trigger('orders', 'App\\Events\\OrderPaid', { id: 3 });
  await world.fence();
  assert.deepEqual(await page.take(), [
    ['class', { id: 1 }],
    ['literal', { id: 2 }],
  ]);
});

test('toOthers(): the socket whose id came with the request is left out', LIMIT, async () => {
  const [mine, theirs] = [await world.echo('ann'), await world.echo('bob')];
  for (const page of [mine, theirs]) {
    await page.run(async ({ echo, note, subscribed }) => {
      const channel = echo.private('documents');
      channel.listen('Saved', note('saved'));
      await subscribed(channel.subscription);
    });
  }
  assert.match(await mine.run(({ echo }) => echo.socketId()), /^[1-9]\d{0,9}\.[1-9]\d{0,9}$/);
  await mine.run(async ({ axios }) => axios.post('/documents', { v: 1 }).then(() => null));
  await world.publisher.trigger('private-documents', 'App\\Events\\Saved', { v: 2 });
  await world.fence();
  assert.deepEqual(await mine.take(), [['saved', { v: 2 }]]);
  assert.deepEqual(await theirs.take(), [
    ['saved', { v: 1 }],
    ['saved', { v: 2 }],
  ]);
});

test('whisper() and listenForWhisper()', LIMIT, async () => {
  const [ann, bob] = [await world.echo('ann'), await world.echo('bob')];
  for (const page of [ann, bob]) {
    await page.run(async ({ echo, note, subscribed }) => {
      const channel = echo.private('chat');
      channel.listenForWhisper('typing', note('typing'));
      await subscribed(channel.subscription);
    });
  }
  await ann.run(({ echo }) => void echo.private('chat').whisper('typing', { name: 'ann' }));
  await bob.until(1);
  await world.fence();
  assert.deepEqual(await bob.take(), [['typing', { name: 'ann' }]]);
  assert.deepEqual(await ann.take(), []);
});

test('here(), joining() and leaving() in a room', LIMIT, async () => {
  const [ann, bob] = [await world.echo('ann'), await world.echo('bob')];
  for (const page of [ann, bob]) {
    await page.run(async ({ echo, note, subscribed }) => {
      const room = echo.join('room');
      room.here(note('here')).joining(note('joining')).leaving(note('leaving'));
      await subscribed(room.subscription);
    });
  }
  await bob.run(({ echo }) => echo.leave('room'));
  await ann.until(3);
  await world.fence();
  assert.deepEqual(await ann.take(), [
    ['here', [{ name: 'ann' }]],
    ['joining', { name: 'bob' }],
    ['leaving', { name: 'bob' }],
  ]);
  const [[label, here], ...rest] = await bob.take();
  assert.equal(label, 'here');
  assert.deepEqual(here.map(({ name }) => name).sort(), ['ann', 'bob']);
  assert.deepEqual(rest, []);
});

test('encryptedPrivate() hears what only the application and users can read', LIMIT, async () => {
  const page = await world.echo('ann');
  await page.run(async ({ echo, note, subscribed }) => {
    const channel = echo.encryptedPrivate('safe');
    channel.listen('Opened', note('opened'));
    await subscribed(channel.subscription);
  });
  await world.publisher.trigger('private-encrypted-safe', 'App\\Events\\Opened', { pin: 1234 });
  await world.fence();
  assert.deepEqual(await page.take(), [['opened', { pin: 1234 }]]);
});

test('error() tells of a refusal by the application', LIMIT, async () => {
  const page = await world.echo('ann');
  await page.run(({ echo, note }) => {
    echo.private('forbidden').error((error) => note('error')(error.status));
  });
  await page.until(1);
  assert.deepEqual(await page.take(), [['error', 403]]);
});
