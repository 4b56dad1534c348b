// What Laravel and Pusher's server library for PHP send, replayed: G-396 to G-413. A request is
// as long as the captured one, so that a slip in copying it would show.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import { PhpLibrary } from '../../harness/php_library.js';
import { World } from '../../harness/world.js';

const LIMIT = { timeout: 60_000 };
let world;
let php;

before(async () => {
  world = await World.open({ masterKey: Buffer.from('k'.repeat(32)).toString('base64') });
  php = await PhpLibrary.connect(world.front);
});
after(async () => {
  php?.close();
  await world?.close();
});

/** Posts a body of that many bytes. */
function post(path, length, body) {
  assert.equal(body.length, length);
  return php.post(path, body);
}

test('G-400 to G-404: what is asked of an app where nobody is', LIMIT, async () => {
  const presence = { filter_by_prefix: 'presence-', info: 'user_count' };
  assert.deepEqual(await php.get('/channels', presence), [200, '{"channels":{}}']);
  const info = { info: 'subscription_count' };
  assert.deepEqual(await php.get('/channels/orders', info), [200, '{"occupied":false}']);
  assert.deepEqual(await php.get('/channels/presence-x/users'), [404, '{}']);
  assert.deepEqual(await post('/users/u1/terminate_connections', 2, '{}'), [200, '{}']);
  assert.deepEqual(await php.get('/connections'), [200, '{"connections":0}']);
});

test('G-398: trigger() with info', LIMIT, async () => {
  const page = await world.connect('ann');
  await page.follow('orders', 'ev');
  const body = String.raw`{"name":"ev","data":"{\"a\":1}","channel":"orders","info":"subscription_count"}`;
  assert.deepEqual(await post('/events', 79, body), [
    200,
    '{"channels":{"orders":{"subscription_count":1}}}',
  ]);
  await world.fence();
  assert.deepEqual(await page.take(), [['orders ev', { a: 1 }]]);
});

test('G-396: an event of Laravel on two channels is heard by Echo', LIMIT, async () => {
  const page = await world.echo('ann');
  await page.run(async ({ echo, note, subscribed }) => {
    for (const channel of [echo.channel('orders'), echo.private('u.1')]) {
      channel.listen('OrderShipped', note(channel.name));
      await subscribed(channel.subscription);
    }
  });
  const body = String.raw`{"name":"App\\Events\\OrderShipped","data":"{\"id\":7,\"name\":\"\\u00e9\\\/x\"}","channels":["orders","private-u.1"]}`;
  assert.deepEqual(await post('/events', 118, body), [200, '{}']);
  await world.fence();
  assert.deepEqual(await page.take(), [
    ['orders', { id: 7, name: 'é/x' }],
    ['private-u.1', { id: 7, name: 'é/x' }],
  ]);
});

test('G-397: toOthers() leaves out the socket that it names', LIMIT, async () => {
  const [mine, theirs] = [await world.connect('ann'), await world.connect('bob')];
  const event = 'App\\Events\\OrderShipped';
  for (const page of [mine, theirs]) await page.follow('orders', event);
  const body = String.raw`{"name":"App\\Events\\OrderShipped","data":"{\"id\":7}","channel":"orders","socket_id":"1.1"}`;
  assert.deepEqual(await post('/events', 93, body), [200, '{}']);
  const ours = body.replace('1.1', await mine.socketId());
  assert.deepEqual(await post('/events', ours.length, ours), [200, '{}']);
  await world.fence();
  const heard = [`orders ${event}`, { id: 7 }];
  assert.deepEqual(await mine.take(), [heard]);
  assert.deepEqual(await theirs.take(), [heard, heard]);
  for (const page of [mine, theirs]) await world.leave(page);
});

test('G-399: triggerBatch()', LIMIT, async () => {
  const page = await world.connect('ann');
  await page.follow('a', 'e1');
  await page.follow('b', 'e2');
  const body = String.raw`{"batch":[{"name":"e1","data":"{\"x\":1}","channel":"a"},{"name":"e2","data":"\"str\"","channel":"b"}]}`;
  assert.deepEqual(await post('/batch_events', 103, body), [200, '{"batch":{}}']);
  await world.fence();
  assert.deepEqual(await page.take(), [
    ['a e1', { x: 1 }],
    ['b e2', 'str'],
  ]);
});

test('G-405, G-406: 9 kB are delivered, 11 kB refused in words', LIMIT, async () => {
  const page = await world.connect('ann');
  await page.follow('orders', 'ev');
  const event = (text) => String.raw`{"name":"ev","data":"\"${text}\"","channel":"orders"}`;
  assert.deepEqual(await post('/events', 9_046, event('x'.repeat(9_000))), [200, '{}']);
  const large = await PhpLibrary.connect(world.front);
  const refused = await large.post('/events', event('x'.repeat(11_000)));
  large.close();
  assert.deepEqual(refused, [413, 'Payload too large.']);
  await world.fence();
  assert.deepEqual(await page.take(), [['orders ev', 'x'.repeat(9_000)]]);
});

test('G-410, G-411: what PHP encrypts is read in the browser', LIMIT, async () => {
  const page = await world.connect('ann');
  await page.follow('private-encrypted-x', 'ev');
  const body = String.raw`{"name":"ev","data":"{\"nonce\":\"VWoa+2VBuia9rnzlab2SLEzZiRlROndw\",\"ciphertext\":\"uJXaAIya9TjGhEP0dz4C42X8+fKmcO4=\"}","channel":"private-encrypted-x"}`;
  assert.deepEqual(await post('/events', 155, body), [200, '{}']);
  await world.fence();
  assert.deepEqual(await page.take(), [['private-encrypted-x ev', { a: 1 }]]);
});

test('G-408, G-413: members as Laravel signs them', LIMIT, async () => {
  world.application.member = (id) => ({ user_id: id, user_info: { id: Number(id), name: 'Ann' } });
  const page = await world.connect('7');
  const ann = { id: 7, name: 'Ann' };
  assert.deepEqual(await page.follow('presence-x'), {
    count: 1,
    me: { id: '7', info: ann },
    members: { 7: ann },
  });
  assert.deepEqual(await php.get('/channels/presence-x/users'), [200, '{"users":[{"id":"7"}]}']);
});
