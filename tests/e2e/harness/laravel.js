// A Redis, and Laravel's own broadcasting on it in PHP: what it publishes, and whom it lets in.
import path from 'node:path';
import { fileURLToPath } from 'node:url';

import { Child, until } from './child.js';
import { freePort } from './port.js';
import { APP } from './server.js';

const CODE = path.join(path.dirname(fileURLToPath(import.meta.url)), '../laravel');
const HOST = '127.0.0.1';
const START_MS = 15_000;
const PUBLISH_MS = 60_000;

/** A `redis-server` that keeps nothing. */
export class Redis {
  static async start() {
    const redis = new Redis();
    redis.port = await freePort();
    const argv = ['--port', String(redis.port), '--bind', HOST, '--save', ''];
    redis.child = new Child('redis-server', argv, { env: { PATH: process.env.PATH } });
    await redis.child.line(/Ready to accept connections/, START_MS);
    return redis;
  }

  stop() {
    return this.child.stop('SIGTERM');
  }
}

/** An application: one PHP process that publishes, one that answers `/broadcasting/auth`. */
export class Laravel {
  #published = 0;

  static async start(redis) {
    const laravel = new Laravel();
    const env = {
      PATH: process.env.PATH,
      REDIS_PORT: String(redis.port),
      REVERB_APP_KEY: APP.key,
      REVERB_APP_SECRET: APP.secret,
    };
    laravel.publisher = new Child('php', [path.join(CODE, 'publish.php')], { env });
    const address = `${HOST}:${await freePort()}`;
    laravel.auth = new Child('php', ['-S', address, path.join(CODE, 'auth.php')], { env });
    laravel.authEndpoint = `http://${address}/broadcasting/auth`;
    const asks = () => fetch(laravel.authEndpoint, { method: 'OPTIONS' }).then(
      (answer) => answer.ok,
      () => false,
    );
    await until(START_MS, asks, 'no answer of PHP');
    return laravel;
  }

  /** Broadcasts `{ channels, event, data }`, and so often with `times`; returns when it is done. */
  async publish(event) {
    this.publisher.process.stdin.write(`${JSON.stringify(event)}\n`);
    this.#published += 1;
    const count = this.#published;
    const said = () => this.publisher.lines.filter((line) => line === 'published').length;
    await until(PUBLISH_MS, () => said() >= count, `PHP does not publish: ${this.publisher.log()}`);
  }

  async stop() {
    await this.publisher.stop('SIGTERM');
    await this.auth.stop('SIGTERM');
  }
}
