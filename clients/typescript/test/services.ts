// Guarded services: the middleware, each in a real server.

import { createHash } from "node:crypto";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { serve } from "@hono/node-server";
import express from "express";
import Fastify from "fastify";
import { Hono } from "hono";
import { requireSignature as forExpress } from "../src/express.js";
import { requireSignature as forFastify } from "../src/fastify.js";
import { requireSignature as forHono, type Signed } from "../src/hono.js";
import { type GuardOptions, Onceguard, type OnceguardOptions, type Verdict } from "../src/index.js";
import { TOKEN, URL } from "./support.js";

export const MAX_BODY = 100_000;

/** A guarded service: started on this port, it notes the bodies that it serves. */
export type Service = (
  options: GuardOptions,
  port: number,
  served: Buffer[],
) => Promise<() => unknown>;

export function seen(verdict: Verdict, body: Buffer, url: string, served: Buffer[]): object {
  served.push(body);
  const query = url.includes("?") ? url.slice(url.indexOf("?") + 1) : "";
  const hash = createHash("sha256").update(body).digest("hex");
  return { did: verdict.did, session: verdict.sessionId, body: hash, query };
}

export const services: Record<string, Service> = {
  express: async (options, port, served) => {
    const app = express();
    app.use(forExpress(options));
    const raw = new WeakMap<object, Buffer>();
    app.use(express.json({ verify: (req, _, body) => raw.set(req, body) }));
    app.use(express.raw({ type: "*/*", limit: "1mb" }));
    app.use((req, res) => {
      // JSON was parsed, other bodies were not.
      const body = Buffer.isBuffer(req.body) ? req.body : (raw.get(req) ?? Buffer.alloc(0));
      res.json(seen(req.verdict, body, req.originalUrl, served));
    });
    const server = app.listen(port, "127.0.0.1");
    await new Promise((resolve) => server.once("listening", resolve));
    return () => {
      server.closeAllConnections();
      server.close();
    };
  },
  fastify: async (options, port, served) => {
    const app = Fastify({ bodyLimit: 1_000_000 });
    await app.register(forFastify, options);
    app.removeAllContentTypeParsers();
    app.addContentTypeParser("*", { parseAs: "buffer" }, (_, body, done) => done(null, body));
    app.all("/*", async (request) => {
      const body = (request.body as Buffer | undefined) ?? Buffer.alloc(0);
      return seen(request.verdict, body, request.raw.url ?? "", served);
    });
    await app.listen({ port, host: "127.0.0.1", listenTextResolver: () => "" });
    return () => app.close();
  },
  hono: async (options, port, served) => {
    const app = new Hono<Signed>();
    app.use(forHono(options));
    app.all("*", async (c) => {
      const body = Buffer.from(await c.req.arrayBuffer());
      return c.json(seen(c.var.verdict, body, c.req.url, served));
    });
    const server = serve({ fetch: app.fetch, port, hostname: "127.0.0.1" });
    await new Promise((resolve) => server.once("listening", resolve));
    return () => {
      if ("closeAllConnections" in server) server.closeAllConnections();
      server.close();
    };
  },
};

export async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** Runs `work` with a guarded service, whose onceguard is as these options say. */
export async function guarding(
  service: Service,
  options: OnceguardOptions,
  work: (origin: string, served: Buffer[], told: Error[]) => Promise<void>,
): Promise<void> {
  const port = await freePort();
  const origin = `http://127.0.0.1:${port}`;
  const served: Buffer[] = [];
  const told: Error[] = [];
  const guard: GuardOptions = {
    client: new Onceguard(options),
    origin,
    maxBodyBytes: MAX_BODY,
    onUnavailable: (error) => told.push(error),
  };
  const stop = await service(guard, port, served);
  try {
    await work(origin, served, told);
  } finally {
    await stop();
  }
}

export async function codeOf(answer: Response): Promise<string> {
  return ((await answer.json()) as { code: string }).code;
}

export const REAL = { baseUrl: URL, token: TOKEN, timeoutMilliseconds: 60_000 };
