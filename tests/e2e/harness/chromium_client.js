// A page in a tab of its own of the Chromium that `run.js` started.
import { Tabs } from './chromium.js';
import { Client } from './client.js';

let connecting;

export class ChromiumClient extends Client {
  static async open(application, settings) {
    connecting ??= Tabs.connect(process.env.E2E_CHROMIUM);
    const client = new ChromiumClient();
    client.tab = await (await connecting).open(`${application.url}/`);
    await client.tab.evaluate(`openPage(${JSON.stringify(settings)})`);
    return client;
  }

  /** Ends the connection to Chromium, which closes the tabs still open. */
  static async end() {
    await (await connecting)?.close();
    connecting = undefined;
  }

  run(action, argument) {
    return this.tab.evaluate(`(${action})(page, ${JSON.stringify(argument)})`);
  }

  /** As a person does: the tab is gone, without a word from its script. */
  close() {
    return this.tab.close();
  }
}
