// Webhooks: where events are sent, what became of them there, and sending them again.

import type { Transport } from "../transport.js";
import type {
  CreatedWebhook,
  NewWebhook,
  Webhook,
  WebhookChange,
  WebhookDelivery,
  WebhookDeliveryFilter,
  WebhookReplay,
} from "../webhooks.js";
import { list, read, write } from "../wire.js";
import { pages } from "./pages.js";

const REQUIRED = ["id", "url", "types", "signature", "state", "createdAt"] as const;

/** `client.webhooks` */
export class Webhooks {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /**
   * Makes a webhook, which gets the events that come from now on. Only this answer has its `secret`.
   * It is sent once: when its answer was lost, look for the webhook in the list, delete it, and make
   * another one.
   *
   * ```ts
   * const types = ["com.example.order.paid"];
   * const { secret } = await client.webhooks.create({ url: "https://receiver.example/hooks", types });
   * ```
   */
  async create(webhook: NewWebhook): Promise<CreatedWebhook> {
    const call = { method: "POST", path: "/v1/webhooks", body: write(webhook) };
    const { body } = await this.#transport.send(call);
    const { secret, ...shown } = read<CreatedWebhook>(body, ...REQUIRED, "secret");
    // Not enumerable, so that no log line gets it.
    return Object.defineProperty(shown as CreatedWebhook, "secret", { value: secret });
  }

  /** All webhooks, the oldest first, without their secrets. */
  async list(): Promise<Webhook[]> {
    const call = { method: "GET", path: "/v1/webhooks", repeatable: true };
    const { body } = await this.#transport.send(call);
    return list(body, "items").map((item) => read<Webhook>(item, ...REQUIRED));
  }

  /** Changes, pauses or resumes a webhook. What waited for it is sent once it is resumed. */
  async change(id: string, change: WebhookChange): Promise<Webhook> {
    const call = { method: "PATCH", path: path(id), body: write(change) };
    return read<Webhook>((await this.#transport.send(call)).body, ...REQUIRED);
  }

  /** Deletes a webhook, and what is left to send to it. */
  async delete(id: string): Promise<void> {
    await this.#transport.send({ method: "DELETE", path: path(id) });
  }

  /**
   * What became of events at a webhook, the newest event first. Pages are fetched as they are needed.
   *
   * ```ts
   * for await (const { event, lastError } of client.webhooks.deliveries(id, { state: "dead" })) {
   *   console.log(event, lastError);
   * }
   * ```
   */
  async *deliveries(
    id: string,
    filter: WebhookDeliveryFilter = {},
  ): AsyncGenerator<WebhookDelivery, void> {
    const query = { state: filter.state, limit: filter.pageSize };
    for await (const item of pages(this.#transport, path(id, "deliveries"), query)) {
      yield read<WebhookDelivery>(item, "event", "sequence", "state", "attempts", "createdAt");
    }
  }

  /**
   * Sends an event again, or all since a time, also those that the receiver took.
   *
   * ```ts
   * await client.webhooks.replay(id, { since: "2026-01-02T03:04:05Z" });
   * ```
   */
  async replay(id: string, events: WebhookReplay): Promise<void> {
    const call = { method: "POST", path: path(id, "replay"), body: write(events) };
    await this.#transport.send(call);
  }
}

function path(...parts: string[]): string {
  return ["/v1/webhooks", ...parts.map(encodeURIComponent)].join("/");
}
