// The keys of DIDs, and their revocation.

import type { Transport } from "../transport.js";
import type { Did, DidFilter, Erased, NewDid, Revocation, VerificationMethod } from "../types.js";
import { fromBase64, read, write } from "../wire.js";
import { pages } from "./pages.js";

/** `client.dids` */
export class Dids {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /** The stored DIDs, in the order of their text. Pages are fetched as they are needed. */
  async *list(filter: DidFilter = {}): AsyncGenerator<Did, void> {
    const { ownerAddress, keyType, revoked, pageSize } = filter;
    const query = { owner_address: ownerAddress, key_type: keyType, revoked, limit: pageSize };
    for await (const item of pages(this.#transport, "/v1/dids", query)) yield didOf(item);
  }

  /**
   * Reads a DID's keys; with `maxAge`, not older than so many seconds.
   *
   * ```ts
   * (await client.dids.read("did:web:alice.example")).publicKey;
   * ```
   */
  async read(did: string, options: { readonly maxAge?: number } = {}): Promise<Did> {
    const query = { max_age: options.maxAge };
    const call = { method: "GET", path: path(did), query, repeatable: true };
    return didOf((await this.#transport.send(call)).body);
  }

  /** Stores, or replaces, the key of a DID that no resolver reads. */
  async store(did: string, key: NewDid): Promise<Did> {
    const call = { method: "PUT", path: path(did), body: write(key) };
    return didOf((await this.#transport.send(call)).body);
  }

  /** Forgets a DID that is not revoked. */
  async forget(did: string): Promise<void> {
    await this.#transport.send({ method: "DELETE", path: path(did) });
  }

  /** Reads a DID again from where it lives. */
  async refresh(did: string): Promise<Did> {
    const call = { method: "POST", path: `${path(did)}/refresh` };
    return didOf((await this.#transport.send(call)).body);
  }

  /** Revokes a DID, for good. Its sessions end. */
  async revoke(did: string): Promise<Revocation> {
    const { body } = await this.#transport.send({ method: "POST", path: `${path(did)}/revoke` });
    return read<Revocation>(body, "did", "revokedAt", "sessionsEnded");
  }

  /**
   * Erases what is kept about a DID. Digests of its nonces and its revocation stay, so that no
   * message can be used again.
   */
  async erase(did: string): Promise<Erased> {
    const { body } = await this.#transport.send({ method: "DELETE", path: `${path(did)}/data` });
    return read<Erased>(body, "sessions", "records", "events");
  }
}

function path(did: string): string {
  return `/v1/dids/${encodeURIComponent(did)}`;
}

type Wire<T> = Omit<T, "publicKey"> & { readonly publicKey: string };

export function didOf(body: unknown): Did {
  const did = read<Omit<Did, "publicKey"> & { publicKey: string | null }>(body, "did");
  const methods = did.verificationMethods as readonly Wire<VerificationMethod>[] | undefined;
  return {
    ...did,
    publicKey: did.publicKey === null ? null : fromBase64(did.publicKey),
    ...(methods !== undefined && {
      verificationMethods: methods.map((method) => ({
        ...method,
        publicKey: fromBase64(method.publicKey),
      })),
    }),
  };
}
