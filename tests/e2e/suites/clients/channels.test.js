// pusher-js on public, private and encrypted channels, and what it is refused.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import { World } from '../../harness/world.js';

const LIMIT = { timeout: 60_000 };
let world;

before(async () => (world = await World.open()));
after(() => world?.close());

const noteErrors = ({ pusher, note }) => void pusher.connection.bind('error', note('error'));
const error = (code, message) => ['error', { type: 'PusherError', data: { code, message } }];

test('a public event reaches each subscriber once, and nobody else', LIMIT, async () => {
  const [one, two] = [await world.connect(), await world.connect()];
  const stranger = await world.connect();
  await one.follow('news', 'headline');
  await two.follow('news', 'headline');
  await stranger.follow('weather', 'headline');

  const data = { text: 'é \u{1f980} "quoted" \\ / <b>', list: [1, 2.5, null, true], none: {} };
  const answer = await world.publisher.trigger('news', 'headline', data);
  assert.equal(answer.status, 200);
  assert.equal(await answer.text(), '{}');

  await world.fence();
  assert.deepEqual(await one.take(), [['news headline', data]]);
  assert.deepEqual(await two.take(), [['news headline', data]]);
  assert.deepEqual(await stranger.take(), []);
});

test('after unsubscribing nothing more arrives', LIMIT, async () => {
  const page = await world.connect();
  await page.follow('left', 'ev');
  await world.publisher.trigger('left', 'ev', 1);
  await world.fence();
  // The answer to a ping says that the unsubscribe before it has been read.
  await page.run(async ({ pusher, fence }) => {
    pusher.connection.bind('message', ({ event }) => fence.note(event)());
    pusher.unsubscribe('left');
    pusher.send_event('pusher:ping', {});
    await fence.find((event) => event === 'pusher:pong');
  });
  await world.publisher.trigger('left', 'ev', 2);
  await world.fence();
  assert.deepEqual(await page.take(), [['left ev', 1]]);
});

test('a private channel is joined with a signature from the auth endpoint', LIMIT, async () => {
  const page = await world.connect('ann');
  await page.follow('private-orders.1', 'shipped');
  await world.publisher.trigger('private-orders.1', 'shipped', { id: 1 });
  await world.fence();
  assert.deepEqual(await page.take(), [['private-orders.1 shipped', { id: 1 }]]);
});

test('an event on many channels arrives once per channel, in the order given', LIMIT, async () => {
  const page = await world.connect('ann');
  const names = ['many-b', 'private-many', 'many-a'];
  for (const name of names) await page.follow(name, 'ev');
  await world.publisher.trigger(names, 'ev', { n: 7 });
  await world.fence();
  assert.deepEqual(
    await page.take(),
    names.map((name) => [`${name} ev`, { n: 7 }]),
  );
});

test('socket_id keeps an event from its own sender only', LIMIT, async () => {
  const [sender, other] = [await world.connect('ann'), await world.connect('bob')];
  for (const page of [sender, other]) await page.follow('private-doc', 'saved');
  const socket_id = await sender.socketId();
  await world.publisher.trigger('private-doc', 'saved', 1, { socket_id });
  await world.publisher.trigger('private-doc', 'saved', 2);
  await world.fence();
  assert.deepEqual(await sender.take(), [['private-doc saved', 2]]);
  assert.deepEqual(await other.take(), [
    ['private-doc saved', 1],
    ['private-doc saved', 2],
  ]);
});

test('a whisper reaches the others as it was said, never its sender', LIMIT, async () => {
  const pages = [await world.connect('ann'), await world.connect('bob'), await world.connect('cy')];
  for (const page of pages) await page.follow('private-chat', 'client-typing');
  const said = { who: 'ann', nested: {}, list: [] };
  await pages[0].run(({ pusher }, data) => {
    pusher.channel('private-chat').trigger('client-typing', data);
  }, said);
  await pages[1].until(1);
  await pages[2].until(1);
  await world.fence();
  assert.deepEqual(await pages[0].take(), []);
  assert.deepEqual(await pages[1].take(), [['private-chat client-typing', said]]);
  assert.deepEqual(await pages[2].take(), [['private-chat client-typing', said]]);
});

test('whispers of one sender keep their order', LIMIT, async () => {
  const [sender, other] = [await world.connect('ann'), await world.connect('bob')];
  for (const page of [sender, other]) await page.follow('private-keys', 'client-key');
  await sender.run(({ pusher }) => {
    const channel = pusher.channel('private-keys');
    for (let n = 0; n < 200; n += 1) channel.trigger('client-key', { n });
  });
  await other.until(200);
  await world.fence();
  const expected = Array.from({ length: 200 }, (_, n) => ['private-keys client-key', { n }]);
  assert.deepEqual(await other.take(), expected);
  assert.deepEqual(await sender.take(), []);
});

test('an encrypted channel is relayed unread and decrypted by pusher-js', LIMIT, async () => {
  const page = await world.connect('ann');
  await page.run(({ pusher, note }) => {
    pusher.connection.bind('message', (message) => {
      if (message.event === 'secret') note('frame')(message);
    });
  });
  await page.follow('private-encrypted-safe', 'secret');
  const data = { pin: 'never-on-the-wire', tries: 3 };
  await world.publisher.trigger('private-encrypted-safe', 'secret', data);
  await world.fence();
  const [event, [, frame], ...rest] = await page.take();
  assert.deepEqual(event, ['private-encrypted-safe secret', data]);
  assert.deepEqual(Object.keys(frame.data).sort(), ['ciphertext', 'nonce']);
  assert.ok(!JSON.stringify(frame).includes('never-on-the-wire'));
  assert.deepEqual(rest, []);
});

test('a forged signature is an error event; the connection stays usable', LIMIT, async () => {
  const page = await world.connect('ann');
  await page.run(noteErrors);
  await page.run(({ pusher, note }) => {
    const channel = pusher.subscribe('private-forged');
    channel.bind('pusher:subscription_succeeded', note('joined')).bind('ev', note('ev'));
  });
  await page.until(1);
  await world.publisher.trigger('private-forged', 'ev', 1);
  await world.fence();
  assert.deepEqual(await page.take(), [error(4009, 'Connection is unauthorized')]);
  assert.equal(await page.run(({ pusher }) => pusher.connection.state), 'connected');
});

test('a refusal by the auth endpoint is a subscription error with its status', LIMIT, async () => {
  const page = await world.connect('ann');
  await page.run(({ pusher, note }) => {
    const channel = pusher.subscribe('private-forbidden');
    channel.bind('pusher:subscription_error', note('error'));
  });
  await page.until(1);
  const [[, { type, status }]] = await page.take();
  assert.deepEqual({ type, status }, { type: 'AuthError', status: 403 });
});

test('whispering to a channel that was not joined is refused', LIMIT, async () => {
  const [stranger, member] = [await world.connect('ann'), await world.connect('bob')];
  await stranger.run(noteErrors);
  await member.follow('private-closed', 'client-hello');
  await stranger.run(({ pusher }) => {
    pusher.send_event('client-hello', { n: 1 }, 'private-closed');
  });
  await stranger.until(1);
  await world.fence();
  assert.deepEqual(await stranger.take(), [
    error(4009, 'The client is not a member of the specified channel.'),
  ]);
  assert.deepEqual(await member.take(), []);
});
