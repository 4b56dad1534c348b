// A process that a test started: its lines, its end, and that nothing of it is left behind.
import { spawn } from 'node:child_process';

const STOP_MS = 15_000;
const alive = new Set();

// A child has a group of its own, so that its own children (nginx's workers) go with it.
process.on('exit', () => alive.forEach((child) => child.signal('SIGKILL')));
for (const signal of ['SIGINT', 'SIGTERM']) {
  process.once(signal, () => {
    console.error(`ended by ${signal}`);
    process.exit(1);
  });
}

export class Child {
  #looking = [];

  constructor(command, argv, { cwd, env } = {}) {
    this.name = command.split('/').pop();
    this.lines = [];
    this.process = spawn(command, argv, {
      cwd,
      env,
      detached: true,
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    alive.add(this);
    this.ended = new Promise((resolve) => {
      this.process.on('error', (error) => resolve(`not started: ${error.message}`));
      this.process.on('close', (code, signal) => resolve(signal ?? code));
    });
    this.ended.then((how) => {
      alive.delete(this);
      this.how = how;
      this.#look();
    });
    for (const stream of [this.process.stdout, this.process.stderr]) this.#read(stream);
  }

  /** The match of the first line like `pattern`, printed already or still to come. */
  async line(pattern, waitMs) {
    const find = () => this.lines.map((line) => line.match(pattern)).find(Boolean);
    const found = new Promise((resolve, reject) => {
      this.#looking.push(() => {
        if (find()) resolve(find());
        else if (this.how !== undefined) reject(this.#error(`ended: ${this.how}`));
      });
    });
    this.#look();
    return within(waitMs, found, () => this.#error(`no line like ${pattern}`));
  }

  /** Asks it to stop and returns how it ended; what does not end in time is killed, an error. */
  async stop(signal = 'SIGTERM') {
    this.signal(signal);
    try {
      return await within(STOP_MS, this.ended, () => this.#error(`does not heed ${signal}`));
    } catch (error) {
      await this.kill();
      throw error;
    }
  }

  /** Ends it and its children as a crash would. */
  async kill() {
    this.signal('SIGKILL');
    await this.ended;
  }

  /** What it printed. */
  log() {
    return this.lines.join('\n');
  }

  signal(signal) {
    try {
      if (this.process.pid !== undefined) process.kill(-this.process.pid, signal);
    } catch (error) {
      if (error.code !== 'ESRCH') throw error;
    }
  }

  #read(stream) {
    let rest = '';
    stream.setEncoding('utf8').on('data', (text) => {
      const lines = (rest + text).split('\n');
      rest = lines.pop();
      this.lines.push(...lines);
      this.#look();
    });
  }

  #look() {
    for (const look of this.#looking) look();
  }

  #error(what) {
    return new Error(`${this.name} ${what}\n${this.log()}`);
  }
}

/** `promise`, or after `ms` the error that `late()` makes. */
export function within(ms, promise, late) {
  let timer;
  const timeout = new Promise((_, reject) => {
    timer = setTimeout(() => reject(late()), ms);
  });
  return Promise.race([promise, timeout]).finally(() => clearTimeout(timer));
}

/** Asks `isSo` until it says yes; `what` is missing if it does not within `ms`. */
export async function until(ms, isSo, what) {
  const deadline = Date.now() + ms;
  while (!(await isSo())) {
    if (Date.now() > deadline) throw new Error(`${what} (${ms} ms)`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
