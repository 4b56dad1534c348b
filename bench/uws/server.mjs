// A bare uWebSockets server: the least that lets clients subscribe and whisper, and is told of
// events by its API. The bench starts it with an address and reads its port. It checks nothing and
// keeps nothing.

import { createRequire } from 'node:module';

// The package's own entry falls back to JavaScript where its binary does not fit; this does not.
const { platform, arch, versions } = process;
const uws = createRequire(import.meta.url)(
  `@trufflesuite/uws-js-unofficial/binaries/uws_${platform}_${arch}_${versions.modules}.node`,
);

const hello = JSON.stringify({
  event: 'pusher:connection_established',
  data: JSON.stringify({ socket_id: '123456789.987654321', activity_timeout: 30 }),
});
const parse = (bytes) => JSON.parse(Buffer.from(bytes).toString());

const app = uws
  .App()
  .ws('/app/:key', {
    // The load never answers a ping, and may be late for a while.
    idleTimeout: 0,
    maxBackpressure: 0,
    open(socket) {
      socket.send(hello);
    },
    message(socket, message) {
      const { event, data, channel } = parse(message);
      if (event === 'pusher:subscribe') {
        socket.subscribe(data.channel);
        const event = 'pusher_internal:subscription_succeeded';
        socket.send(JSON.stringify({ event, data: '{}', channel: data.channel }));
      } else if (event === 'pusher:ping') {
        socket.send(JSON.stringify({ event: 'pusher:pong', data: {} }));
      } else {
        socket.publish(channel, message);
      }
    },
  })
  .post('/apps/:id/events', (response) => {
    const chunks = [];
    response.onAborted(() => {});
    response.onData((chunk, isLast) => {
      chunks.push(Buffer.from(chunk.slice(0)));
      if (!isLast) return;
      const { name, channel, data } = parse(Buffer.concat(chunks));
      app.publish(channel, JSON.stringify({ event: name, data, channel }));
      response.writeHeader('Content-Type', 'application/json').end('{}');
    });
  })
  .listen(process.argv[2], 0, (socket) => console.log(uws.us_socket_local_port(socket)));
