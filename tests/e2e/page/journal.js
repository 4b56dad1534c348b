// What arrived in a page, in the order it arrived.
const WAIT_MS = 30_000;

export class Journal {
  #entries = [];
  #waiting = [];

  /** A listener that notes `label` and what it was called with. */
  note(label) {
    return (value) => {
      this.#entries.push([label, value]);
      this.#waiting = this.#waiting.filter((look) => !look());
    };
  }

  /** Waits for the `count`th entry, or fails with what there is. */
  async until(count, waitMs = WAIT_MS) {
    await this.#when(() => this.#entries.length >= count, `${count} entries`, waitMs);
  }

  /** Waits for an entry that `matches`. */
  async find(matches, waitMs = WAIT_MS) {
    const find = () => this.#entries.find(([label, value]) => matches(label, value));
    await this.#when(() => find() !== undefined, String(matches), waitMs);
    return find()[1];
  }

  /** Everything so far; the journal starts anew. */
  take() {
    return this.#entries.splice(0);
  }

  #when(isSo, what, waitMs) {
    if (isSo()) return Promise.resolve();
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        const have = JSON.stringify(this.#entries).slice(0, 2_000);
        reject(new Error(`no ${what} within ${waitMs} ms; there are: ${have}`));
      }, waitMs);
      this.#waiting.push(() => {
        if (!isSo()) return false;
        clearTimeout(timer);
        resolve();
        return true;
      });
    });
  }
}
