// What the programs for the npm libraries share: request files, keys, digests, and the command
// line, which is
//
//     sign KEY KEYID UNSIGNED SIGNED COMPONENT...
//     verify KEY KEYID FILE...
//
// KEY is a private key (PEM). `verify` prints `accepted FILE` or `refused FILE: WHY` for each
// file, and fails when anything but the signature is wrong.

import { createHash, createPrivateKey, createPublicKey, randomBytes } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";

function read(file) {
  const content = readFileSync(file);
  const end = content.indexOf("\r\n\r\n");
  const [first, ...lines] = content.subarray(0, end).toString("latin1").split("\r\n");
  const [method, requestTarget] = first.split(" ");
  const headers = Object.fromEntries(lines.map((line) => line.split(/: (.*)/, 2)));
  const url = `https://${headers.Host}${requestTarget}`;
  return { method, requestTarget, url, headers, body: content.subarray(end + 4) };
}

function write(file, { method, requestTarget, headers, body }) {
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
  const head = `${method} ${requestTarget} HTTP/1.1\r\n${lines.join("")}\r\n`;
  writeFileSync(file, Buffer.concat([Buffer.from(head, "latin1"), body]));
}

function digest(algorithm, body) {
  const value = createHash(algorithm.replace("-", "")).update(body).digest("base64");
  return `${algorithm}=:${value}:`;
}

/** The libraries leave the digest to their caller. */
function whyNot(verified, { headers, body }) {
  if (!verified) return "signature";
  const stated = headers["Content-Digest"];
  if (body.length > 0 && stated === undefined) return "no digest";
  if (stated !== undefined && stated !== digest(stated.split("=")[0], body)) return "digest";
  return null;
}

/**
 * `sign(request, components, parameters, key)` resolves to the request's headers with the
 * signature, `verify(request, keyid, key)` to a boolean. A key is `{alg, secret, open}`.
 */
export async function run({ sign, verify, digestAlgorithm }) {
  const [action, keyFile, keyid, ...more] = process.argv.slice(2);
  const secret = createPrivateKey(readFileSync(keyFile));
  const open = createPublicKey(secret);
  const alg = secret.asymmetricKeyType === "ed25519" ? "ed25519" : "ecdsa-p256-sha256";
  const key = { alg, secret, open };
  if (action === "sign") {
    const [unsigned, signed, ...components] = more;
    const request = read(unsigned);
    if (request.body.length > 0) {
      request.headers["Content-Digest"] = digest(digestAlgorithm, request.body);
    }
    const created = Math.floor(Date.now() / 1000);
    const nonce = randomBytes(16).toString("base64url");
    const parameters = { created, expires: created + 120, nonce, alg, keyid, tag: "onceguard" };
    request.headers = await sign(request, components, parameters, key);
    write(signed, request);
  } else if (action === "verify") {
    for (const file of more) {
      const request = read(file);
      const why = whyNot(await verify(request, keyid, key), request);
      console.log(why === null ? `accepted ${file}` : `refused ${file}: ${why}`);
    }
  } else {
    throw new Error(`neither sign nor verify: ${action}`);
  }
}
