// The application's side: `POST /broadcasting/auth`, signed by Pusher's own server library.
import http from 'node:http';

/**
 * Who asks is in the `X-User` header. Channels with `forbidden` in their name get 403, those with
 * `forged` a signature made for another channel.
 */
export async function startAuth(publisher) {
  const server = http.createServer(async (request, response) => {
    let body = '';
    for await (const piece of request.setEncoding('utf8')) body += piece;
    const asked = new URLSearchParams(body);
    const [socketId, channel] = [asked.get('socket_id'), asked.get('channel_name')];
    if (request.method !== 'POST' || request.url !== '/broadcasting/auth' || !channel) {
      response.writeHead(404).end();
    } else if (channel.includes('forbidden')) {
      response.writeHead(403, { 'Content-Type': 'application/json' }).end('{"message":"no"}');
    } else {
      const signed = channel.includes('forged') ? `${channel}-other` : channel;
      const user = request.headers['x-user'];
      const member = { user_id: user, user_info: { name: user } };
      const isPresence = channel.startsWith('presence-');
      const answer = publisher.authorizeChannel(socketId, signed, isPresence ? member : undefined);
      response.writeHead(200, { 'Content-Type': 'application/json' }).end(JSON.stringify(answer));
    }
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${server.address().port}/broadcasting/auth`,
    close() {
      server.closeAllConnections();
      return new Promise((resolve) => server.close(resolve));
    },
  };
}
