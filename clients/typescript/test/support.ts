// What the tests share: where the service is, servers, and a proxy that cuts answers.

import {
  createServer,
  request as httpRequest,
  type IncomingHttpHeaders,
  type IncomingMessage,
  type Server,
  type ServerResponse,
} from "node:http";
import type { AddressInfo } from "node:net";
import type { TestContext } from "node:test";
import { Key, Onceguard } from "../src/index.js";

function setting(name: string): string {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set: run scripts/clients, which starts a service`);
  return value;
}

export const URL = setting("TEST_API_URL");
export const TOKEN = setting("TEST_API_TOKEN");
/** How many calls are cut, a multiple of 100. */
export const CALLS = Number(setting("TEST_CALLS"));
export const client = new Onceguard({ baseUrl: URL, token: TOKEN });

/** Two DIDs that no other test has. */
export async function parties(): Promise<{ clientDid: string; serverDid: string }> {
  return { clientDid: (await Key.generate()).did, serverDid: (await Key.generate()).did };
}

/** A type of events that no other test has. */
export async function freshType(): Promise<string> {
  return `com.example.${(await Key.generate()).did.slice(-40)}`;
}

export async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const item of items) all.push(item);
  return all;
}

/** What a promise is rejected with, which must be of this class. */
export async function thrown<T extends Error>(
  kind: new (...args: never[]) => T,
  promise: Promise<unknown>,
): Promise<T> {
  const outcome = await promise.then(
    (value) => new Error(`resolved to ${JSON.stringify(value)}`),
    (error: unknown) => error,
  );
  if (outcome instanceof kind) return outcome;
  throw outcome;
}

/** Notes the waits of the client that are as long as these, which are over at once. */
export function waits(t: TestContext, isOurs: (wait: number) => boolean): number[] {
  const noted: number[] = [];
  const { setTimeout: real } = globalThis;
  t.after(() => Object.assign(globalThis, { setTimeout: real }));
  Object.assign(globalThis, {
    // The client gives no arguments; fetch has timers of its own.
    setTimeout: (work: () => void, wait: number, ...more: []) => {
      const ours = more.length === 0 && isOurs(wait);
      if (ours) noted.push(wait);
      return real(work, ours ? 0 : wait, ...more);
    },
  });
  return noted;
}

/** Runs `work` while there is an HTTP server on a free port. */
export async function serving<T>(
  handle: (request: IncomingMessage, response: ServerResponse, body: Buffer) => unknown,
  work: (url: string) => Promise<T>,
): Promise<T> {
  const server = createServer(async (request, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    await handle(request, response, Buffer.concat(chunks));
  });
  return listening(server, work);
}

/** Runs `work` while this server listens on a free port. */
export async function listening<T>(
  server: Server,
  work: (url: string) => Promise<T>,
  scheme = "http",
): Promise<T> {
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  try {
    return await work(`${scheme}://127.0.0.1:${(server.address() as AddressInfo).port}`);
  } finally {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  }
}

export function json(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { "Content-Type": "application/json" }).end(JSON.stringify(body));
}

/**
 * A proxy before the service that cuts the first try of each call: before the service hears of it,
 * or after the service has decided.
 */
export class Cutting {
  readonly #seen = new Set<string>();
  /** How many requests came, and how many of them were cut. */
  received = 0;
  cut = 0;

  constructor(readonly when: "before" | "after") {}

  running<T>(work: (url: string) => Promise<T>): Promise<T> {
    return serving((request, response, body) => this.#handle(request, response, body), work);
  }

  async #handle(request: IncomingMessage, response: ServerResponse, body: Buffer): Promise<void> {
    const key = request.headers["idempotency-key"];
    const call = JSON.stringify([request.method, request.url, key, body.toString()]);
    const first = !this.#seen.has(call);
    this.#seen.add(call);
    this.received += 1;
    if (first) this.cut += 1;
    if (first && this.when === "before") {
      request.socket.destroy();
      return;
    }
    // Host too: an agent has signed for this proxy.
    const { method = "", url = "", headers } = request;
    const { statusCode = 500, headers: back, content } = await forward(method, url, headers, body);
    if (first) {
      request.socket.destroy();
      return;
    }
    const kept = Object.entries(back).filter(([name]) =>
      /^(content-type|etag|retry-after)$/.test(name),
    );
    response.writeHead(statusCode, Object.fromEntries(kept));
    response.end(content);
  }
}

async function forward(
  method: string,
  path: string,
  headers: IncomingHttpHeaders,
  body: Buffer,
): Promise<IncomingMessage & { content: Buffer }> {
  const answer = await new Promise<IncomingMessage>((resolve, reject) => {
    httpRequest(URL + path, { method, headers }, resolve)
      .on("error", reject)
      .end(body);
  });
  const chunks: Buffer[] = [];
  for await (const chunk of answer) chunks.push(chunk as Buffer);
  return Object.assign(answer, { content: Buffer.concat(chunks) });
}
