// One server, its application and the browsers that come to it.
import { randomBytes } from 'node:crypto';

import Echo from 'laravel-echo';
import PusherServer from 'pusher';
import Pusher from 'pusher-js';
import nacl from 'tweetnacl';

import { startAuth } from './auth.js';
import { Journal } from './journal.js';
import { APP, Server, within } from './server.js';

const FENCE = 'fence';
const CONNECT_MS = 5_000;

export class World {
  static async open() {
    const world = new World();
    world.server = await Server.start();
    world.publisher = new PusherServer({
      appId: APP.id,
      key: APP.key,
      secret: APP.secret,
      host: '127.0.0.1',
      port: String(world.server.port),
      useTLS: false,
      encryptionMasterKeyBase64: randomBytes(32).toString('base64'),
    });
    world.auth = await startAuth(world.publisher);
    world.clients = [];
    world.fences = 0;
    return world;
  }

  /** A pusher-js client, connected, behind the fence. */
  async connect(user = 'nobody') {
    const pusher = new Pusher(APP.key, {
      ...this.#address(),
      cluster: '',
      nacl, // as pusher-js's own build with encryption sets it
      channelAuthorization: {
        endpoint: this.auth.url,
        transport: 'ajax',
        headers: { 'X-User': user },
      },
    });
    return this.#admit(pusher);
  }

  /** A laravel-echo client over pusher-js, connected, behind the fence. */
  async echo(user = 'nobody') {
    const echo = new Echo({
      ...this.#address(),
      broadcaster: 'reverb',
      key: APP.key,
      Pusher,
      authEndpoint: this.auth.url,
      auth: { headers: { 'X-User': user } },
    });
    const { journal } = await this.#admit(echo.connector.pusher);
    return { echo, journal };
  }

  /**
   * Returns when everything published so far has reached every client: an app's events arrive in
   * one order, so whatever was to come before the fence's event has come.
   */
  async fence() {
    const number = ++this.fences;
    const passed = this.clients.map((client) =>
      client.fence.find((_, value) => value === number),
    );
    await this.publisher.trigger(FENCE, 'passed', number);
    await Promise.all(passed);
  }

  /** Lets a client go, as a closed tab does. */
  leave(pusher) {
    this.clients = this.clients.filter((client) => client.pusher !== pusher);
    pusher.disconnect();
  }

  /** Starts the server again where it was. */
  async restart() {
    this.server = await Server.start(this.server.port);
  }

  async close() {
    for (const { pusher } of this.clients) pusher.disconnect();
    await this.auth.close();
    await this.server.stop();
  }

  #address() {
    return {
      wsHost: '127.0.0.1',
      wsPort: this.server.port,
      forceTLS: false,
      enabledTransports: ['ws'],
    };
  }

  async #admit(pusher) {
    const client = { pusher, journal: new Journal(), fence: new Journal() };
    this.clients.push(client);
    const channel = pusher.subscribe(FENCE);
    channel.bind('passed', client.fence.note('passed'));
    await within(CONNECT_MS, subscribed(channel), 'a client does not connect');
    return client;
  }
}

/** Resolves with what the subscription brought, or rejects with its error. */
export function subscribed(channel) {
  return new Promise((resolve, reject) => {
    if (channel.subscribed) {
      resolve(channel.members);
      return;
    }
    channel.bind('pusher:subscription_succeeded', resolve);
    channel.bind('pusher:subscription_error', (error) => reject(new Error(JSON.stringify(error))));
  });
}
