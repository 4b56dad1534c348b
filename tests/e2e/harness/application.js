// The Laravel application's side: the page, `/broadcasting/auth`, and a request that broadcasts.
import { readFile } from 'node:fs/promises';
import http from 'node:http';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = path.join(path.dirname(fileURLToPath(import.meta.url)), '..');
const FILES = {
  '/': ['page/index.html', 'text/html'],
  '/page/page.js': ['page/page.js', 'text/javascript'],
  '/page/journal.js': ['page/journal.js', 'text/javascript'],
  '/vendor/axios.js': ['node_modules/axios/dist/axios.min.js', 'text/javascript'],
  '/vendor/pusher.js': [
    'node_modules/pusher-js/dist/web/pusher-with-encryption.min.js',
    'text/javascript',
  ],
  '/vendor/echo.js': ['node_modules/laravel-echo/dist/echo.iife.js', 'text/javascript'],
};

export class Application {
  /** Started on a free port; Pusher's own server library signs and publishes for it. */
  static async start(publisher) {
    const application = new Application();
    application.publisher = publisher;
    application.server = http.createServer((request, response) => {
      application.#answer(request).then(
        ({ status = 200, type = 'application/json', body }) =>
          response.writeHead(status, { 'Content-Type': type }).end(body),
        (error) => response.writeHead(500).end(String(error)),
      );
    });
    await new Promise((resolve) => application.server.listen(0, '127.0.0.1', resolve));
    application.url = `http://127.0.0.1:${application.server.address().port}`;
    return application;
  }

  close() {
    this.server.closeAllConnections();
    return new Promise((resolve) => this.server.close(resolve));
  }

  /** What is told of a user to the others on a presence channel. */
  member(user) {
    return { user_id: user, user_info: { name: user } };
  }

  async #answer(request) {
    let body = '';
    for await (const piece of request.setEncoding('utf8')) body += piece;
    switch (`${request.method} ${request.url}`) {
      case 'POST /broadcasting/auth':
        return this.#authorize(request.headers['x-user'], new URLSearchParams(body));
      case 'POST /documents':
        return this.#save(request.headers['x-socket-id'], body);
      default: {
        const [file, type] = FILES[request.url] ?? [];
        if (request.method !== 'GET' || !file) return { status: 404 };
        return { type, body: await readFile(path.join(ROOT, file)) };
      }
    }
  }

  /**
   * Who asks is in the `X-User` header. Channels with `forbidden` in their name get 403, those
   * with `forged` a signature made for another channel.
   */
  #authorize(user, asked) {
    const channel = asked.get('channel_name');
    if (channel.includes('forbidden')) return { status: 403, body: '{"message":"no"}' };
    const signed = channel.includes('forged') ? `${channel}-other` : channel;
    const member = channel.startsWith('presence-') ? this.member(user) : undefined;
    const answer = this.publisher.authorizeChannel(asked.get('socket_id'), signed, member);
    return { body: JSON.stringify(answer) };
  }

  /** What Laravel makes of `broadcast(new Saved($document))->toOthers()`. */
  async #save(socketId, document) {
    const [name, event] = ['private-documents', 'App\\Events\\Saved'];
    await this.publisher.trigger(name, event, JSON.parse(document), { socket_id: socketId });
    return { status: 201, body: document };
  }
}
