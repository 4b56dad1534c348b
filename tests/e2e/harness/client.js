// A page under a test's hand, wherever it runs. An action is a function that is given the page
// and one argument, and nothing else: in Chromium it is sent there as text.
export class Client {
  /** Subscribes with pusher-js, notes the named events from the first on, and waits for it. */
  follow(name, ...events) {
    return this.run(follow, { name, events });
  }

  /** Waits for the journal's `count`th entry. */
  until(count, waitMs) {
    return this.run(({ journal }, wanted) => journal.until(wanted.count, wanted.waitMs), {
      count,
      waitMs,
    });
  }

  /** Everything in the journal, which starts anew. */
  take() {
    return this.run(({ journal }) => journal.take());
  }

  socketId() {
    return this.run(({ pusher }) => pusher.connection.socket_id);
  }

  /** Waits for the fence's event of this number. */
  passes(number) {
    return this.run(({ fence }, wanted) => fence.find((_, value) => value === wanted), number);
  }
}

async function follow({ pusher, note, subscribed }, { name, events }) {
  const channel = pusher.subscribe(name);
  for (const event of events) channel.bind(event, note(`${name} ${event}`));
  const members = await subscribed(channel);
  return members && { count: members.count, me: members.me, members: members.members };
}
