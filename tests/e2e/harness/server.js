// The binary under test: started on a free port, watched, stopped by signal.
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

import { Child, until } from './child.js';

const HERE = path.dirname(fileURLToPath(import.meta.url));
const BINARY = path.resolve(
  process.env.SLAPBACK_BIN ?? path.join(HERE, '../../../target/debug/slapback'),
);
const START_MS = 10_000;

/** The one app of every test but the demo's; Python's library wants a number for an id. */
export const APP = { id: '765432', key: 'key-e2e', secret: 'secret-e2e' };

/** How this run is to be served; `run.js` goes through all of them. */
const SHARDS = process.env.SLAPBACK_SHARDS ?? '1';
const DRIVER = process.env.SLAPBACK_DRIVER ?? 'epoll';

export class Server {
  /**
   * Starts the binary and waits until `/up` answers. Port 0 is any free one; `environment` is
   * beside what every test has, `argv` what follows `start`.
   */
  static async start({ port = 0, environment = {}, argv = [] } = {}) {
    const server = new Server(port, environment, argv);
    try {
      await server.#started();
    } catch (error) {
      await server.kill();
      throw error;
    }
    return server;
  }

  constructor(port, environment, argv) {
    // An empty folder, so that no `.env` lying about has a say.
    const folder = mkdtempSync(path.join(tmpdir(), 'server-'));
    this.child = new Child(BINARY, ['start', ...argv], {
      cwd: folder,
      env: {
        PATH: process.env.PATH,
        REVERB_APP_ID: APP.id,
        REVERB_APP_KEY: APP.key,
        REVERB_APP_SECRET: APP.secret,
        REVERB_SERVER_HOST: '127.0.0.1',
        REVERB_SERVER_PORT: String(port),
        SLAPBACK_SHARDS: SHARDS,
        SLAPBACK_DRIVER: DRIVER,
        SLAPBACK_DRAIN_SECONDS: '0',
        ...environment,
      },
    });
  }

  /** Asks it to stop; it must do so in time, with exit code 0. */
  async stop() {
    const how = await this.child.stop('SIGTERM');
    if (how !== 0) throw new Error(`the server ended with ${how}\n${this.child.log()}`);
  }

  /** Ends it as a crash would: no Close frame, no farewell. */
  kill() {
    return this.child.kill();
  }

  async #started() {
    const [, port] = await this.child.line(/Starting server on \S+?:(\d+)\b/, START_MS);
    this.port = Number(port);
    const [, driver] = await this.child.line(/driver[: =]+(io_?uring|epoll)/i, START_MS);
    const taken = driver.toLowerCase().startsWith('io') ? 'uring' : 'epoll';
    if (taken !== DRIVER) throw new Error(`asked for the ${DRIVER} driver, got ${driver}`);
    await until(START_MS, () => isUp(`http://127.0.0.1:${this.port}`), 'no answer from /up');
  }
}

/** Whether the server, or the one behind the proxy, at this address is up. */
export async function isUp(address) {
  try {
    const answer = await fetch(`${address}/up`, { signal: AbortSignal.timeout(START_MS) });
    return answer.ok && (await answer.text()) === '{"health":"OK"}';
  } catch {
    return false;
  }
}
