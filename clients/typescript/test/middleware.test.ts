// The middleware, each in a real server: only what passed reaches the application, with its body as
// it was sent; and without a verdict, nothing does.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer as createTlsServer } from "node:https";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import express from "express";
import { requireSignature as forExpress } from "../src/express.js";
import { requireSignature as forHono } from "../src/hono.js";
import { Key, type OnceguardOptions, signedFetch, signRequest } from "../src/index.js";
import {
  codeOf,
  freePort,
  guarding,
  MAX_BODY,
  REAL,
  type Service,
  seen,
  services,
} from "./services.js";
import { Cutting, client, json, listening, parties, serving, TOKEN, URL } from "./support.js";

for (const [name, service] of Object.entries(services)) {
  test(`${name} serves only what passed`, async () => {
    const key = await Key.generate();
    const signed = signedFetch(key);
    const { serverDid } = await parties();
    const session = await client.sessions.open({ clientDid: key.did, serverDid });
    await guarding(service, REAL, async (origin, served) => {
      // The body, the query and the session reach the application as they were sent.
      const large = Buffer.from(Array.from({ length: 76_800 }, (_, n) => n % 256));
      const bodies: [Buffer, string][] = [
        [large, "application/octet-stream"],
        [Buffer.alloc(0), ""],
        [Buffer.from('{ "item": "lamp", "count": 2 }'), "application/json"],
      ];
      for (const [body, type] of bodies) {
        for (const sessionId of [null, session.id]) {
          const headers: Record<string, string> = type === "" ? {} : { "Content-Type": type };
          if (sessionId !== null) headers["X-Session-Id"] = sessionId;
          const init: RequestInit = { method: "POST", headers };
          if (body.length > 0) init.body = new Uint8Array(body);
          const url = `${origin}/orders/a%2Fb%20c?q=caf%C3%A9&q=%2B&e`;
          const answer = await signed(url, init);
          assert.equal(answer.status, 200, `${type} ${await answer.clone().text()}`);
          assert.deepEqual(await answer.json(), {
            did: key.did,
            session: sessionId,
            body: createHash("sha256").update(body).digest("hex"),
            query: "q=caf%C3%A9&q=%2B&e",
          });
        }
      }
      assert.equal(served.length, 6);

      // In chunks, too.
      const type: [string, string] = ["Content-Type", "application/json"];
      const url = `${origin}/chunks`;
      const post = async (body: string) =>
        signRequest(key, { method: "POST", url, headers: [type], body: Buffer.from(body) });
      const chunked: [string, string][] = [
        ["Host", new globalThis.URL(url).host],
        ["Transfer-Encoding", "chunked"],
        type,
        ...Object.entries(await post('{"a": 1}')),
      ];
      const chunks = await raw("POST", url, chunked, ['{"a"', ": 1}"]);
      assert.match(chunks, /^HTTP\/1.1 200 /);
      assert.equal(String(served.pop()), '{"a": 1}');

      // The application does not see a request that is wrong in any way.
      const get = (to: string, created?: number) =>
        signRequest(key, { method: "GET", url: to, ...(created !== undefined && { created }) });
      const once = await get(`${origin}/once`);
      assert.equal((await fetch(`${origin}/once`, { headers: once })).status, 200);
      served.pop();
      const other = await get(`${origin}/other`);
      const elsewhere = await get("http://other.example/once");
      const refused: [Record<string, string>, string][] = [
        [once, "signature_replayed"],
        [{}, "signature_required"],
        [{ Signature: other.Signature ?? "" }, "signature_malformed"],
        [{ "Signature-Input": "x", Signature: "y" }, "signature_malformed"],
        [await get(`${origin}/once`, 1_000_000_000), "signature_window_invalid"],
        [other, "signature_invalid"],
        [elsewhere, "signature_invalid"],
      ];
      for (const [headers, code] of refused) {
        const answer = await fetch(`${origin}/once`, { headers });
        assert.equal(answer.status, 401, code);
        assert.equal(answer.headers.get("WWW-Authenticate"), `Signature error="${code}"`);
        assert.equal(answer.headers.get("Content-Type"), "application/problem+json");
        assert.equal(await codeOf(answer), code);
      }
      // The Host is the sender's word.
      const host: [string, string] = ["Host", "other.example"];
      const foreign = await raw("GET", `${origin}/once`, [host, ...Object.entries(elsewhere)]);
      assert.match(foreign, /^HTTP\/1.1 401 .*signature_invalid/s);
      const changed = await fetch(url, {
        method: "POST",
        headers: [type, ...Object.entries(await post("{}"))],
        body: "[]",
      });
      assert.equal(await codeOf(changed), "signature_digest_mismatch");
      const long = "x".repeat(MAX_BODY + 1);
      const tooLarge = await signed(url, { method: "POST", headers: [type], body: long });
      assert.deepEqual([tooLarge.status, await codeOf(tooLarge)], [413, "payload_too_large"]);

      await client.dids.revoke(key.did);
      const revoked = await signed(`${origin}/once`);
      assert.deepEqual([revoked.status, await codeOf(revoked)], [403, "signature_key_revoked"]);
      assert.equal(served.length, 6);
    });
  });

  test(`${name} refuses what cannot pass without asking`, async () => {
    const stopped = `http://127.0.0.1:${await freePort()}`;
    const key = await Key.generate();
    await guarding(service, { baseUrl: stopped, token: TOKEN }, async (origin, served) => {
      const url = `${origin}/once`;
      const get = { method: "GET", url };
      const signed = await signRequest(key, get);
      const created = Math.floor(Date.now() / 1000) - 3600;
      const refuses = async (headers: Record<string, string>, code: string) => {
        const answer = await fetch(url, { headers });
        assert.deepEqual([answer.status, await codeOf(answer)], [401, `signature_${code}`]);
      };
      await refuses({}, "required");
      await refuses({ ...signed, Signature: "sig1=x" }, "malformed");
      await refuses(await signRequest(key, { ...get, created }), "window_invalid");
      // Only this one is asked about, and there is no answer.
      assert.equal((await fetch(url, { headers: signed })).status, 503);
      assert.deepEqual(served, []);
    });
  });

  test(`${name}: a lost verdict is no replay, and a copy is`, async () => {
    const key = await Key.generate();
    const cutting = new Cutting("after");
    await cutting.running((baseUrl) =>
      guarding(service, { ...REAL, baseUrl }, async (origin, served) => {
        const url = `${origin}/lost`;
        const signed = await signRequest(key, { method: "GET", url });
        // The sender's own key is not the one by which a verdict is repeated.
        const headers = { ...signed, "Idempotency-Key": "0123456789abcdef0123456789abcdef" };
        assert.equal((await fetch(url, { headers })).status, 200);
        const copy = await fetch(url, { headers });
        assert.deepEqual([copy.status, await codeOf(copy)], [401, "signature_replayed"]);
        assert.equal(served.length, 1);
      }),
    );
    assert.deepEqual([cutting.cut, cutting.received], [2, 4]);
  });

  test(`${name} serves nothing without a verdict`, async (t) => {
    const signed = signedFetch(await Key.generate());
    const refusesEverything = async (options: OnceguardOptions, what: string) => {
      await guarding(service, options, async (origin, served, told) => {
        const answer = await signed(`${origin}/orders`, {
          method: "POST",
          headers: { "Content-Type": "application/json" },
          body: "{}",
        });
        assert.deepEqual([answer.status, await codeOf(answer)], [503, "verdict_unavailable"], what);
        assert.ok(Number(answer.headers.get("Retry-After")) > 0);
        assert.deepEqual(served, [], what);
        assert.equal(told.length, 1, "the operator is told");
        assert.ok(!String(told).includes(TOKEN));
      });
    };
    const stopped = `http://127.0.0.1:${await freePort()}`;
    await refusesEverything({ baseUrl: stopped, token: TOKEN }, "stopped");
    await refusesEverything({ baseUrl: URL, token: "og_wrong" }, "wrong token");

    const problem = { title: "t", detail: "d", request_id: "r" };
    const faults: Record<string, Parameters<typeof serving>[0]> = {
      "503": (_, response) => json(response, 503, { ...problem, code: "storage_unavailable" }),
      unknown: (_, response) => json(response, 503, { ...problem, code: "outcome_unknown" }),
      "no scope": (_, response) => json(response, 403, { ...problem, code: "forbidden" }),
      html: (_, response) => response.writeHead(200).end("<html>"),
      "403 of a proxy": (_, response) => response.writeHead(403).end("<html>"),
      redirect: (_, response) => response.writeHead(302, { Location: URL }).end(),
      nothing: (_, response) => json(response, 200, null),
      "no verdict": (_, response) => json(response, 200, {}),
      slow: () => undefined,
      lost: async (request, _, body) => {
        // The service decides, and its answer is lost.
        await fetch(`${URL}/v1/verify`, {
          method: "POST",
          headers: {
            Authorization: `Bearer ${TOKEN}`,
            "Content-Type": "application/json",
            "Idempotency-Key": String(request.headers["idempotency-key"]),
          },
          body: new Uint8Array(body),
        });
        request.socket.destroy();
      },
    };
    for (const [what, fault] of Object.entries(faults)) {
      const asked: string[] = [];
      const counted: typeof fault = (request, ...rest) => {
        asked.push(`${request.url} ${request.headers["idempotency-key"]}`);
        return fault(request, ...rest);
      };
      const timeoutMilliseconds = what === "slow" ? 300 : 60_000;
      await serving(counted, (baseUrl) =>
        refusesEverything({ baseUrl, token: TOKEN, timeoutMilliseconds }, what),
      );
      const again = ["503", "unknown", "slow", "lost"].includes(what);
      assert.equal(asked.length, again ? 3 : 1, what);
      assert.equal(new Set(asked).size, 1, `${what}: a verdict is asked for again under one key`);
      assert.match(asked[0] ?? "", /^\/v1\/verify [\w-]{22,}$/);
    }

    const server = createTlsServer(certificate(t), (_, response) => json(response, 200, {}));
    await listening(
      server,
      (baseUrl) => refusesEverything({ baseUrl, token: TOKEN }, "wrong certificate"),
      "https",
    );
  });
}

test("express: a body that was read before is not vouched for", async () => {
  const late: Service = async (options, port, served) => {
    const app = express();
    app.use(express.json(), forExpress(options), (req, res) => {
      res.json(seen(req.verdict, Buffer.from("{}"), req.url, served));
    });
    const server = app.listen(port, "127.0.0.1");
    await new Promise((resolve) => server.once("listening", resolve));
    return () => server.close().closeAllConnections();
  };
  await guarding(late, REAL, async (origin, served, told) => {
    const headers = { "Content-Type": "application/json" };
    const signed = signedFetch(await Key.generate());
    const answer = await signed(`${origin}/`, { method: "POST", headers, body: "{}" });
    assert.equal(answer.status, 503);
    assert.match(String(told[0]), /before what reads bodies/);
    assert.deepEqual(served, []);
  });
});

test("an origin is a scheme and a host", () => {
  for (const origin of [
    "shop.example",
    "https://shop.example/path",
    "ftp://shop.example",
    "https://",
  ]) {
    assert.throws(() => forHono({ client, origin }), /origin/);
  }
});

/** Of an authority that no client knows. */
function certificate(t: TestContext): { key: Buffer; cert: Buffer } {
  const folder = mkdtempSync(join(tmpdir(), "onceguard-"));
  t.after(() => rmSync(folder, { recursive: true }));
  const [key, cert] = [join(folder, "tls.pem"), join(folder, "tls.crt")];
  const subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"];
  const kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1"];
  const files = ["-keyout", key, "-out", cert];
  execFileSync("openssl", ["req", "-x509", ...kind, ...files, ...subject], { stdio: "ignore" });
  return { key: readFileSync(key), cert: readFileSync(cert) };
}

/** Sends a request as it is, its chunks in packets of their own, and gives the answer as text. */
async function raw(
  method: string,
  url: string,
  headers: readonly (readonly [string, string])[],
  chunks: readonly string[] = [],
): Promise<string> {
  const { hostname, port, pathname } = new globalThis.URL(url);
  const socket = connect(Number(port), hostname).setNoDelay(true);
  const head = headers.map(([name, value]) => `${name}: ${value}\r\n`).join("");
  socket.write(`${method} ${pathname} HTTP/1.1\r\nConnection: close\r\n${head}\r\n`);
  for (const chunk of chunks) {
    await new Promise((resolve) => setTimeout(resolve, 20));
    socket.write(`${chunk.length.toString(16)}\r\n${chunk}\r\n`);
  }
  if (chunks.length > 0) socket.write("0\r\n\r\n");
  let answer = "";
  for await (const part of socket) answer += String(part);
  return answer;
}
