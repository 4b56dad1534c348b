// A user whose connections the application terminates. In Chromium alone: in Node a socket that
// the server has closed keeps the process for another 30 s.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import { World } from '../../harness/world.js';

const LIMIT = { timeout: 60_000 };
let world;

before(async () => (world = await World.open()));
after(() => world?.close());

test('terminateUserConnections() closes that user everywhere, for good', LIMIT, async () => {
  const [ann, tab, bob] = [
    await world.connect('ann'),
    await world.connect('ann'),
    await world.connect('bob'),
  ];
  for (const page of [ann, tab, bob]) {
    await page.run(({ pusher, note }) => {
      pusher.connection.bind('error', ({ type, data }) => {
        if (type === 'PusherError') note('closed')(data.code);
      });
      pusher.connection.bind('state_change', ({ current }) => note('state')(current));
    });
    await page.follow('presence-end', 'pusher:member_removed');
  }
  const answer = await world.publisher.terminateUserConnections('ann');
  assert.equal(await answer.text(), '{}');
  await bob.until(1);
  assert.deepEqual(await bob.take(), [
    ['presence-end pusher:member_removed', { id: 'ann', info: { name: 'ann' } }],
  ]);
  for (const page of [ann, tab]) {
    await page.until(2);
    assert.deepEqual(await page.take(), [
      ['closed', 4009],
      ['state', 'disconnected'],
    ]);
    await world.leave(page);
  }
  const { users } = await world.publisher
    .get({ path: '/channels/presence-end/users' })
    .then((left) => left.json());
  assert.deepEqual(users, [{ id: 'bob' }]);
});
