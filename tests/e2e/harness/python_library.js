// Pusher's server library for Python, as an application in that language has it.
import path from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

import { Child, within } from './child.js';
import { APP } from './server.js';

const ROOT = fileURLToPath(new URL('../../..', import.meta.url));
const PYTHON = path.join(ROOT, 'target/e2e-venv/bin/python');
const SCRIPT = path.join(ROOT, 'tests/e2e/python/publisher.py');
const CALL_MS = 30_000;

export class PythonLibrary {
  constructor({ host, port, isSecure }, masterKey) {
    this.child = new Child(PYTHON, [SCRIPT], { env: process.env });
    this.outcomes = createInterface({ input: this.child.process.stdout })[Symbol.asyncIterator]();
    this.#say({
      app_id: APP.id,
      key: APP.key,
      secret: APP.secret,
      host,
      port,
      ssl: isSecure,
      encryption_master_key_base64: masterKey,
    });
  }

  /** What the library's method returns; what it raises is an error with that class's `name`. */
  async call(method, args, keywords = {}) {
    this.#say([method, args, keywords]);
    const late = () => new Error(`no outcome of ${method}\n${this.child.log()}`);
    const { value: line } = await within(CALL_MS, this.outcomes.next(), late);
    if (line === undefined) throw late();
    const { value, error } = JSON.parse(line);
    if (error) throw Object.assign(new Error(error[1]), { name: error[0] });
    return value;
  }

  async stop() {
    this.child.process.stdin.end();
    await this.child.stop();
  }

  #say(value) {
    this.child.process.stdin.write(`${JSON.stringify(value)}\n`);
  }
}
