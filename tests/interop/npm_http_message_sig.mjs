// npm's `http-message-sig`; request.mjs says how it is called. The library brings Ed25519 and
// takes any other algorithm from its caller: here ECDSA from Node.js.

import * as crypto from "node:crypto";
import { createSignature, isSignatureError, verifySignature, webcrypto } from "http-message-sig";
import { run } from "./request.mjs";

const P1363 = "ieee-p1363";

function imported(key, usage) {
  const jwk = key.export({ format: "jwk" });
  return globalThis.crypto.subtle.importKey("jwk", jwk, "Ed25519", false, [usage]);
}

async function signer({ alg, secret }) {
  if (alg === "ed25519") return webcrypto.signer(await imported(secret, "sign"));
  const key = { key: secret, dsaEncoding: P1363 };
  return { algorithm: alg, sign: (base) => new Uint8Array(crypto.sign("sha256", base, key)) };
}

async function verifier({ alg, open }) {
  if (alg === "ed25519") return webcrypto.verifier(await imported(open, "verify"));
  const key = { key: open, dsaEncoding: P1363 };
  return {
    algorithm: alg,
    verify: (base, signature) => crypto.verify("sha256", base, key, signature),
  };
}

function descriptor({ method, url, requestTarget, headers }) {
  const fields = Object.entries(headers).map(([name, value]) => ({ name, value }));
  return { kind: "request", method, targetUri: url, requestTarget, fields };
}

async function sign(request, components, parameters, key) {
  const options = { components, parameters, signer: await signer(key) };
  const { signature, signatureInput } = await createSignature(descriptor(request), options);
  return { ...request.headers, "Signature-Input": signatureInput, Signature: signature };
}

async function verify(request, keyid, key) {
  const policy = {
    algorithms: [key.alg],
    requiredComponents: ["@method"],
    requiredParameters: ["created", "expires", "nonce", "keyid", "tag"],
    maxAge: 300,
    clockSkew: 5,
  };
  const resolveVerifier = ({ parameters }) => {
    if (parameters.keyid !== keyid) throw new Error(`another keyid: ${parameters.keyid}`);
    return verifier(key);
  };
  try {
    await verifySignature(descriptor(request), { policy, resolveVerifier });
    return true;
  } catch (error) {
    if (isSignatureError(error) && error.code === "VerificationFailed") return false;
    throw error;
  }
}

await run({ sign, verify, digestAlgorithm: "sha-256" });
