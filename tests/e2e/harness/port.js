// Ports for those who do not choose their own.
import net from 'node:net';

/** A port of 127.0.0.1 that nobody listens on. */
export async function freePort() {
  const probe = net.createServer();
  await new Promise((resolve) => probe.listen(0, '127.0.0.1', resolve));
  const { port } = probe.address();
  await new Promise((resolve) => probe.close(resolve));
  return port;
}
