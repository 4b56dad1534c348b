// The certificate of the proxies: made anew for a run, for this machine's own names.
import { execFileSync } from 'node:child_process';
import { createHash, X509Certificate } from 'node:crypto';
import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';

/**
 * Leaves `certificate.pem`, `key.pem` and `both.pem` in a new folder; `hash` is what Chromium
 * knows the key by.
 */
export function makeCertificate() {
  const folder = mkdtempSync(path.join(tmpdir(), 'tls-'));
  const [certificate, key] = ['certificate.pem', 'key.pem'].map((file) => path.join(folder, file));
  execFileSync(
    'openssl',
    [
      ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'],
      ['-days', '2', '-subj', '/CN=localhost'],
      ['-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1'],
      ['-keyout', key, '-out', certificate],
    ].flat(),
    { stdio: 'pipe' },
  );
  const pem = readFileSync(certificate);
  writeFileSync(path.join(folder, 'both.pem'), pem + readFileSync(key));
  const { publicKey } = new X509Certificate(pem);
  const hash = createHash('sha256').update(publicKey.export({ type: 'spki', format: 'der' }));
  return { folder, certificate, hash: hash.digest('base64') };
}
