// A cable between clients and the server that a test can cut, or let go silent.
import net from 'node:net';

export class Cable {
  #pairs = new Set();
  #isCut = false;
  #waiting = [];

  /** Lays one to this port; it leads from its own `port`. */
  static async lay(port, host = '127.0.0.1') {
    const cable = new Cable();
    cable.server = net.createServer((near) => {
      const join = () => cable.#join(near, net.connect(port, host));
      if (cable.#isCut) cable.#waiting.push(join);
      else join();
    });
    await new Promise((resolve) => cable.server.listen(0, host, resolve));
    cable.port = cable.server.address().port;
    return cable;
  }

  /** Ends every connection without a farewell; new ones wait for `splice`. */
  cut() {
    this.#isCut = true;
    for (const pair of this.#pairs) for (const end of pair) end.resetAndDestroy();
  }

  /** Leads through again. */
  splice() {
    this.#isCut = false;
    for (const join of this.#waiting.splice(0)) join();
  }

  /** Lets nothing more through, and says so to nobody; new connections may be made. */
  silence() {
    for (const [near, far] of this.#pairs) {
      near.unpipe(far).pause();
      far.unpipe(near).pause();
    }
  }

  close() {
    this.splice();
    this.cut();
    return new Promise((resolve) => this.server.close(resolve));
  }

  #join(near, far) {
    const pair = [near, far];
    this.#pairs.add(pair);
    for (const [one, other] of [pair, [far, near]]) {
      one.pipe(other);
      one.on('error', () => other.destroy());
      one.on('close', () => {
        other.destroy();
        this.#pairs.delete(pair);
      });
    }
  }
}
