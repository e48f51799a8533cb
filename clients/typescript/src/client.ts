// The client.

import { signedFetch } from "./fetch.js";
import type { Key } from "./keys.js";
import { Claims, idempotencyKey } from "./resources/claims.js";
import { Dids } from "./resources/dids.js";
import { Events } from "./resources/events.js";
import { Identifiers } from "./resources/identifiers.js";
import { Instances } from "./resources/instances.js";
import { Namespaces } from "./resources/namespaces.js";
import { Records } from "./resources/records.js";
import { find } from "./resources/search.js";
import { Sessions } from "./resources/sessions.js";
import { judge } from "./resources/verdicts.js";
import { Webhooks } from "./resources/webhooks.js";
import { Transport } from "./transport.js";
import type { Found, ReceivedRequest, Stats, Verdict } from "./types.js";
import { read } from "./wire.js";

export interface OnceguardOptions {
  /** Where onceguard is, such as `http://127.0.0.1:8080`. */
  readonly baseUrl: string;
  /** What `onceguard token create` prints. */
  readonly token?: string;
  /** An agent's key, instead of a token: each call is signed with it. */
  readonly key?: Key;
  /** How long one try may take; 10 000, if left out. */
  readonly timeoutMilliseconds?: number;
  /** How often a call that is safe to repeat is sent again; 2, if left out. */
  readonly retries?: number;
  /** A `fetch` of your own: for proxies, certificates, tests. */
  readonly fetch?: typeof fetch;
}

/**
 * A client of onceguard.
 *
 * ```ts
 * const client = new Onceguard({ baseUrl: "http://127.0.0.1:8080", token });
 * const session = await client.sessions.open({ clientDid, serverDid });
 * await client.sessions.claim(session.id, nonce);
 * ```
 */
export class Onceguard {
  /** Sessions, and the nonces in them. */
  readonly sessions: Sessions;
  /** Many claims at once. */
  readonly claims: Claims;
  /** Ids that are used once and are no DID's nonces. */
  readonly namespaces: Namespaces;
  /** Keys and revocations. */
  readonly dids: Dids;
  /** What agents encrypted and their devices share. */
  readonly records: Records;
  /** The log of events. */
  readonly events: Events;
  /** Where events are sent. */
  readonly webhooks: Webhooks;
  /** The processes that serve. */
  readonly instances: Instances;
  /** DIDs as a Universal Resolver gives them. */
  readonly identifiers: Identifiers;
  readonly #transport: Transport;

  constructor(options: OnceguardOptions) {
    const send = options.fetch ?? ((input, init) => fetch(input, init));
    this.#transport = new Transport({
      baseUrl: options.baseUrl.replace(/\/+$/, ""),
      token: options.token,
      timeoutMilliseconds: options.timeoutMilliseconds ?? 10_000,
      retries: options.retries ?? 2,
      fetch: options.key === undefined ? send : signedFetch(options.key, { fetch: send }),
    });
    this.sessions = new Sessions(this.#transport);
    this.claims = new Claims(this.#transport);
    this.namespaces = new Namespaces(this.#transport);
    this.dids = new Dids(this.#transport);
    this.records = new Records(this.#transport);
    this.events = new Events(this.#transport);
    this.webhooks = new Webhooks(this.#transport);
    this.instances = new Instances(this.#transport);
    this.identifiers = new Identifiers(this.#transport);
  }

  /**
   * Has a received request judged, and spends its nonce if it passes. Throws
   * `SignatureRefusedError` when it did not pass, and another `OnceguardError` when there is no
   * verdict: then treat the request as refused.
   *
   * A lost answer is repeated under the same key, so it never reads as a replay. The key is made
   * here. Give one only to repeat a call that failed with it; never one that came with the request,
   * whose copy would pass with it.
   */
  async verify(
    request: ReceivedRequest,
    options: { readonly idempotencyKey?: string } = {},
  ): Promise<Verdict> {
    return judge(this.#transport, request, options.idempotencyKey ?? idempotencyKey());
  }

  /**
   * Stored DIDs and sessions that have all these words, newest first. Pages are fetched as they are
   * needed. A token finds what it may list.
   *
   * ```ts
   * for await (const found of client.search("shop.example order")) console.log(found.kind, found.id);
   * ```
   */
  search(q: string, options: { readonly pageSize?: number } = {}): AsyncGenerator<Found, void> {
    return find(this.#transport, q, options.pageSize);
  }

  /** Counts, sizes, the busiest clients. */
  async stats(): Promise<Stats> {
    const call = { method: "GET", path: "/v1/stats", repeatable: true };
    return read<Stats>((await this.#transport.send(call)).body, "version", "backend");
  }
}
