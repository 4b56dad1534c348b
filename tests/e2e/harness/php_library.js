// Pusher's server library for PHP 7.2.6, as Laravel has it: its requests byte for byte as Guzzle
// sends them, signed anew. PHP's packages are in no registry that the tests install from.
import { createHash, createHmac } from 'node:crypto';
import net from 'node:net';
import tls from 'node:tls';

import { within } from './child.js';
import { APP } from './server.js';

const ANSWER_MS = 30_000;

export class PhpLibrary {
  #received = '';
  #heard = () => {};

  /** Guzzle keeps its connection for the next request, so there is one. */
  static async connect({ host, port, isSecure }) {
    const php = new PhpLibrary();
    php.host = `${host}:${port}`;
    php.socket = isSecure ? tls.connect({ host, port }) : net.connect({ host, port });
    await new Promise((resolve, reject) => {
      php.socket.once(isSecure ? 'secureConnect' : 'connect', resolve).once('error', reject);
    });
    php.socket.setEncoding('utf8').on('data', (text) => {
      php.#received += text;
      php.#heard();
    });
    return php;
  }

  get(path, parameters = {}) {
    return this.#ask('GET', path, parameters, '');
  }

  post(path, body) {
    return this.#ask('POST', path, {}, body);
  }

  close() {
    this.socket.destroy();
  }

  async #ask(method, path, parameters, body) {
    const target = `/apps/${APP.id}${path}`;
    const length = body === '' ? [] : [`Content-Length: ${Buffer.byteLength(body)}`];
    const head = [
      `${method} ${target}?${signed(method, target, parameters, body)} HTTP/1.1`,
      `Host: ${this.host}`,
      'User-Agent: GuzzleHttp/7',
      'Content-Type: application/json',
      'X-Pusher-Library: pusher-http-php 7.2.6',
      ...length,
    ];
    const answer = new Promise((resolve) => {
      this.#heard = () => {
        const found = this.#answer();
        if (found) resolve(found);
      };
    });
    this.socket.write(`${head.join('\r\n')}\r\n\r\n${body}`);
    return within(ANSWER_MS, answer, () => new Error(`no answer; there is: ${this.#received}`));
  }

  /** Takes a whole answer off what has come. The library takes no status but 200 for a success. */
  #answer() {
    const [head, rest] = this.#received.split(/\r\n\r\n(.*)/s);
    const length = /^content-length: (\d+)$/im.exec(head)?.[1];
    if (rest === undefined || rest.length < Number(length)) return undefined;
    this.#received = rest.slice(Number(length));
    return [Number(head.split(' ')[1]), rest.slice(0, Number(length))];
  }
}

/** The query: sorted, the signature among the rest. */
function signed(method, target, parameters, body) {
  const all = {
    auth_key: APP.key,
    auth_timestamp: String(Math.floor(Date.now() / 1000)),
    auth_version: '1.0',
    ...(body !== '' && { body_md5: createHash('md5').update(body).digest('hex') }),
    ...parameters,
  };
  const sorted = () => Object.keys(all).sort().map((name) => [name, all[name]]);
  const text = sorted().map(([name, value]) => `${name}=${value}`).join('&');
  const signature = createHmac('sha256', APP.secret).update(`${method}\n${target}\n${text}`);
  all.auth_signature = signature.digest('hex');
  return sorted()
    .map(([name, value]) => `${name}=${encodeURIComponent(value)}`)
    .join('&');
}
