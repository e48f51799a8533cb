// What runtimes do otherwise than Node.js.

interface Runtime {
  readonly Deno?: { createHttpClient(options: { poolMaxIdlePerHost: number }): unknown };
  readonly Bun?: unknown;
}

/**
 * What tells `fetch` to send a request once: over a connection of its own. When a connection that was
 * used before breaks, Deno sends any request a second time by itself, and Bun those with an
 * idempotent method. Of a signed request, the second one would read as a replay.
 */
export function sentOnce(runtime: Runtime): RequestInit {
  const client = runtime.Deno?.createHttpClient({ poolMaxIdlePerHost: 0 });
  if (client !== undefined) return { client } as RequestInit;
  return runtime.Bun === undefined ? {} : { keepalive: false };
}

export const SENT_ONCE = sentOnce(globalThis as Runtime);
