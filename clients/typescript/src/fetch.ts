// A `fetch` that signs what it sends.

import type { Key } from "./keys.js";
import { signRequest } from "./signatures.js";

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
 * Nothing is sent twice. A signature is for one URL, so a redirect is not followed: it is returned.
 */
export function signedFetch(
  key: Key,
  options: { readonly fetch?: typeof fetch } = {},
): typeof fetch {
  const send = options.fetch ?? fetch;
  return async (input, init) => {
    // A body that is a stream needs `duplex`, which the types of fetch do not have yet.
    const request = new Request(input, { duplex: "half", ...init } as RequestInit);
    const body = new Uint8Array(await request.clone().arrayBuffer());
    const fields = await signRequest(key, {
      method: request.method,
      url: request.url,
      headers: request.headers,
      body,
    });
    const headers = new Headers(request.headers);
    for (const [name, value] of Object.entries(fields)) headers.set(name, value);
    const signed: RequestInit = { headers, redirect: "manual" };
    if (body.length > 0) signed.body = body;
    return send(new Request(request, signed));
  };
}
