// A `fetch` that signs what it sends.

import { checkForMany } from "./accept.js";
import { CannotSignError } from "./errors.js";
import type { Key } from "./keys.js";
import { SENT_ONCE } from "./runtime.js";
import { signRequest } from "./signatures.js";

/** The request was refused, and a signature may mend it. */
const REFUSED = new Set([401, 403]);

export interface SignedFetchOptions {
  /** A `fetch` of your own: for proxies, certificates, tests. */
  readonly fetch?: typeof fetch;
  /**
   * Whether what these requests do may be done twice. Then one that is refused with 401 or 403 and
   * `Accept-Signature` is sent once more, signed as that field asks for, with a fresh nonce.
   */
  readonly repeatable?: boolean;
  /**
   * What a service asks for in `Accept-Signature` (RFC 9421, section 5), known before: all requests
   * are signed so. Without it, they are signed as onceguard's default profile wants it.
   */
  readonly acceptSignature?: string;
}

/**
 * A `fetch` that signs each request, with a fresh nonce.
 *
 * ```ts
 * const fetch = signedFetch(key);
 * await fetch("https://shop.example/orders", {
 *   method: "POST",
 *   headers: { "Content-Type": "application/json" },
 *   body: JSON.stringify({ item: "lamp" }),
 * });
 * ```
 *
 * Nothing is sent twice, unless it is `repeatable` and a service asks for another signature. Where
 * that cannot be made, its answer is returned. A signature is for one URL, so a redirect is not
 * followed: it is returned.
 */
export function signedFetch(key: Key, options: SignedFetchOptions = {}): typeof fetch {
  const { fetch: send = fetch, repeatable = false, acceptSignature } = options;
  if (acceptSignature !== undefined) checkForMany(acceptSignature);
  return async (input, init) => {
    // A body that is a stream needs `duplex`, which the types of fetch do not have yet.
    const request = new Request(input, { duplex: "half", ...init } as RequestInit);
    if (typeof init?.body === "string" && !request.headers.has("Content-Type")) {
      // As the standard has it; Bun leaves it out.
      request.headers.set("Content-Type", "text/plain;charset=UTF-8");
    }
    const body = new Uint8Array(await request.clone().arrayBuffer());
    const sign = async (asked: string | undefined): Promise<Request> => {
      const { method, url, headers: unsigned } = request;
      const fields = await signRequest(key, {
        method,
        url,
        headers: unsigned,
        body,
        ...(asked !== undefined && { acceptSignature: asked }),
      });
      const headers = new Headers(unsigned);
      for (const [name, value] of Object.entries(fields)) headers.set(name, value);
      const signed: RequestInit = { headers, redirect: "manual" };
      if (body.length > 0) signed.body = body;
      return new Request(request.clone(), signed);
    };
    const answer = await send(await sign(acceptSignature), SENT_ONCE);
    const asked = answer.headers.get("Accept-Signature");
    if (!repeatable || asked === null || !REFUSED.has(answer.status)) return answer;
    let again: Request;
    try {
      again = await sign(asked);
    } catch (error) {
      if (error instanceof CannotSignError) return answer;
      throw error;
    }
    await answer.body?.cancel();
    return send(again, SENT_ONCE);
  };
}
