// Runs the suites, one after the other, in each of the ways that are asked for.
//
//   node run.js [suite...]        e.g. node run.js presence
//   SLAPBACK_BIN                  the binary (default ../../target/debug/slapback)
//   CHROMIUM_BIN                  the browser (default chromium)
//   E2E_CLIENTS                   where pages run: node,chromium
//   E2E_DRIVERS, E2E_SHARDS       how the server runs: uring,epoll and 1,4
//   E2E_MESSAGES                  how many Laravel publishes in a row (default 20000)
//   E2E_FRONTS                    what stands before it: none, or some of nginx,caddy,haproxy
//   E2E_INSIDE                    how that comes to the server: port (the default) or socket
import { spawn } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

import { makeCertificate } from './harness/certificate.js';
import { Chromium } from './harness/chromium.js';

const HERE = path.dirname(fileURLToPath(import.meta.url));
/** A suite ends in seconds; one that hangs is ended, as failed. */
const SUITE_MS = 300_000;

const listed = (name, standard) => (process.env[name] ?? standard).split(',');
const wanted = process.argv.slice(2);
const ways = [];
for (const front of listed('E2E_FRONTS', 'none'))
  for (const driver of listed('E2E_DRIVERS', 'uring,epoll'))
    for (const shards of listed('E2E_SHARDS', '1,4'))
      for (const client of listed('E2E_CLIENTS', 'node,chromium'))
        ways.push({ front, driver, shards, client });

/** Which folders of suites are for this way. */
function folders({ client, front }) {
  const alone = front === 'none';
  if (client === 'chromium') return ['clients', 'browser', ...(alone ? ['redis'] : [])];
  return ['clients', 'libraries', alone ? 'redis' : 'proxies'];
}

function suites(folder) {
  return readdirSync(path.join(HERE, 'suites', folder))
    .filter((file) => file.endsWith('.test.js'))
    .filter((file) => wanted.length === 0 || wanted.includes(file.replace('.test.js', '')))
    .sort()
    .map((file) => path.join('suites', folder, file));
}

/** Whether the suite passed. */
function run(suite, environment) {
  const child = spawn(process.execPath, ['--test', '--test-reporter=spec', suite], {
    cwd: HERE,
    stdio: 'inherit',
    env: { ...process.env, ...environment },
  });
  const timer = setTimeout(() => child.kill('SIGTERM'), SUITE_MS);
  return new Promise((resolve) => {
    child.on('close', (code) => {
      clearTimeout(timer);
      resolve(code === 0);
    });
  });
}

// Whatever a run leaves on disk, its servers, browsers and proxies included, goes with it.
const folder = mkdtempSync(path.join(tmpdir(), 'slapback-e2e-'));
process.env.TMPDIR = folder;
process.on('exit', () => rmSync(folder, { recursive: true, force: true }));

const tls = ways.some(({ front }) => front !== 'none') ? makeCertificate() : undefined;
const chromium = ways.some(({ client }) => client === 'chromium')
  ? await Chromium.start(tls?.hash)
  : undefined;
const failed = [];
let count = 0;
for (const way of ways) {
  for (const suite of folders(way).flatMap(suites)) {
    const before = way.front === 'none' ? '' : ` behind ${way.front}`;
    const name = `${suite} in ${way.client}, ${way.shards} shard(s), ${way.driver}${before}`;
    console.log(`== e2e ${name}`);
    count += 1;
    const isFine = await run(suite, {
      E2E_CLIENT: way.client,
      E2E_FRONT: way.front,
      SLAPBACK_DRIVER: way.driver,
      SLAPBACK_SHARDS: way.shards,
      ...(chromium && { E2E_CHROMIUM: chromium.address }),
      ...(tls && { E2E_TLS: tls.folder, NODE_EXTRA_CA_CERTS: tls.certificate }),
    });
    if (!isFine) failed.push(name);
  }
}
await chromium?.stop();
for (const name of failed) console.log(`FAILED: ${name}`);
if (count === 0) console.error(`no suite named ${wanted.join(', ')}`);
process.exit(count > 0 && failed.length === 0 ? 0 : 1);
