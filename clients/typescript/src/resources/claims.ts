// Many claims at once, and the key under which a claim is repeated safely.

import type { Transport } from "../transport.js";
import type { ClaimResult, NamespaceClaim, SessionClaim, SignerClaim } from "../types.js";
import { list, read, toBase64Url, write } from "../wire.js";

/**
 * A key of our own when the caller has none: never anything of the message, whose copy would be
 * accepted with it.
 */
export function idempotencyKey(): string {
  return toBase64Url(crypto.getRandomValues(new Uint8Array(16)));
}

/** The fields of a claim; a nonce that is bytes has a field of its own. */
export function claimFields(claim: { readonly nonce: string | Uint8Array }): object {
  const { nonce, ...rest } = claim;
  return write(typeof nonce === "string" ? claim : { ...rest, nonceBase64: nonce });
}

/** `client.claims` */
export class Claims {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /**
   * Makes up to 1000 claims, each decided on its own; the outcomes are in their order.
   *
   * ```ts
   * const [one, two] = await client.claims.create([
   *   { sessionId: session.id, nonce: "b64d" },
   *   { sessionId: session.id, nonce: "b64d" },
   * ]);
   * [one.outcome, two.outcome]; // ["accepted", "replayed"]
   * ```
   */
  async create(
    claims: readonly (SessionClaim | SignerClaim | NamespaceClaim)[],
    options: { readonly idempotencyKey?: string } = {},
  ): Promise<ClaimResult[]> {
    const { body } = await this.#transport.send({
      method: "POST",
      path: "/v1/claims",
      body: { claims: claims.map(claimFields) },
      headers: { "Idempotency-Key": options.idempotencyKey ?? idempotencyKey() },
      repeatable: true,
    });
    return list(body, "results").map((result) => read<ClaimResult>(result, "outcome"));
  }
}
