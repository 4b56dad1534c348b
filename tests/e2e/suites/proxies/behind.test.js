// What a proxy must leave as it is, beside all that the other suites show through it.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import { until } from '../../harness/child.js';
import { World } from '../../harness/world.js';

const LIMIT = { timeout: 120_000 };
const WAIT_MS = 30_000;
const NAMES = ['news', 'presence-news'];
let world;
let address;

before(async () => {
  const environment = { SLAPBACK_DRAIN_DELAY: '2', SLAPBACK_DRAIN_SECONDS: '1' };
  world = await World.open({ environment });
  address = `https://${world.front.host}:${world.front.port}`;
});
after(() => world?.close());

/** Over a connection of its own, as a browser makes one for each WebSocket. */
const ask = (path, method = 'GET') =>
  fetch(`${address}${path}`, {
    method,
    headers: { connection: 'close' },
    signal: AbortSignal.timeout(WAIT_MS),
  });

test('health and refusals come through in their own words', LIMIT, async () => {
  const up = await ask('/up');
  assert.deepEqual([up.status, await up.text()], [200, '{"health":"OK"}']);
  assert.match(up.headers.get('content-type'), /^application\/json/);
  const head = await ask('/up', 'HEAD');
  assert.deepEqual([head.status, await head.text()], [200, '']);
  const unknown = await ask('/apps/0/events', 'POST');
  assert.deepEqual(
    [unknown.status, await unknown.text()],
    [404, 'No matching application for ID [0].'],
  );
  const nothing = await ask('/nothing/here');
  assert.deepEqual([nothing.status, await nothing.text()], [404, 'Not found.']);
});

/** What each says at once to who comes between two servers; nothing if it waits for the second. */
const IMPATIENT = {
  nginx: 502,
  // It pauses between its tries only if the kernel takes its time to say that nobody is there.
  ...(process.env.E2E_INSIDE === 'socket' && { haproxy: 503 }),
};

test('who comes between two servers waits for the second where a proxy can', LIMIT, async () => {
  const impatient = IMPATIENT[process.env.E2E_FRONT];
  await world.server.stop();
  const asked = ask('/up');
  if (impatient) assert.equal((await asked).status, impatient);
  await world.restart();
  if (!impatient) assert.equal((await asked).status, 200);
});

test('a drain and a restart behind the proxy', LIMIT, async () => {
  const page = await world.connect('ann');
  for (const name of NAMES) await page.follow(name, 'ev');
  await page.run(({ pusher, note }) => {
    const { connection } = pusher;
    connection.bind('error', ({ type, data }) => {
      if (type === 'PusherError') note('closed')(data.code);
    });
    connection.bind('connected', () => note('connected')(null));
  });

  const { child } = world.server;
  child.signal('SIGTERM');
  await until(WAIT_MS, async () => (await ask('/up')).status === 503, '/up does not say 503');
  // The proxy has been told to look elsewhere; who is here is served to the last.
  await world.publisher.trigger('news', 'ev', 'farewell');
  await page.until(2, WAIT_MS);
  assert.deepEqual(await page.take(), [
    ['news ev', 'farewell'],
    ['closed', 4100],
  ]);
  await child.ended;
  await world.restart();

  await page.run(async ({ pusher, journal, subscribed }) => {
    await journal.find((label) => label === 'connected', 60_000);
    for (const channel of pusher.allChannels()) await subscribed(channel);
  });
  for (const name of NAMES) await world.publisher.trigger(name, 'ev', { on: name });
  await world.fence();
  const heard = (await page.take()).filter(([label]) => label !== 'closed');
  assert.deepEqual(heard, [
    ['connected', null],
    ...NAMES.map((name) => [`${name} ev`, { on: name }]),
  ]);
});
