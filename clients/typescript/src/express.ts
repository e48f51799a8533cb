// Middleware for Express.

import type { RequestHandler } from "express";
import { Guard, type GuardOptions } from "./guard.js";
import { linesOf, peekBody, send } from "./node.js";
import type { Verdict } from "./types.js";

declare global {
  namespace Express {
    interface Request {
      /** Who signed the request, and in which session; behind `requireSignature`. */
      verdict: Verdict;
    }
  }
}

/**
 * Lets through only requests that are signed, fresh and no replay. Put it before what reads bodies.
 * When onceguard cannot answer, the answer is 503.
 *
 * ```ts
 * app.use(requireSignature({ client, origin: "https://shop.example" }));
 * app.use(express.json());
 * app.post("/orders", (req, res) => res.json({ from: req.verdict.did }));
 * ```
 */
export function requireSignature(options: GuardOptions): RequestHandler {
  const guard = new Guard(options);
  return async (req, res, next) => {
    const headers = linesOf(req);
    const refused = guard.precheck(headers);
    if (refused !== undefined) return send(refused, res);
    let body: Uint8Array | undefined;
    try {
      body = await peekBody(req, guard.maxBodyBytes);
    } catch (error) {
      return send(guard.unavailable(error), res);
    }
    if (body === undefined) return send(guard.tooLarge(), res);
    const verdict = await guard.judge(req.method, req.originalUrl, headers, body);
    if (verdict instanceof Response) return send(verdict, res);
    req.verdict = verdict;
    next();
  };
}
