// The page of `slapback start --demo`, used by two people. Leaves a picture of it in target/e2e;
// docs/images has one that was taken so.
import assert from 'node:assert/strict';
import { mkdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { Tabs } from '../../harness/chromium.js';
import { Server } from '../../harness/server.js';

const LIMIT = { timeout: 60_000 };
const WAIT_MS = 30_000;
const [WIDTH, HEIGHT] = [1280, 800];
const TARGET = fileURLToPath(new URL('../../../../target/e2e', import.meta.url));
const NO_APP = { REVERB_APP_ID: '', REVERB_APP_KEY: '', REVERB_APP_SECRET: '' };
let server;
let tabs;

before(async () => {
  server = await Server.start({ argv: ['--demo'], environment: NO_APP });
  tabs = await Tabs.connect(process.env.E2E_CHROMIUM);
});
after(async () => {
  await tabs?.close();
  await server?.stop();
});

/** Runs a function with one argument in the tab. */
const run = (tab, action, argument) => tab.evaluate(`(${action})(${JSON.stringify(argument)})`);

/** Waits until the elements that the selector finds read so. */
function reads(tab, selector, texts) {
  const look = ({ selector, texts, waitMs }) =>
    new Promise((resolve, reject) => {
      const now = () => [...document.querySelectorAll(selector)].map((found) => found.innerText);
      const deadline = Date.now() + waitMs;
      const ask = () => {
        if (JSON.stringify(now()) === JSON.stringify(texts)) resolve();
        else if (Date.now() > deadline) reject(new Error(`${selector}: ${JSON.stringify(now())}`));
        else setTimeout(ask, 10);
      };
      ask();
    });
  return run(tab, look, { selector, texts, waitMs: WAIT_MS });
}

async function open(name) {
  const tab = await tabs.open(`http://127.0.0.1:${server.port}/`);
  await reads(tab, '#state', ['connected']);
  const enter = (name) => {
    const user = document.querySelector('#user');
    user.value = name;
    user.dispatchEvent(new Event('input'));
  };
  await run(tab, enter, name);
  return tab;
}

function join(tab, kind, name) {
  const submit = ({ kind, name }) => {
    const form = document.querySelector('#join');
    form.querySelector(`[name=kind][value="${kind}"]`).click();
    form.elements.name.value = name;
    form.querySelector('button').click();
  };
  return run(tab, submit, { kind, name });
}

function say(tab, how, channel, event, data) {
  const submit = ({ how, channel, event, data }) => {
    const form = document.querySelector('#say');
    form.elements.channel.value = channel;
    form.elements.event.value = event;
    form.elements.data.value = data;
    form.querySelector(`[value=${how}]`).click();
  };
  return run(tab, submit, { how, channel, event, data: JSON.stringify(data) });
}

test('two people meet, publish and whisper', LIMIT, async () => {
  const [ann, bob] = [await open('Ann'), await open('Bob')];
  await join(ann, 'presence-', 'room');
  await reads(ann, '.members li', ['Ann']);
  await join(ann, '', 'orders');
  await reads(ann, '.kind', ['presence', 'public']);
  await join(bob, 'presence-', 'room');
  await reads(bob, '.members li', ['Ann', 'Bob']);
  await reads(ann, '.members li', ['Ann', 'Bob']);

  await say(bob, 'publish', 'presence-room', 'message', { text: 'hello' });
  await reads(bob, '#log b', ['message', 'published message']);
  await say(bob, 'whisper', 'presence-room', 'typing', { name: 'Bob' });
  await reads(ann, '#log b', ['client-typing', 'message', 'Bob joined']);
  await say(ann, 'publish', 'orders', 'OrderShipped', { id: 7, carrier: 'post' });
  await reads(ann, '#log b', [
    'OrderShipped',
    'published OrderShipped',
    'client-typing',
    'message',
    'Bob joined',
  ]);
  await reads(ann, '#log pre', ['{"id":7,"carrier":"post"}', '{"name":"Bob"}', '{"text":"hello"}']);
  await reads(ann, '#log .error', []);

  mkdirSync(TARGET, { recursive: true });
  const file = path.join(TARGET, 'demo.png');
  await ann.screenshot(file, WIDTH, HEIGHT);
  const picture = readFileSync(file);
  assert.equal(picture.subarray(0, 8).toString('latin1'), '\x89PNG\r\n\x1a\n');
  assert.deepEqual([picture.readUInt32BE(16), picture.readUInt32BE(20)], [WIDTH, HEIGHT]);
});
