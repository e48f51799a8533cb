// What a service asks for in `Accept-Signature` is signed so, by every language in the same way; and
// a request is sent again only where the caller said that it may be.

import assert from "node:assert/strict";
import { createPrivateKey, createPublicKey, verify } from "node:crypto";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { Guard } from "../src/guard.js";
import { CannotSignError, Key, signedFetch, signRequest } from "../src/index.js";
import { codeOf, guarding, REAL, services } from "./services.js";
import { client, parties, serving, thrown } from "./support.js";

interface Vectors {
  readonly cases: readonly {
    readonly name: string;
    readonly method: string;
    readonly url: string;
    readonly headers: [string, string][];
    readonly body: string;
    readonly accept: string;
    readonly created: number;
    readonly nonce: string;
    readonly fields: Record<string, string>;
    readonly bases: Record<string, string>;
  }[];
  readonly refused: readonly [accept: string, key: string, why: string][];
}

function read<T>(name: string): T {
  return JSON.parse(readFileSync(new URL(`../../../vectors/${name}`, import.meta.url), "utf8"));
}

const vectors = read<Vectors>("accept.json");
const { keys } = read<{ keys: Record<string, { pem: string }> }>("signatures.json");

function keyOf(type: string): Promise<Key> {
  return Key.fromPem(keys[type]?.pem ?? "");
}

for (const { name, accept, body, fields, bases, ...request } of vectors.cases) {
  test(`vector: ${name}`, async () => {
    const content = Buffer.from(body, "base64");
    const key = await keyOf("Ed25519");
    const signed = await signRequest(key, { ...request, body: content, acceptSignature: accept });
    assert.deepEqual(signed, fields);
    // By OpenSSL, without any code of ours.
    const publicKey = createPublicKey(createPrivateKey(keys.Ed25519?.pem ?? ""));
    const signatures = (fields.Signature ?? "").split(", ");
    assert.equal(signatures.length, Object.keys(bases).length);
    for (const signature of signatures) {
      const [, label = "", bytes = ""] = /^(.*?)=:(.*):$/.exec(signature) ?? [];
      const base = Buffer.from(bases[label] ?? "");
      assert.ok(verify(null, base, publicKey, Buffer.from(bytes, "base64")), label);
    }
  });
}

test("what cannot be signed as it is asked for says why", async () => {
  const request = {
    method: "GET",
    url: "https://shop.example/orders?id=7",
    headers: [["Content-Type", "text/plain"]] as const,
  };
  for (const [acceptSignature, type, why] of vectors.refused) {
    const signed = signRequest(await keyOf(type), { ...request, acceptSignature });
    const { message } = await thrown(CannotSignError, signed);
    assert.ok(message.includes(why), `${acceptSignature}: ${message}`);
  }
});

for (const keyType of ["Ed25519", "P256", "Secp256k1"] as const) {
  test(`the service reads each part of the URL as ${keyType} has signed it`, async () => {
    const parts = ["@method", "@authority", "@scheme", "@request-target", "@path", "@query"];
    const acceptSignature = `a=(${parts.map((each) => `"${each}"`).join(" ")});tag="onceguard"`;
    for (const url of [
      "https://SHOP.example:443/a%20b/?q=1&q=2",
      "http://shop.example:8080",
      "http://shop.example:80/?",
    ]) {
      const key = await Key.generate(keyType);
      const fields = await signRequest(key, { method: "GET", url, acceptSignature });
      const verdict = await client.verify({ method: "GET", url, headers: Object.entries(fields) });
      assert.deepEqual([verdict.did, verdict.covered.length], [key.did, parts.length]);
    }
  });
}

for (const [name, service] of Object.entries(services)) {
  test(`${name} asks for what it needs, and gets it`, async () => {
    const key = await Key.generate();
    const { serverDid } = await parties();
    const { id } = await client.sessions.open({ clientDid: key.did, serverDid });
    const json: [string, string] = ["Content-Type", "application/json"];
    const ofBody = ["content-digest", "content-type"];
    const cases: [string, [string, string][], string, string[]][] = [
      ["GET", [], "", []],
      ["POST", [json], '{"item": "lamp"}', ofBody],
      ["POST", [json, ["X-Session-Id", id]], "{}", [...ofBody, "x-session-id"]],
    ];
    await guarding(service, REAL, async (origin, served) => {
      const url = `${origin}/orders?q=1`;
      for (const [method, headers, body, components] of cases) {
        const init = { method, ...(body !== "" && { body }) };
        const refused = await fetch(url, { ...init, headers });
        const asked = refused.headers.get("Accept-Signature") ?? "";
        const list = ["@method", "@target-uri", ...components].map((each) => `"${each}"`).join(" ");
        assert.equal(
          asked.replace(/nonce="[\w-]{24}"/, "nonce"),
          `sig1=(${list});created;expires;nonce;tag="onceguard"`,
        );
        const content = Buffer.from(body);
        const request = { method, url, headers, body: content, acceptSignature: asked };
        const fields = Object.entries(await signRequest(key, request));
        const answer = await fetch(url, { ...init, headers: [...headers, ...fields] });
        assert.equal(answer.status, 200, await answer.text());
      }
      assert.equal(served.length, cases.length);
    });
  });

  test(`${name}: a signer that may repeat signs as it is asked, once`, async () => {
    await guarding(service, REAL, async (origin, served) => {
      let sent = 0;
      const counting: typeof fetch = (input, init) => {
        sent += 1;
        return fetch(input, init);
      };
      const acceptSignature = 'sig1=("@method" "@authority" "x-extra");tag="onceguard"';
      const options = { fetch: counting, acceptSignature };
      const key = await Key.generate();
      const init = {
        method: "POST",
        headers: { "Content-Type": "application/json", "X-Extra": "1" },
        body: "{}",
      };
      const once = await signedFetch(key, options)(`${origin}/orders`, init);
      assert.equal(await codeOf(once), "signature_components_incomplete");
      assert.deepEqual([once.status, sent, served.length], [401, 1, 0]);
      // What is asked for then is enough, and replays no nonce.
      const repeating = signedFetch(key, { ...options, repeatable: true });
      for (const expected of [3, 5]) {
        assert.equal((await repeating(`${origin}/orders`, init)).status, 200);
        assert.equal(sent, expected);
      }
      assert.equal(served.length, 2);
      // Another signature would not mend this one.
      await client.dids.revoke(key.did);
      const revoked = await signedFetch(key, { fetch: counting, repeatable: true })(origin);
      assert.deepEqual([revoked.status, sent], [403, 6]);
    });
  });
}

test("an answer is left as it is where nothing can be mended", async () => {
  const key = await Key.generate();
  const url = (base: string) => `${base}/orders`;
  for (const [status, asked, repeatable, sent] of [
    [401, 'sig1=("@target-uri");tag="a"', true, 2],
    [403, 'sig1=("@target-uri");tag="a"', true, 2],
    [401, 'sig1=("@target-uri");tag="a"', false, 1],
    [200, 'sig1=("@target-uri");tag="a"', true, 1],
    [503, 'sig1=("@target-uri");tag="a"', true, 1],
    [401, 'sig1=("@target-uri");alg="rsa-v1_5-sha256"', true, 1],
    [401, 'sig1=("@target-uri" "x-unknown")', true, 1],
    [401, "sig1=", true, 1],
    [401, undefined, true, 1],
  ] as const) {
    const inputs: string[] = [];
    const bodies: string[] = [];
    const digested: boolean[] = [];
    await serving(
      (request, response, body) => {
        inputs.push(String(request.headers["signature-input"]));
        bodies.push(body.toString());
        digested.push(request.headers["content-digest"] !== undefined);
        if (asked !== undefined) response.setHeader("Accept-Signature", asked);
        response.writeHead(status).end("as it was");
      },
      async (base) => {
        const init = { method: "POST", headers: { "Content-Type": "text/plain" }, body: "lamp" };
        const answer = await signedFetch(key, { repeatable })(url(base), init);
        assert.deepEqual([answer.status, await answer.text()], [status, "as it was"]);
      },
    );
    assert.equal(inputs.length, sent, `${status} ${asked}`);
    assert.deepEqual(new Set(bodies), new Set(["lamp"]));
    const nonces = inputs.map((input) => /nonce="([\w-]{24})"/.exec(input)?.[1]);
    assert.equal(new Set(nonces).size, sent, "each signature has a nonce of its own");
    if (sent === 2) {
      assert.match(inputs[1] ?? "", /^sig1=\("@target-uri"\);.*;tag="a"$/);
      assert.deepEqual(digested, [true, false], "nothing is left of the first signature");
    }
  }
});

test("a request without a body can be repeated, also when it has an empty one", async () => {
  const key = await Key.generate();
  let sent = 0;
  await serving(
    (_, response) => {
      sent += 1;
      response.setHeader("Accept-Signature", 'sig1=("@authority")');
      response.writeHead(401).end();
    },
    async (url) => {
      const repeating = signedFetch(key, { repeatable: true });
      assert.equal((await repeating(url)).status, 401);
      assert.equal((await repeating(url, { method: "POST", body: "" })).status, 401);
    },
  );
  assert.equal(sent, 4);
});

test("a nonce is for one request", async () => {
  const key = await Key.generate();
  const acceptSignature = 'sig1=("@target-uri");nonce="n"';
  assert.throws(() => signedFetch(key, { acceptSignature }), CannotSignError);
});

test("what another profile wants is not known", () => {
  const guard = (profile: string) => new Guard({ client, origin: "https://shop.example", profile });
  const asked = (profile: string) => guard(profile).precheck([])?.headers.get("Accept-Signature");
  assert.match(asked("onceguard") ?? "", /^sig1=/);
  assert.equal(asked("sage"), null);
});
