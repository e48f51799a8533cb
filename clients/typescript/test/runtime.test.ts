// What must not be sent twice has a connection of its own where the runtime would send it again.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { test } from "node:test";
import { sentOnce } from "../src/runtime.js";

test("each runtime is told to send a request once", () => {
  const made: unknown[] = [];
  const createHttpClient = (options: unknown) => {
    made.push(options);
    return "a client";
  };
  assert.deepEqual(sentOnce({ Deno: { createHttpClient } }), { client: "a client" });
  assert.deepEqual(made, [{ poolMaxIdlePerHost: 0 }]);
  assert.deepEqual(sentOnce({ Bun: {} }), { keepalive: false });
  assert.deepEqual(sentOnce({}), {});
});

test("only what comes twice without harm may go over a used connection", () => {
  // Another process, because the runtime is looked at once.
  const script = `
    globalThis.Bun = {};
    const { Key, Onceguard, signedFetch } = await import("${new URL("../src/index.js", import.meta.url)}");
    const sent = [];
    const fetch = async (_, init) => {
      sent.push(init.keepalive !== false);
      return new Response("{}");
    };
    const key = await Key.generate();
    const baseUrl = "http://127.0.0.1";
    const client = new Onceguard({ baseUrl, token: "t", fetch });
    const agent = new Onceguard({ baseUrl, key, fetch });
    const sealed = { iv: new Uint8Array(12), ciphertext: new Uint8Array(1) };
    const event = { type: "com.example.a", subject: "s" };
    for (const call of [
      () => client.sessions.read("s"),
      () => client.sessions.claim("s", "n"),
      () => client.events.publish(event),
      () => client.verify({ method: "GET", url: baseUrl, headers: [] }),
      () => client.sessions.open({ clientDid: "a", serverDid: "b" }),
      () => client.sessions.end("s"),
      () => client.records.put("d", "k", "i", sealed),
      () => agent.sessions.read("s"),
      () => agent.sessions.claim("s", "n"),
      () => signedFetch(key, { fetch })(baseUrl),
    ]) await call().catch(() => {});
    console.log(JSON.stringify(sent));
  `;
  const said = execFileSync("node", ["--input-type=module", "--eval", script]);
  const harmless = [true, true, true, true];
  const once = [false, false, false, false, false, false];
  assert.deepEqual(JSON.parse(String(said)), [...harmless, ...once]);
});
