// Presence channels: who is here, who joins, who leaves.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import { World } from '../../harness/world.js';

const LIMIT = { timeout: 60_000 };
let world;

before(async () => (world = await World.open()));
after(() => world?.close());

const ann = { id: 'ann', info: { name: 'ann' } };
const bob = { id: 'bob', info: { name: 'bob' } };

/** Joins, notes who comes and goes, and returns who is here. */
function join(page, name) {
  return page.follow(name, 'pusher:member_added', 'pusher:member_removed');
}

const added = (name, member) => [`${name} pusher:member_added`, member];
const removed = (name, member) => [`${name} pusher:member_removed`, member];

/** Who is there now, as pusher-js keeps it. */
function members(page, name) {
  return page.run(({ pusher }, channel) => pusher.channel(channel).members.members, name);
}

test('who joins learns who is here, and those hear of it once', LIMIT, async () => {
  const first = await world.connect('ann');
  assert.deepEqual(await join(first, 'presence-room'), {
    count: 1,
    me: ann,
    members: { ann: ann.info },
  });
  const second = await world.connect('bob');
  assert.deepEqual(await join(second, 'presence-room'), {
    count: 2,
    me: bob,
    members: { ann: ann.info, bob: bob.info },
  });
  await world.fence();
  assert.deepEqual(await first.take(), [added('presence-room', bob)]);
  assert.deepEqual(await second.take(), []);
});

test('a second tab is silent, and so is its leaving; the last one is heard', LIMIT, async () => {
  const watcher = await world.connect('ann');
  await join(watcher, 'presence-tabs');
  const [tab, otherTab] = [await world.connect('bob'), await world.connect('bob')];
  await join(tab, 'presence-tabs');
  assert.equal((await join(otherTab, 'presence-tabs')).count, 2);
  await world.fence();
  assert.deepEqual(await watcher.take(), [added('presence-tabs', bob)]);

  await world.leave(tab);
  // The second tab still hears what is said, so bob is still here.
  await world.publisher.trigger('presence-tabs', 'ev', 1);
  await world.fence();
  assert.deepEqual(await watcher.take(), []);

  await otherTab.run(({ pusher }) => pusher.unsubscribe('presence-tabs'));
  await watcher.until(1);
  await world.fence();
  assert.deepEqual(await watcher.take(), [removed('presence-tabs', bob)]);
});

test('a closed connection leaves like an unsubscribed one', LIMIT, async () => {
  const [watcher, leaver] = [await world.connect('ann'), await world.connect('bob')];
  await join(watcher, 'presence-closing');
  await join(leaver, 'presence-closing');
  await world.leave(leaver);
  await watcher.until(2);
  await world.fence();
  assert.deepEqual(await watcher.take(), [
    added('presence-closing', bob),
    removed('presence-closing', bob),
  ]);
  assert.deepEqual(await members(watcher, 'presence-closing'), { ann: ann.info });
});

test('twenty users at once: every roster ends the same', LIMIT, async () => {
  const users = Array.from({ length: 20 }, (_, n) => `user-${n}`);
  const pages = await Promise.all(users.map((user) => world.connect(user)));
  await Promise.all(pages.map((page) => join(page, 'presence-crowd')));
  await world.fence();
  const everybody = Object.fromEntries(users.map((name) => [name, { name }]));
  for (const [index, page] of pages.entries()) {
    assert.deepEqual(await members(page, 'presence-crowd'), everybody);
    const heard = (await page.take()).map(([label, { id }]) => `${label} ${id}`);
    assert.equal(new Set(heard).size, heard.length, `user-${index} heard of somebody twice`);
    assert.ok(heard.every((line) => line.startsWith('presence-crowd pusher:member_added ')));
  }
});

test('a whisper on a presence channel names its sender', LIMIT, async () => {
  const [sender, other] = [await world.connect('ann'), await world.connect('bob')];
  for (const page of [sender, other]) await page.follow('presence-talk');
  await other.run(({ pusher, note }) => {
    const channel = pusher.channel('presence-talk');
    channel.bind('client-wave', (data, metadata) => note('wave')({ data, metadata }));
  });
  await sender.run(({ pusher }) => {
    pusher.channel('presence-talk').trigger('client-wave', { n: 1 });
  });
  await other.until(1);
  await world.fence();
  assert.deepEqual(await other.take(), [
    ['wave', { data: { n: 1 }, metadata: { user_id: ann.id } }],
  ]);
});

test('a presence channel with a forged signature stays shut', LIMIT, async () => {
  const intruder = await world.connect('bob');
  await intruder.run(({ pusher, note }) => {
    pusher.connection.bind('error', note('error'));
    pusher.subscribe('presence-forged').bind('pusher:subscription_succeeded', note('joined'));
  });
  await intruder.until(1);
  await world.fence();
  const [[label, error], ...rest] = await intruder.take();
  assert.deepEqual([label, error.data.code, rest], ['error', 4009, []]);
});
