// Namespaces: scopes for ids that are used once and are no DID's nonces, such as a webhook's.

import { NotFoundError } from "../errors.js";
import type { Transport } from "../transport.js";
import type { Namespace, NamespaceClaim, NamespaceNonce, UsedNonce } from "../types.js";
import { read } from "../wire.js";
import { claimFields, idempotencyKey } from "./claims.js";

/** `client.namespaces` */
export class Namespaces {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /**
   * Claims an id. Act on its message only when this resolves. A lost answer is repeated under the
   * same key, so it never reads as a replay.
   *
   * ```ts
   * await client.namespaces.claim("webhooks", webhookId, { expiresAt: inAnHour });
   * ```
   */
  async claim(
    namespace: string,
    nonce: string | Uint8Array,
    options: Omit<NamespaceClaim, "namespace" | "nonce"> & { readonly idempotencyKey?: string },
  ): Promise<NamespaceNonce> {
    const { idempotencyKey: given, ...times } = options;
    const { body } = await this.#transport.send({
      method: "POST",
      path: path(namespace, "nonces"),
      body: claimFields({ nonce, ...times }),
      headers: { "Idempotency-Key": given ?? idempotencyKey() },
      repeatable: true,
    });
    return read<NamespaceNonce>(body, "namespace", "usedAt", "expiresAt");
  }

  /** How much a namespace holds. */
  async read(namespace: string): Promise<Namespace> {
    const call = { method: "GET", path: path(namespace), repeatable: true };
    return read<Namespace>((await this.#transport.send(call)).body, "namespace", "live", "quota");
  }

  /** Whether an id was used; null if not. Never act on null: only a claim is a licence. */
  async used(namespace: string, nonce: string): Promise<UsedNonce | null> {
    try {
      const call = { method: "GET", path: path(namespace, "nonces", nonce), repeatable: true };
      return read<UsedNonce>((await this.#transport.send(call)).body, "nonce", "usedAt");
    } catch (error) {
      if (error instanceof NotFoundError && error.code === "nonce_unused") return null;
      throw error;
    }
  }
}

function path(...parts: string[]): string {
  return ["/v1/namespaces", ...parts.map(encodeURIComponent)].join("/");
}
