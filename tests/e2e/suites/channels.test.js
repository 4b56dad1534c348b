// pusher-js on every kind of channel, events published by Pusher's server library.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import { subscribed, World } from '../harness/world.js';

const LIMIT = { timeout: 30_000 };
let world;

before(async () => (world = await World.open()));
after(() => world?.close());

/** Subscribes, waits for the acknowledgement, notes the named events. */
async function follow({ pusher, journal }, name, ...events) {
  const channel = pusher.subscribe(name);
  for (const event of events) channel.bind(event, journal.note(`${name} ${event}`));
  await subscribed(channel);
  return channel;
}

test('a public event reaches each subscriber once, and nobody else', LIMIT, async () => {
  const [one, two, stranger] = [await world.connect(), await world.connect(), await world.connect()];
  await follow(one, 'news', 'headline');
  await follow(two, 'news', 'headline');
  await follow(stranger, 'weather', 'headline');

  const data = { text: 'é \u{1f980} "quoted" \\ / <b>', list: [1, 2.5, null, true], none: {} };
  const answer = await world.publisher.trigger('news', 'headline', data);
  assert.equal(answer.status, 200);
  assert.equal(await answer.text(), '{}');

  await world.fence();
  assert.deepEqual(one.journal.take(), [['news headline', data]]);
  assert.deepEqual(two.journal.take(), [['news headline', data]]);
  assert.deepEqual(stranger.journal.take(), []);
});

test('after unsubscribing nothing more arrives', LIMIT, async () => {
  const client = await world.connect();
  await follow(client, 'left', 'ev');
  await world.publisher.trigger('left', 'ev', 1);
  await world.fence();
  client.pusher.unsubscribe('left');
  client.pusher.send_event('pusher:ping', {});
  // The answer to a ping says that the unsubscribe before it has been read.
  await new Promise((resolve) => {
    const onMessage = ({ event }) => event === 'pusher:pong' && resolve();
    client.pusher.connection.bind('message', onMessage);
  });
  await world.publisher.trigger('left', 'ev', 2);
  await world.fence();
  assert.deepEqual(client.journal.take(), [['left ev', 1]]);
});

test('a private channel is joined with a signature from the auth endpoint', LIMIT, async () => {
  const client = await world.connect('ann');
  await follow(client, 'private-orders.1', 'shipped');
  await world.publisher.trigger('private-orders.1', 'shipped', { id: 1 });
  await world.fence();
  assert.deepEqual(client.journal.take(), [['private-orders.1 shipped', { id: 1 }]]);
});

test('an event on many channels arrives once per channel, in the order given', LIMIT, async () => {
  const client = await world.connect('ann');
  const names = ['many-b', 'private-many', 'many-a'];
  for (const name of names) await follow(client, name, 'ev');
  await world.publisher.trigger(names, 'ev', { n: 7 });
  await world.fence();
  assert.deepEqual(
    client.journal.take(),
    names.map((name) => [`${name} ev`, { n: 7 }]),
  );
});

test('socket_id keeps an event from its own sender only', LIMIT, async () => {
  const [sender, other] = [await world.connect('ann'), await world.connect('bob')];
  for (const client of [sender, other]) await follow(client, 'private-doc', 'saved');
  const { socket_id } = sender.pusher.connection;
  await world.publisher.trigger('private-doc', 'saved', 1, { socket_id });
  await world.publisher.trigger('private-doc', 'saved', 2);
  await world.fence();
  assert.deepEqual(sender.journal.take(), [['private-doc saved', 2]]);
  assert.deepEqual(other.journal.take(), [
    ['private-doc saved', 1],
    ['private-doc saved', 2],
  ]);
});

test('a whisper reaches the others as it was said, never its sender', LIMIT, async () => {
  const clients = [await world.connect('ann'), await world.connect('bob'), await world.connect('cy')];
  const channels = [];
  for (const client of clients) {
    channels.push(await follow(client, 'private-chat', 'client-typing'));
  }
  const said = { who: 'ann', nested: {}, list: [] };
  channels[0].trigger('client-typing', said);
  await clients[1].journal.until(1);
  await clients[2].journal.until(1);
  await world.fence();
  assert.deepEqual(clients[0].journal.take(), []);
  assert.deepEqual(clients[1].journal.take(), [['private-chat client-typing', said]]);
  assert.deepEqual(clients[2].journal.take(), [['private-chat client-typing', said]]);
});

test('whispers of one sender keep their order', LIMIT, async () => {
  const [sender, other] = [await world.connect('ann'), await world.connect('bob')];
  const channel = await follow(sender, 'private-keys', 'client-key');
  await follow(other, 'private-keys', 'client-key');
  for (let n = 0; n < 200; n += 1) channel.trigger('client-key', { n });
  await other.journal.until(200);
  await world.fence();
  const expected = Array.from({ length: 200 }, (_, n) => ['private-keys client-key', { n }]);
  assert.deepEqual(other.journal.take(), expected);
  assert.deepEqual(sender.journal.take(), []);
});

test('an encrypted channel is relayed unread and decrypted by pusher-js', LIMIT, async () => {
  const client = await world.connect('ann');
  await follow(client, 'private-encrypted-safe', 'secret');
  const seen = [];
  client.pusher.connection.bind('message', (message) => {
    if (message.channel === 'private-encrypted-safe') seen.push(message);
  });
  const data = { pin: 'never-on-the-wire', tries: 3 };
  await world.publisher.trigger('private-encrypted-safe', 'secret', data);
  await world.fence();
  assert.deepEqual(client.journal.take(), [['private-encrypted-safe secret', data]]);
  assert.equal(seen.length, 1);
  assert.deepEqual(Object.keys(seen[0].data).sort(), ['ciphertext', 'nonce']);
  assert.ok(!JSON.stringify(seen).includes('never-on-the-wire'));
});

test('a forged signature is an error event; the connection stays usable', LIMIT, async () => {
  const client = await world.connect('ann');
  client.pusher.connection.bind('error', client.journal.note('error'));
  const channel = client.pusher.subscribe('private-forged');
  channel.bind('pusher:subscription_succeeded', client.journal.note('joined'));
  channel.bind('ev', client.journal.note('ev'));
  await client.journal.until(1);
  await world.publisher.trigger('private-forged', 'ev', 1);
  await world.fence();
  assert.deepEqual(client.journal.take(), [
    ['error', { type: 'PusherError', data: { code: 4009, message: 'Connection is unauthorized' } }],
  ]);
  assert.equal(client.pusher.connection.state, 'connected');
});

test('a refusal by the auth endpoint is a subscription error with its status', LIMIT, async () => {
  const client = await world.connect('ann');
  const channel = client.pusher.subscribe('private-forbidden');
  channel.bind('pusher:subscription_error', client.journal.note('error'));
  await client.journal.until(1);
  const [[, error]] = client.journal.take();
  assert.equal(error.type, 'AuthError');
  assert.equal(error.status, 403);
});

test('whispering to a channel that was not joined is refused', LIMIT, async () => {
  const [stranger, member] = [await world.connect('ann'), await world.connect('bob')];
  stranger.pusher.connection.bind('error', stranger.journal.note('error'));
  await follow(member, 'private-closed', 'client-hello');
  stranger.pusher.send_event('client-hello', { n: 1 }, 'private-closed');
  await stranger.journal.until(1);
  await world.fence();
  const message = 'The client is not a member of the specified channel.';
  assert.deepEqual(stranger.journal.take(), [
    ['error', { type: 'PusherError', data: { code: 4009, message } }],
  ]);
  assert.deepEqual(member.journal.take(), []);
});
