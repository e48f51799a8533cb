// The processes that serve, or have served.

import type { Transport } from "../transport.js";
import type { Instance } from "../types.js";
import { read } from "../wire.js";
import { pages } from "./pages.js";

/** `client.instances` */
export class Instances {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /** The instances of the last week, the latest start first. Pages are fetched as they are needed. */
  async *list(options: { readonly pageSize?: number } = {}): AsyncGenerator<Instance, void> {
    const query = { limit: options.pageSize };
    for await (const item of pages(this.#transport, "/v1/instances", query)) {
      yield read<Instance>(item, "id", "name", "state", "startedAt", "heartbeatAt");
    }
  }
}
