// Middleware for Hono, on every runtime that it has.

import type { MiddlewareHandler } from "hono";
import { type GuardOptions, verifier } from "./guard.js";
import type { Verdict } from "./types.js";

/** What the context has behind `requireSignature`. */
export interface Signed {
  Variables: {
    /** Who signed the request, and in which session. */
    verdict: Verdict;
  };
}

/**
 * Lets through only requests that are signed, fresh and no replay. When onceguard cannot answer, the
 * answer is 503.
 *
 * ```ts
 * const app = new Hono<Signed>();
 * app.use(requireSignature({ client, origin: "https://shop.example" }));
 * app.post("/orders", (c) => c.json({ from: c.var.verdict.did }));
 * ```
 */
export function requireSignature(options: GuardOptions): MiddlewareHandler<Signed> {
  const verify = verifier(options);
  return async (c, next) => {
    const verdict = await verify(c.req.raw);
    if (verdict instanceof Response) return verdict;
    c.set("verdict", verdict);
    await next();
    return undefined;
  };
}
