// One server, whatever stands in front of it, its application and the pages that come to it.
import { randomBytes } from 'node:crypto';

import PusherServer from 'pusher';

import { Application } from './application.js';
import { ChromiumClient } from './chromium_client.js';
import { insideOf, startFront } from './front.js';
import { NodeClient } from './node_client.js';
import { APP, Server } from './server.js';

const Client = process.env.E2E_CLIENT === 'chromium' ? ChromiumClient : NodeClient;
const FENCE = 'fence';

export class World {
  /** `environment` is the server's, beside what every test has. */
  static async open({ environment = {}, masterKey = randomBytes(32).toString('base64') } = {}) {
    const world = new World();
    const inside = insideOf();
    Object.assign(world, { environment: { ...inside, ...environment }, masterKey });
    world.clients = [];
    world.fences = 0;
    world.server = await Server.start({ environment: world.environment });
    world.front = await startFront(world.server.port, inside.SLAPBACK_UNIX_SOCKET);
    world.publisher = world.library();
    world.application = await Application.start(world.publisher);
    return world;
  }

  /** Pusher's server library, set up as an application has it. */
  library(secret = APP.secret) {
    return new PusherServer({
      appId: APP.id,
      key: APP.key,
      secret,
      host: this.front.host,
      port: String(this.front.port),
      useTLS: this.front.isSecure,
      encryptionMasterKeyBase64: this.masterKey,
    });
  }

  /** A page with pusher-js, connected, behind the fence. `options` are pusher-js's. */
  connect(user = 'nobody', options = {}) {
    return this.#admit(false, {
      channelAuthorization: {
        endpoint: this.#authEndpoint(),
        transport: 'ajax',
        headers: { 'X-User': user },
      },
      ...options,
    });
  }

  /** A page with laravel-echo over pusher-js, connected, behind the fence. */
  echo(user = 'nobody') {
    return this.#admit(true, {
      authEndpoint: this.#authEndpoint(),
      auth: { headers: { 'X-User': user } },
    });
  }

  /**
   * Returns when everything published so far has reached every page: an app's events arrive in
   * one order, so whatever was to come before the fence's event has come.
   */
  async fence() {
    const number = ++this.fences;
    const passed = this.clients.map((client) => client.passes(number));
    await this.publisher.trigger(FENCE, 'passed', number);
    await Promise.all(passed);
  }

  /** Lets a page go, as a closed tab does. */
  async leave(client) {
    this.clients = this.clients.filter((other) => other !== client);
    await client.close();
  }

  /** Starts the server again where it was. */
  async restart() {
    const { environment, server } = this;
    this.server = await Server.start({ port: server.port, environment });
  }

  async close() {
    await Promise.all(this.clients.map((client) => client.close()));
    await ChromiumClient.end();
    await this.application.close();
    await this.front.stop();
    await this.server.stop();
  }

  /** Where pusher-js finds the server. */
  address() {
    const { host, port, isSecure } = this.front;
    return {
      wsHost: host,
      wsPort: port,
      wssPort: port,
      forceTLS: isSecure,
      enabledTransports: ['ws', 'wss'],
    };
  }

  #authEndpoint() {
    return `${this.application.url}/broadcasting/auth`;
  }

  async #admit(withEcho, options) {
    const client = await Client.open(this.application, {
      key: APP.key,
      withEcho,
      options: { ...this.address(), ...options },
    });
    this.clients.push(client);
    return client;
  }
}
