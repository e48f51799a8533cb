// What is signed is what the vectors say, and every language's signature of it is accepted.

import assert from "node:assert/strict";
import { createPrivateKey, createPublicKey, verify } from "node:crypto";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { CannotSignError, Key, signedFetch, signRequest, type Verdict } from "../src/index.js";
import { client, serving, thrown } from "./support.js";

interface Vectors {
  readonly keys: Record<string, { pem: string; did: string; keyid: string; public_key: string }>;
  readonly cases: readonly {
    readonly name: string;
    readonly key: string;
    readonly method: string;
    readonly url: string;
    readonly headers: [string, string][];
    readonly body: string;
    readonly created: number;
    readonly nonce: string;
    readonly fields: Record<string, string>;
    readonly base: string;
    readonly signatures: Record<string, string>;
  }[];
}

const file = new URL("../../../vectors/signatures.json", import.meta.url);
const vectors = JSON.parse(readFileSync(file, "utf8")) as Vectors;
const KEY_TYPES = ["Ed25519", "P256", "Secp256k1"] as const;

/** By OpenSSL, without any code of ours. */
function verifies(pem: string, base: string, signature: string): boolean {
  const key = createPublicKey(createPrivateKey(pem));
  const hash = key.asymmetricKeyType === "ed25519" ? null : "sha256";
  const options = { key, dsaEncoding: "ieee-p1363" as const };
  return verify(hash, Buffer.from(base), options, Buffer.from(signature, "base64"));
}

for (const { name, key: keyType, body, fields, base, signatures, ...request } of vectors.cases) {
  test(`vector: ${name}`, async () => {
    const known = vectors.keys[keyType];
    assert.ok(known);
    const key = await Key.fromPem(known.pem);
    assert.deepEqual([key.did, key.keyid], [known.did, known.keyid]);
    assert.equal(Buffer.from(key.publicKey).toString("base64"), known.public_key);
    const signed = await signRequest(key, { ...request, body: Buffer.from(body, "base64") });
    const { Signature = "", ...added } = signed;
    assert.deepEqual(added, fields);
    const ours = Signature.slice("sig1=:".length, -1);
    assert.deepEqual(Object.keys(signatures).sort(), ["python", "typescript"]);
    if (keyType === "Ed25519") {
      assert.deepEqual(new Set(Object.values(signatures)), new Set([ours]));
    }
    for (const signature of [ours, ...Object.values(signatures)]) {
      assert.ok(verifies(known.pem, base, signature));
      assert.ok(!verifies(known.pem, `${base}x`, signature));
    }
  });
}

for (const keyType of KEY_TYPES) {
  test(`the service accepts what ${keyType} signs`, async () => {
    for (const { name, method, url, headers, body } of vectors.cases) {
      // It would have to be there.
      if (name.includes("session")) continue;
      const key = await Key.generate(keyType);
      const content = Buffer.from(body, "base64");
      const signed = await signRequest(key, { method, url, headers, body: content });
      const verdict = await client.verify({
        method,
        url: url.replace(/#.*/, ""),
        headers: [...headers, ...Object.entries(signed)],
        body: content,
      });
      assert.deepEqual([verdict.did, verdict.keyid, verdict.alg], [key.did, key.keyid, key.alg]);
    }
  });

  test(`a key of type ${keyType} survives its PEM`, async () => {
    const key = await Key.generate(keyType);
    const keyid = "did:web:alice.example#key-1";
    const again = await Key.fromPem(await key.toPem(), { keyid });
    assert.deepEqual(again.publicKey, key.publicKey);
    assert.deepEqual([again.did, again.keyid], ["did:web:alice.example", keyid]);
    assert.equal(createPrivateKey(await key.toPem()).type, "private", "OpenSSL reads it");
    assert.doesNotMatch(JSON.stringify(key), /PRIVATE|secret/);
  });
}

test("secp256k1 signs with low S", async () => {
  const half = 0x7fffffffffffffffffffffffffffffff5d576e7357a4501ddfe92f46681b20a0n;
  const key = await Key.generate("Secp256k1");
  for (let n = 0; n < 32; n += 1) {
    const s = Buffer.from((await key.sign(Uint8Array.of(n))).slice(32)).toString("hex");
    assert.ok(BigInt(`0x${s}`) <= half);
  }
});

test("what cannot be signed says why", async () => {
  const key = await Key.generate();
  const get = { method: "GET", url: "https://shop.example/" };
  const signed = Object.entries(await signRequest(key, get));
  const body = Uint8Array.of(1);
  for (const [request, why] of [
    [{ ...get, headers: signed }, /signed already/],
    [{ ...get, body }, /Content-Type/],
    [{ ...get, body, headers: [["Content-Digest", "sha-256=:AA==:"]] as const }, /Content-Digest/],
    [{ ...get, url: "/orders" }, /whole URL/],
    [{ ...get, url: "https://user@shop.example/" }, /user name/],
    [{ ...get, url: "https://shop.example/caf\u00e9" }, /encode/],
    [{ ...get, headers: [["X-Session-Id", "a\nb"]] as const }, /encode/],
  ] as const) {
    assert.match((await thrown(CannotSignError, signRequest(key, request))).message, why);
  }
  await thrown(CannotSignError, Key.generate("RSA" as "P256"));
});

test("fetch sends what is signed", async () => {
  const key = await Key.generate();
  const signed = signedFetch(key);
  const verdicts: Verdict[] = [];
  await serving(
    async ({ method = "", url = "", headers, rawHeaders }, response, body) => {
      const lines = rawHeaders.flatMap((name, at) =>
        at % 2 === 0 ? [[name, rawHeaders[at + 1] ?? ""] as const] : [],
      );
      const whole = `http://${headers.host}${url}`;
      verdicts.push(await client.verify({ method, url: whole, headers: lines, body }));
      response.writeHead(url === "/away" ? 302 : 204, { Location: "/elsewhere" }).end();
    },
    async (url) => {
      const init = { method: "POST", body: JSON.stringify({ a: 1 }) };
      assert.equal((await signed(`${url}/a b?q=é&r#top`, init)).status, 204);
      const form = new FormData();
      form.set("file", new Blob(["content"]), "name");
      assert.equal((await signed(new Request(url, { method: "PUT", body: form }))).status, 204);
      const stream = new Blob(["1", "2"]).stream();
      const headers = { "Content-Type": "x/y" };
      await signed(url, { method: "POST", headers, body: stream });
      assert.equal((await signed(`${url}/away`)).status, 302, "a redirect is not followed");
    },
  );
  assert.deepEqual(
    verdicts.map((verdict) => verdict.did),
    Array.from({ length: 4 }, () => key.did),
  );
});
