// Presence channels: who is here, who joins, who leaves.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import { subscribed, World } from '../harness/world.js';

const LIMIT = { timeout: 30_000 };
let world;

before(async () => (world = await World.open()));
after(() => world?.close());

/** Joins and notes who comes and goes. */
async function join({ pusher, journal }, name) {
  const channel = pusher.subscribe(name);
  channel.bind('pusher:member_added', (member) => journal.note('added')(plain(member)));
  channel.bind('pusher:member_removed', (member) => journal.note('removed')(plain(member)));
  return { channel, members: await subscribed(channel) };
}

function plain({ id, info }) {
  return { id, info };
}

const ann = { id: 'ann', info: { name: 'ann' } };
const bob = { id: 'bob', info: { name: 'bob' } };

test('who joins learns who is here, and those hear of it once', LIMIT, async () => {
  const first = await world.connect('ann');
  const { members: alone } = await join(first, 'presence-room');
  assert.equal(alone.count, 1);
  assert.deepEqual(alone.members, { ann: { name: 'ann' } });
  assert.equal(alone.me.id, 'ann');

  const second = await world.connect('bob');
  const { members: both } = await join(second, 'presence-room');
  assert.equal(both.count, 2);
  assert.deepEqual(both.members, { ann: { name: 'ann' }, bob: { name: 'bob' } });
  assert.equal(both.me.id, 'bob');

  await world.fence();
  assert.deepEqual(first.journal.take(), [['added', bob]]);
  assert.deepEqual(second.journal.take(), []);
});

test('a second tab is silent, and so is its leaving; the last one is heard', LIMIT, async () => {
  const watcher = await world.connect('ann');
  await join(watcher, 'presence-tabs');
  const [tab, otherTab] = [await world.connect('bob'), await world.connect('bob')];
  await join(tab, 'presence-tabs');
  const { members } = await join(otherTab, 'presence-tabs');
  assert.equal(members.count, 2);
  await world.fence();
  assert.deepEqual(watcher.journal.take(), [['added', bob]]);

  world.leave(tab.pusher);
  // The second tab still hears what is said, so bob is still here.
  await world.publisher.trigger('presence-tabs', 'ev', 1);
  await world.fence();
  assert.deepEqual(watcher.journal.take(), []);

  otherTab.pusher.unsubscribe('presence-tabs');
  await watcher.journal.until(1);
  await world.fence();
  assert.deepEqual(watcher.journal.take(), [['removed', bob]]);
});

test('a closed connection leaves like an unsubscribed one', LIMIT, async () => {
  const [watcher, leaver] = [await world.connect('ann'), await world.connect('bob')];
  const { channel } = await join(watcher, 'presence-closing');
  await join(leaver, 'presence-closing');
  world.leave(leaver.pusher);
  await watcher.journal.until(2);
  await world.fence();
  assert.deepEqual(watcher.journal.take(), [
    ['added', bob],
    ['removed', bob],
  ]);
  assert.deepEqual(channel.members.members, { ann: { name: 'ann' } });
});

test('twenty users at once: every roster ends the same', LIMIT, async () => {
  const users = Array.from({ length: 20 }, (_, n) => `user-${n}`);
  const clients = await Promise.all(users.map((user) => world.connect(user)));
  const joined = await Promise.all(clients.map((client) => join(client, 'presence-crowd')));
  await world.fence();
  for (const { channel } of joined) {
    assert.deepEqual(Object.keys(channel.members.members).sort(), [...users].sort());
    assert.equal(channel.members.count, 20);
  }
  for (const [index, { journal }] of clients.entries()) {
    const heard = journal.take();
    const ids = heard.map(([label, { id }]) => `${label} ${id}`);
    assert.equal(new Set(ids).size, ids.length, `user-${index} heard of somebody twice`);
    assert.ok(heard.every(([label]) => label === 'added'));
  }
});

test('a whisper on a presence channel names its sender', LIMIT, async () => {
  const [sender, other] = [await world.connect('ann'), await world.connect('bob')];
  const { channel } = await join(sender, 'presence-talk');
  const { channel: heard } = await join(other, 'presence-talk');
  heard.bind('client-wave', (data, metadata) => other.journal.note('wave')({ data, metadata }));
  channel.trigger('client-wave', { n: 1 });
  await other.journal.until(1);
  await world.fence();
  assert.deepEqual(other.journal.take(), [
    ['wave', { data: { n: 1 }, metadata: { user_id: ann.id } }],
  ]);
});

test('a presence channel with a forged signature stays shut', LIMIT, async () => {
  const intruder = await world.connect('bob');
  intruder.pusher.connection.bind('error', intruder.journal.note('error'));
  const channel = intruder.pusher.subscribe('presence-forged');
  channel.bind('pusher:subscription_succeeded', intruder.journal.note('joined'));
  await intruder.journal.until(1);
  await world.fence();
  const [[label, error], ...rest] = intruder.journal.take();
  assert.deepEqual([label, error.data.code, rest], ['error', 4009, []]);
});
