// npm's `http-message-signatures`; request.mjs says how it is called.

import { createSigner, createVerifier, httpbis } from "http-message-signatures";
import { run } from "./request.mjs";

async function sign(request, components, parameters, { alg, secret }) {
  const signed = await httpbis.signMessage(
    {
      key: createSigner(secret, alg, parameters.keyid),
      fields: components,
      params: Object.keys(parameters),
      paramValues: {
        ...parameters,
        created: new Date(parameters.created * 1000),
        expires: new Date(parameters.expires * 1000),
      },
    },
    request,
  );
  return signed.headers;
}

async function verify(request, keyid, { alg, open }) {
  const keyLookup = async (parameters) =>
    parameters.keyid === keyid && parameters.tag === "onceguard"
      ? { id: keyid, algs: [alg], verify: createVerifier(open, alg) }
      : null;
  const requiredParams = ["created", "expires", "nonce", "keyid", "tag"];
  const requiredFields = ["@method"];
  const verified = await httpbis.verifyMessage(
    { keyLookup, requiredParams, requiredFields, tolerance: 5, all: true },
    request,
  );
  if (typeof verified !== "boolean") throw new Error("no signature was looked at");
  return verified;
}

await run({ sign, verify, digestAlgorithm: "sha-512" });
