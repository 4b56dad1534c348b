// A page in this process: pusher-js's build for Node, laravel-echo, axios.
import axios from 'axios';
import Echo from 'laravel-echo';
import Pusher from 'pusher-js';
import nacl from 'tweetnacl';

import { openPage } from '../page/page.js';
import { Client } from './client.js';

export class NodeClient extends Client {
  static async open(application, settings) {
    const client = new NodeClient();
    // An axios of its own, for Echo marks each request of the one it finds with its socket's id.
    const libraries = { Pusher, Echo, nacl, axios: axios.create({ baseURL: application.url }) };
    client.page = await openPage(libraries, settings);
    return client;
  }

  async run(action, argument) {
    const result = await action(this.page, argument);
    return result === undefined ? undefined : JSON.parse(JSON.stringify(result));
  }

  close() {
    this.page.pusher.disconnect();
  }
}
