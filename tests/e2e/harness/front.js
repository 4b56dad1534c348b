// What clients and publishers connect to: the server itself, or the proxy that `E2E_FRONT` names,
// run with the very file that deploy/proxies has for operators. With `E2E_INSIDE=socket` the proxy
// comes by a Unix socket, named as docs/proxies.md says.
import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

import { Child, until } from './child.js';
import { freePort } from './port.js';
import { isUp } from './server.js';

const FILES = fileURLToPath(new URL('../../../deploy/proxies', import.meta.url));
const PAGE = fileURLToPath(new URL('../../../docs/proxies.md', import.meta.url));
const HOST = '127.0.0.1';
const START_MS = 15_000;
// Workers of a master that is root would be nobody, who may not enter our folders.
const USER = process.getuid() === 0 ? 'user root; ' : '';

/**
 * How each proxy is run in the foreground, and what its file says that cannot be so here: each
 * pair is a text that must stand there, and ours for it.
 */
const PROXIES = {
  nginx: {
    file: 'nginx.conf',
    argv: (config, folder) => {
      const directives = `${USER}daemon off; pid nginx.pid;`;
      return ['-p', folder, '-c', config, '-g', directives];
    },
    edits: ({ port, inside, certificate, key }) => [
      ['listen 443 ssl;', `listen ${HOST}:${port} ssl; access_log off;`],
      ['127.0.0.1:8080', inside],
      ['/etc/ssl/slapback/fullchain.pem', certificate],
      ['/etc/ssl/slapback/privkey.pem', key],
    ],
  },
  caddy: {
    file: 'Caddyfile',
    argv: (config) => ['run', '--adapter', 'caddyfile', '--config', config],
    edits: ({ port, inside, certificate, key }) => [
      ['ws.example.com {', `{\n\tadmin off\n\tauto_https off\n}\nhttps://${HOST}:${port} {`],
      ['127.0.0.1:8080', inside],
      ['/etc/ssl/slapback/fullchain.pem', certificate],
      ['/etc/ssl/slapback/privkey.pem', key],
    ],
  },
  haproxy: {
    file: 'haproxy.cfg',
    argv: (config) => ['-db', '-f', config],
    edits: ({ port, inside, both }) => [
      ['bind :443 ', `bind ${HOST}:${port} `],
      ['127.0.0.1:8080', inside],
      ['/etc/haproxy/certs/slapback.pem', both],
    ],
  },
};

/** What a server is to be told so that it listens where the proxy will come. */
export function insideOf() {
  if (process.env.E2E_INSIDE !== 'socket') return {};
  return { SLAPBACK_UNIX_SOCKET: path.join(mkdtempSync(path.join(tmpdir(), 'inside-')), 'socket') };
}

/** How the proxy's file names that place. */
function placeOf(name, serverPort, socket) {
  if (socket === undefined) return `${HOST}:${serverPort}`;
  const row = new RegExp(`^\\| ${name} \\| \`(unix\\S+)\` \\|$`, 'im');
  const [, place] = row.exec(readFileSync(PAGE, 'utf8'));
  return place.replace('/run/slapback/socket', socket);
}

/** Starts what is to stand in front of the server on `serverPort`, or on `socket` if it has one. */
export async function startFront(serverPort, socket) {
  const name = process.env.E2E_FRONT ?? 'none';
  if (name === 'none') return { host: HOST, port: serverPort, isSecure: false, stop() {} };
  const inside = placeOf(name, serverPort, socket);
  const front = new Front(name, await freePort(), inside);
  try {
    const address = `https://${HOST}:${front.port}`;
    await until(START_MS, () => front.answers(address), `no answer through ${name}`);
  } catch (error) {
    await front.stop();
    throw new Error(`${error.message}\n${front.child.log()}`);
  }
  return front;
}

class Front {
  host = HOST;
  isSecure = true;

  constructor(name, port, inside) {
    this.port = port;
    const folder = mkdtempSync(path.join(tmpdir(), `${name}-`));
    const { file, argv, edits } = PROXIES[name];
    const config = path.join(folder, file);
    const certificate = path.join(process.env.E2E_TLS, 'certificate.pem');
    const key = path.join(process.env.E2E_TLS, 'key.pem');
    const both = path.join(process.env.E2E_TLS, 'both.pem');
    let text = readFileSync(path.join(FILES, file), 'utf8');
    for (const [theirs, ours] of edits({ port, inside, certificate, key, both })) {
      if (!text.includes(theirs)) throw new Error(`${file} does not say ${theirs}`);
      text = text.replaceAll(theirs, ours);
    }
    writeFileSync(config, text);
    this.child = new Child(name, argv(config, folder), {
      cwd: folder,
      env: { PATH: `${process.env.PATH}:/usr/sbin`, HOME: folder },
    });
  }

  async answers(address) {
    if (this.child.how !== undefined) throw new Error(`it ended: ${this.child.how}`);
    return isUp(address);
  }

  stop() {
    return this.child.stop('SIGTERM');
  }
}
