// A plugin for Fastify.

import type { FastifyPluginAsync } from "fastify";
import { Guard, type GuardOptions } from "./guard.js";
import { linesOf, peekBody } from "./node.js";
import type { Verdict } from "./types.js";

declare module "fastify" {
  interface FastifyRequest {
    /** Who signed the request, and in which session; behind `requireSignature`. */
    verdict: Verdict;
  }
}

/**
 * Lets through only requests that are signed, fresh and no replay, to the routes that are registered
 * beside and below it. When onceguard cannot answer, the answer is 503.
 *
 * ```ts
 * await app.register(requireSignature, { client, origin: "https://shop.example" });
 * app.post("/orders", async (request) => ({ from: request.verdict.did }));
 * ```
 */
export const requireSignature: FastifyPluginAsync<GuardOptions> = async (app, options) => {
  const guard = new Guard(options);
  app.decorateRequest("verdict", null as unknown as Verdict);
  app.addHook("onRequest", async (request, reply) => {
    const answer = async (refused: Response) => {
      reply.code(refused.status).headers(Object.fromEntries(refused.headers));
      // As bytes, so that Fastify leaves the type as it is.
      return reply.send(Buffer.from(await refused.arrayBuffer()));
    };
    const headers = linesOf(request.raw);
    const refused = guard.precheck(headers);
    if (refused !== undefined) return answer(refused);
    let body: Uint8Array | undefined;
    try {
      body = await peekBody(request.raw, guard.maxBodyBytes);
    } catch (error) {
      return answer(guard.unavailable(error));
    }
    if (body === undefined) return answer(guard.tooLarge());
    const verdict = await guard.judge(request.method, request.raw.url ?? "/", headers, body);
    if (verdict instanceof Response) return answer(verdict);
    request.verdict = verdict;
    return undefined;
  });
};

// Fastify would keep the hook to this plugin: it is for the routes of the application.
Object.assign(requireSignature, { [Symbol.for("skip-override")]: true });
