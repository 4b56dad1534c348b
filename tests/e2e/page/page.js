// An application's page: pusher-js, or laravel-echo over it. Runs in Chromium and in Node alike.
import { Journal } from './journal.js';

const FENCE = 'fence';
const SUBSCRIBED_MS = 30_000;

/**
 * Opens the connection and returns, once it is behind the fence, what a test's actions are given:
 * `pusher`, `echo`, the `journal` with its `note()`, and `subscribed()`.
 */
export async function openPage({ Pusher, Echo, axios, nacl }, { key, withEcho, options }) {
  const page = { axios, subscribed, journal: new Journal(), fence: new Journal() };
  page.note = (label) => page.journal.note(label);
  if (withEcho) {
    // Echo looks for axios here, to have every request carry its socket's id.
    globalThis.axios = axios;
    page.echo = new Echo({ broadcaster: 'reverb', key, Pusher, nacl, ...options });
    page.pusher = page.echo.connector.pusher;
  } else {
    page.pusher = new Pusher(key, { cluster: '', nacl, ...options });
  }
  const fence = page.pusher.subscribe(FENCE);
  fence.bind('passed', page.fence.note('passed'));
  await subscribed(fence);
  return page;
}

/** Resolves with what the subscription brought, or rejects with its error. */
function subscribed(channel, waitMs = SUBSCRIBED_MS) {
  return new Promise((resolve, reject) => {
    if (channel.subscribed) {
      resolve(channel.members);
      return;
    }
    const fail = (error) => reject(new Error(`${channel.name}: ${JSON.stringify(error)}`));
    const timer = setTimeout(() => fail(`not subscribed within ${waitMs} ms`), waitMs);
    const settle = (end) => (value) => {
      clearTimeout(timer);
      end(value);
    };
    channel.bind('pusher:subscription_succeeded', settle(resolve));
    channel.bind('pusher:subscription_error', settle(fail));
  });
}
