// Headless Chromium over its DevTools protocol: the browser, and tabs in it.
import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';

import CDP from 'chrome-remote-interface';

import { Child, within } from './child.js';

const BINARY = process.env.CHROMIUM_BIN ?? 'chromium';
const START_MS = 60_000;
const STEP_MS = 60_000;

/** A browser process with an empty profile. */
export class Chromium {
  /** `trusted` is the hash of the one public key that is believed without an authority. */
  static async start(trusted) {
    const chromium = new Chromium();
    const profile = mkdtempSync(path.join(tmpdir(), 'chromium-'));
    chromium.child = new Child(BINARY, [
      '--headless=new',
      '--no-sandbox', // it is root here, and meets nothing but this page
      '--disable-dev-shm-usage',
      '--disable-gpu',
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-extensions',
      '--disable-sync',
      '--hide-scrollbars',
      '--no-first-run',
      '--no-default-browser-check',
      // Tabs are all in the background here; their timers are to run as in front.
      '--disable-background-timer-throttling',
      '--disable-renderer-backgrounding',
      '--disable-backgrounding-occluded-windows',
      '--remote-debugging-port=0',
      `--user-data-dir=${profile}`,
      ...(trusted ? [`--ignore-certificate-errors-spki-list=${trusted}`] : []),
      'about:blank',
    ]);
    [, chromium.address] = await chromium.child.line(/DevTools listening on (ws:\S+)/, START_MS);
    return chromium;
  }

  stop() {
    return this.child.kill();
  }
}

/** The tabs of one test file, with cookies and caches of their own. */
export class Tabs {
  static async connect(address) {
    const tabs = new Tabs();
    tabs.devtools = await CDP({ target: address, local: true });
    const context = { disposeOnDetach: true };
    const created = await tabs.devtools.send('Target.createBrowserContext', context);
    tabs.context = created.browserContextId;
    return tabs;
  }

  /** Opens a tab and waits until everything of its page is loaded. */
  async open(url) {
    const { targetId } = await this.devtools.send('Target.createTarget', {
      url: 'about:blank',
      browserContextId: this.context,
    });
    const attach = { targetId, flatten: true };
    const { sessionId } = await this.devtools.send('Target.attachToTarget', attach);
    const tab = new Tab(this.devtools, targetId, sessionId);
    const { errorText } = await tab.send('Page.navigate', { url });
    if (errorText) throw new Error(`${url}: ${errorText}`);
    await tab.evaluate(
      'new Promise((done) => document.readyState === "complete" ? done() : onload = () => done())',
    );
    return tab;
  }

  close() {
    return this.devtools.close();
  }
}

class Tab {
  constructor(devtools, targetId, sessionId) {
    Object.assign(this, { devtools, targetId, sessionId });
  }

  /** What the expression, or the promise that it is, comes to. */
  async evaluate(expression) {
    const { result, exceptionDetails } = await this.send('Runtime.evaluate', {
      expression,
      awaitPromise: true,
      returnByValue: true,
    });
    if (exceptionDetails) {
      const { exception, text } = exceptionDetails;
      throw new Error(`in the page: ${exception?.description ?? text}`);
    }
    return result.value;
  }

  /** Leaves a picture of the tab, made as large as is said, in `file`. */
  async screenshot(file, width, height) {
    const size = { width, height, deviceScaleFactor: 1, mobile: false };
    await this.send('Emulation.setDeviceMetricsOverride', size);
    // What is behind another tab is not painted.
    await this.send('Page.bringToFront');
    const { data } = await this.send('Page.captureScreenshot', { format: 'png' });
    writeFileSync(file, Buffer.from(data, 'base64'));
  }

  close() {
    return this.devtools.send('Target.closeTarget', { targetId: this.targetId });
  }

  send(method, argument) {
    const answer = this.devtools.send(method, argument, this.sessionId);
    return within(STEP_MS, answer, () => new Error(`Chromium does not answer ${method}`));
  }
}
