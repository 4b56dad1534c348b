// Runs every suite against 1 and 4 shards, on both drivers, one after the other.
//
//   node run.js [suite...]        e.g. node run.js presence
//   SLAPBACK_BIN                  the binary (default ../../target/debug/slapback)
//   E2E_SHARDS, E2E_DRIVERS       comma lists that narrow the run
import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const here = path.dirname(fileURLToPath(import.meta.url));
const listed = (name, standard) => (process.env[name] ?? standard).split(',');
const wanted = process.argv.slice(2);
const suites = readdirSync(path.join(here, 'suites'))
  .filter((file) => file.endsWith('.test.js'))
  .filter((file) => wanted.length === 0 || wanted.includes(file.replace('.test.js', '')))
  .sort();

if (suites.length === 0) {
  console.error(`no suite named ${wanted.join(', ')}`);
  process.exit(64);
}

const failed = [];
for (const driver of listed('E2E_DRIVERS', 'uring,epoll')) {
  for (const shards of listed('E2E_SHARDS', '1,4')) {
    for (const suite of suites) {
      const name = `${suite} on ${shards} shard(s), ${driver}`;
      console.log(`== e2e ${name}`);
      const file = path.join('suites', suite);
      const { status } = spawnSync(process.execPath, ['--test', '--test-reporter=spec', file], {
        cwd: here,
        stdio: 'inherit',
        env: { ...process.env, SLAPBACK_DRIVER: driver, SLAPBACK_SHARDS: shards },
      });
      if (status !== 0) failed.push(name);
    }
  }
}
for (const name of failed) console.log(`FAILED: ${name}`);
process.exit(failed.length === 0 ? 0 : 1);
