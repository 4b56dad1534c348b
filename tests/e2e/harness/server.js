// The binary under test: started on a free port, watched, stopped by signal.
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const HERE = path.dirname(fileURLToPath(import.meta.url));
const BINARY = path.resolve(
  process.env.SLAPBACK_BIN ?? path.join(HERE, '../../../target/debug/slapback'),
);
const START_MS = 10_000;
const STOP_MS = 10_000;

/** The one app of every test. */
export const APP = { id: 'app-e2e', key: 'key-e2e', secret: 'secret-e2e' };

/** How this run is to be served; `run.js` goes through all of them. */
export const SHARDS = process.env.SLAPBACK_SHARDS ?? '1';
export const DRIVER = process.env.SLAPBACK_DRIVER ?? 'epoll';

export class Server {
  /** Starts the binary and waits until `/up` answers. Port 0 is any free one. */
  static async start(port = 0) {
    const server = new Server(port);
    await server.#started();
    return server;
  }

  constructor(port) {
    // An empty folder, so that no `.env` lying about has a say.
    this.folder = mkdtempSync(path.join(tmpdir(), 'slapback-e2e-'));
    this.lines = [];
    this.child = spawn(BINARY, ['start'], {
      cwd: this.folder,
      stdio: ['ignore', 'pipe', 'pipe'],
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
      },
    });
    this.ended = new Promise((resolve) => {
      this.child.on('error', (error) => resolve(`not started: ${error.message}`));
      this.child.on('exit', (code, signal) => resolve(signal ?? code));
    });
    this.ended.then((how) => (this.how = how));
    for (const stream of [this.child.stdout, this.child.stderr]) {
      let rest = '';
      stream.setEncoding('utf8').on('data', (text) => {
        const lines = (rest + text).split('\n');
        rest = lines.pop();
        this.lines.push(...lines);
      });
    }
  }

  /** Asks it to stop; it must do so in time, with exit code 0. */
  async stop() {
    this.child.kill('SIGTERM');
    const how = await within(STOP_MS, this.ended, 'the server does not stop').catch((error) => {
      this.child.kill('SIGKILL');
      throw new Error(`${error.message}\n${this.log()}`);
    });
    this.#forget();
    if (how !== 0) {
      throw new Error(`the server ended with ${how}\n${this.log()}`);
    }
  }

  /** Ends it as a crash would: no Close frame, no farewell. */
  async kill() {
    this.child.kill('SIGKILL');
    await this.ended;
    this.#forget();
  }

  log() {
    return this.lines.join('\n');
  }

  async #started() {
    const deadline = Date.now() + START_MS;
    try {
      const [, port] = await this.#line(/Starting server on \S+?:(\d+)\b/, deadline);
      this.port = Number(port);
      const [, driver] = await this.#line(/driver[: =]+(io_?uring|epoll)/i, deadline);
      this.driver = driver.toLowerCase().startsWith('io') ? 'uring' : 'epoll';
      if (DRIVER !== 'auto' && this.driver !== DRIVER) {
        throw new Error(`asked for the ${DRIVER} driver, got ${driver}`);
      }
      while (!(await this.#isUp())) {
        this.#giveUpAt(deadline, '/up does not answer');
        await sleep(10);
      }
    } catch (error) {
      await this.kill();
      throw new Error(`${error.message}\n${this.log()}`);
    }
  }

  async #line(pattern, deadline) {
    for (;;) {
      const found = this.lines.map((line) => line.match(pattern)).find(Boolean);
      if (found) return found;
      this.#giveUpAt(deadline, `no line like ${pattern}`);
      await sleep(5);
    }
  }

  #giveUpAt(deadline, what) {
    if (this.how !== undefined) throw new Error(`the server ended: ${this.how}`);
    if (Date.now() > deadline) throw new Error(what);
  }

  async #isUp() {
    try {
      const answer = await fetch(`http://127.0.0.1:${this.port}/up`);
      return answer.ok && (await answer.text()) === '{"health":"OK"}';
    } catch {
      return false;
    }
  }

  #forget() {
    rmSync(this.folder, { recursive: true, force: true });
  }
}

export function sleep(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** `promise`, or an error that says `what` after `ms`. */
export function within(ms, promise, what) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what} (${ms} ms)`)), ms);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}
