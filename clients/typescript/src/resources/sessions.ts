// Sessions between DIDs, their keys, and the nonces that are claimed in them.

import { NotFoundError, SessionExistsError } from "../errors.js";
import type { Answer, Transport } from "../transport.js";
import type {
  AcceptedNonce,
  NewSession,
  Session,
  SessionChange,
  SessionFilter,
  UsedNonce,
} from "../types.js";
import { fromBase64, read, write } from "../wire.js";
import { idempotencyKey } from "./claims.js";
import { pages } from "./pages.js";

const REQUIRED = ["id", "clientDid", "serverDid", "state", "expiresAt"] as const;

/** `client.sessions` */
export class Sessions {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /**
   * Opens a session.
   *
   * ```ts
   * const session = await client.sessions.open({
   *   clientDid: "did:web:alice.example",
   *   serverDid: "did:web:bob.example",
   * });
   * ```
   */
  async open(session: NewSession): Promise<Session> {
    const madeHere = session.id === undefined;
    const id = session.id ?? uuid7();
    const body = write({ ...session, id });
    try {
      const call = { method: "POST", path: "/v1/sessions", body, repeatable: madeHere };
      return sessionOf(await this.#transport.send(call));
    } catch (error) {
      if (!(error instanceof SessionExistsError) || !madeHere || error.attempts < 2) throw error;
      // An earlier try opened it, and its answer was lost.
      const opened = await this.read(id);
      const same = opened.clientDid === session.clientDid && opened.serverDid === session.serverDid;
      if (!same) throw error;
      return opened;
    }
  }

  /**
   * Sessions, newest first. Pages are fetched as they are needed.
   *
   * ```ts
   * for await (const session of client.sessions.list({ clientDid })) console.log(session.id);
   * ```
   */
  async *list(filter: SessionFilter = {}): AsyncGenerator<Session, void> {
    const { clientDid, serverDid, state, pageSize } = filter;
    const query = { client_did: clientDid, server_did: serverDid, state, limit: pageSize };
    for await (const item of pages(this.#transport, "/v1/sessions", query)) {
      yield listedSession(item);
    }
  }

  /** Reads a session. */
  async read(id: string): Promise<Session> {
    return sessionOf(
      await this.#transport.send({ method: "GET", path: path(id), repeatable: true }),
    );
  }

  /** Changes a session; with `ifMatch: session.etag`, only if it is still that one. */
  async change(
    id: string,
    change: SessionChange,
    options: { readonly ifMatch?: string } = {},
  ): Promise<Session> {
    const headers = options.ifMatch === undefined ? {} : { "If-Match": options.ifMatch };
    const call = { method: "PATCH", path: path(id), body: write(change), headers };
    return sessionOf(await this.#transport.send(call));
  }

  /** Keeps a session from going idle. */
  async touch(id: string): Promise<void> {
    await this.#transport.send({ method: "POST", path: path(id, "touch") });
  }

  /** Ends a session: its key is wiped, its nonces stay spent. */
  async end(id: string): Promise<void> {
    await this.#transport.send({ method: "DELETE", path: path(id) });
  }

  /** Ends all sessions of a client, of a server, or between the two; says how many. */
  async endAll(parties: {
    readonly clientDid?: string;
    readonly serverDid?: string;
  }): Promise<number> {
    const call = { method: "POST", path: "/v1/sessions/end", body: write(parties) };
    return read<{ ended: number }>((await this.#transport.send(call)).body, "ended").ended;
  }

  /** Reads the session's key. */
  async key(id: string): Promise<Uint8Array> {
    const call = { method: "GET", path: path(id, "key"), repeatable: true };
    const answer = await this.#transport.send(call);
    return fromBase64(read<{ sessionKey: string }>(answer.body, "sessionKey").sessionKey);
  }

  /**
   * Claims a nonce. Act on its message only when this resolves. A lost answer is repeated under the
   * same key, so it never reads as a replay.
   *
   * ```ts
   * await client.sessions.claim(session.id, "b64d1f0e7a"); // accepted
   * await client.sessions.claim(session.id, "b64d1f0e7a"); // throws NonceReplayedError
   * ```
   */
  async claim(
    id: string,
    nonce: string,
    options: { readonly idempotencyKey?: string } = {},
  ): Promise<AcceptedNonce> {
    const answer = await this.#transport.send({
      method: "POST",
      path: path(id, "nonces"),
      body: { nonce },
      headers: { "Idempotency-Key": options.idempotencyKey ?? idempotencyKey() },
      repeatable: true,
    });
    return read<AcceptedNonce>(answer.body, "nonce", "sessionId", "usedAt", "expiresAt");
  }

  /**
   * Whether a nonce was used; null if not. Never act on null: only a claim is a licence.
   */
  async used(id: string, nonce: string): Promise<UsedNonce | null> {
    try {
      const call = { method: "GET", path: path(id, "nonces", nonce), repeatable: true };
      return read<UsedNonce>((await this.#transport.send(call)).body, "nonce", "usedAt");
    } catch (error) {
      if (error instanceof NotFoundError && error.code === "nonce_unused") return null;
      throw error;
    }
  }
}

function path(...parts: string[]): string {
  return ["/v1/sessions", ...parts.map(encodeURIComponent)].join("/");
}

/** A session as lists have it, without its ETag. */
export function listedSession(item: unknown): Session {
  return read<Session>(item, ...REQUIRED);
}

function sessionOf({ body, headers }: Answer): Session {
  const etag = headers.get("ETag");
  return { ...listedSession(body), ...(etag !== null && { etag }) };
}

/** A UUID that says when it was made (RFC 9562, section 5.7). */
function uuid7(): string {
  const random = crypto.randomUUID();
  const time = Date.now().toString(16).padStart(12, "0");
  return `${time.slice(0, 8)}-${time.slice(8)}-7${random.slice(15)}`;
}
