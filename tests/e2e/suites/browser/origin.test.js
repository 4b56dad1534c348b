// Where a page comes from: a browser says it, whatever its script would like.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import { Tabs } from '../../harness/chromium.js';
import { APP } from '../../harness/server.js';
import { World } from '../../harness/world.js';

const LIMIT = { timeout: 60_000 };
let world;
let elsewhere;

before(async () => {
  world = await World.open({ environment: { SLAPBACK_ALLOWED_ORIGINS: 'localhost' } });
  elsewhere = world.application.url;
  world.application.url = elsewhere.replace('127.0.0.1', 'localhost');
});
after(() => world?.close());

test('a page of an allowed origin is served', LIMIT, async () => {
  const page = await world.connect('ann');
  await page.follow('private-news', 'ev');
  await world.publisher.trigger('private-news', 'ev', 1);
  await world.fence();
  assert.deepEqual(await page.take(), [['private-news ev', 1]]);
});

test('a page from elsewhere is told why not, and does not come again', LIMIT, async () => {
  const tabs = await Tabs.connect(process.env.E2E_CHROMIUM);
  const tab = await tabs.open(`${elsewhere}/`);
  const options = JSON.stringify({ cluster: '', ...world.address() });
  const heard = await tab.evaluate(`new Promise((resolve) => {
    const heard = [];
    const { connection } = new Pusher('${APP.key}', ${options});
    connection.bind('error', ({ error }) => error && heard.push(error.data));
    connection.bind('state_change', ({ current }) => {
      heard.push(current);
      if (current !== 'connecting') resolve(heard);
    });
  })`);
  await tabs.close();
  assert.deepEqual(heard, [
    { code: 4009, message: 'Origin not allowed' },
    'disconnected',
  ]);
});
