// The log of events: callers publish into it, and read it in one order that skips nothing.

import type { Event, EventFeed, EventFilter, NewEvent } from "../events.js";
import { sleep, type Transport } from "../transport.js";
import { list, read, write } from "../wire.js";
import { idempotencyKey } from "./claims.js";

const REQUIRED = ["id", "sequence", "type", "source", "outcome", "at", "data"] as const;

interface PublishOptions {
  readonly idempotencyKey?: string;
}

/** `client.events` */
export class Events {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /**
   * Publishes an event, and gives its id; or many, of which all are written or none. When this
   * resolves, they are on disk. A lost answer is repeated under the same key, so that nothing is
   * written twice.
   *
   * ```ts
   * await client.events.publish({ type: "com.example.order.paid", subject: "order 7" });
   * ```
   */
  publish(event: NewEvent, options?: PublishOptions): Promise<string>;
  publish(events: readonly NewEvent[], options?: PublishOptions): Promise<string[]>;
  async publish(
    events: NewEvent | readonly NewEvent[],
    options: PublishOptions = {},
  ): Promise<string | string[]> {
    const many = "type" in events ? undefined : events;
    const { body } = await this.#transport.send({
      method: "POST",
      path: "/v1/events",
      body: many === undefined ? write(events) : { events: many.map(write) },
      headers: { "Idempotency-Key": options.idempotencyKey ?? idempotencyKey() },
      repeatable: true,
    });
    if (many !== undefined) return list(body, "ids").map(String);
    return read<{ id: string }>(body, "id").id;
  }

  /**
   * The events that are there, in their order. Pages are fetched as they are needed.
   *
   * ```ts
   * for await (const event of client.events.list({ type: "onceguard.did.revoked" })) show(event);
   * ```
   */
  async *list(filter: EventFilter = {}): AsyncGenerator<Event, void> {
    let page = await this.#page(filter, undefined);
    while (page.items.length > 0) {
      yield* page.items;
      page = await this.#page(filter, page.nextCursor);
    }
  }

  /**
   * The events in their order, in pages, and for ever: a page without items says that there is
   * nothing new, and the next one is asked for after `waitMilliseconds` (1000). Keep the `nextCursor`
   * of a page that is done, and give it as `since` to go on there.
   *
   * ```ts
   * for await (const page of client.events.follow({ since })) {
   *   for (const event of page.items) act(event);
   *   since = page.nextCursor;
   * }
   * ```
   *
   * Throws `CursorExpiredError` when events were removed that `since` has not seen: begin without it.
   */
  async *follow(
    options: EventFilter & { readonly since?: string; readonly waitMilliseconds?: number } = {},
  ): AsyncGenerator<EventFeed, void> {
    const { since, waitMilliseconds = 1000, ...filter } = options;
    for (let cursor = since; ; ) {
      const page = await this.#page(filter, cursor);
      yield page;
      cursor = page.nextCursor;
      if (page.items.length === 0) await sleep(waitMilliseconds);
    }
  }

  async #page(filter: EventFilter, since: string | undefined): Promise<EventFeed> {
    const { pageSize: limit, ...conditions } = filter;
    const query = { ...conditions, limit, since };
    const call = { method: "GET", path: "/v1/events", query, repeatable: true };
    const { body } = await this.#transport.send(call);
    const items = list(body, "items").map((item) => read<Event>(item, ...REQUIRED));
    return { items, nextCursor: read<EventFeed>(body, "nextCursor").nextCursor };
  }
}
