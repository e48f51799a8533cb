// The recipes of docs/namespaces.md, as they stand there, with the libraries that they name.

import assert from "node:assert/strict";
import { test } from "node:test";
import { errors, generateKeyPair, SignJWT } from "jose";
import { Webhook, WebhookVerificationError } from "standardwebhooks";
import { InvalidRequestError, NonceReplayedError } from "../src/index.js";
import { authenticate } from "./recipes/authenticate.js";
import { finishLogin } from "./recipes/finishLogin.js";
import { receive } from "./recipes/receive.js";
import { client, thrown } from "./support.js";

const unique = (name: string) => `${name}-${crypto.randomUUID()}`;
const now = () => Math.floor(Date.now() / 1000);

for (const alg of ["ES256", "EdDSA"]) {
  test(`an assertion by ${alg} passes once`, async () => {
    const { privateKey, publicKey } = await generateKeyPair(alg);
    const audience = "https://as.example/token";
    const issuer = `https://${unique("client")}.example`;
    const assertion = async (changed: Record<string, unknown> = {}) => {
      const claims = { iss: issuer, sub: issuer, aud: audience, iat: now(), exp: now() + 60 };
      const stated = { ...claims, jti: "é/ 1", ...changed };
      return new SignJWT(stated).setProtectedHeader({ alg }).sign(privateKey);
    };
    const good = await assertion();
    const accept = (jwt: string, by = issuer) => authenticate(client, jwt, publicKey, by, audience);
    assert.equal((await accept(good)).sub, issuer);
    for (const copy of [good, await assertion({ exp: now() + 90 })]) {
      await thrown(NonceReplayedError, accept(copy));
    }
    // Within the leeway, and another client's id is another one.
    await accept(await assertion({ exp: now() - 5, jti: "2" }));
    const other = unique("other");
    await accept(await assertion({ iss: other }), other);

    // What does not pass spends nothing.
    const { live } = await client.namespaces.read(issuer);
    for (const wrong of [
      await assertion({ jti: "3", aud: "https://other.example" }),
      await assertion({ jti: "3", iss: "https://other.example" }),
      await assertion({ jti: "3", exp: now() - 60 }),
      await assertion({ jti: undefined }),
      await assertion({ jti: "3", iat: undefined }),
      `${good.slice(0, -4)}AAAA`,
    ]) {
      await thrown(errors.JOSEError, accept(wrong));
    }
    const long = await assertion({ jti: "3", exp: now() + 90_000 });
    await thrown(InvalidRequestError, accept(long));
    assert.equal((await client.namespaces.read(issuer)).live, live);
  });
}

test("a login ends once", async () => {
  const [state, began] = [unique("state"), new Date()];
  await assert.rejects(finishLogin(client, unique("state"), state, began), /this browser/);
  await finishLogin(client, state, state, began);
  await thrown(NonceReplayedError, finishLogin(client, state, state, began));
  const late = unique("late");
  const tooLate = finishLogin(client, late, late, new Date(Date.now() - 660_000));
  await thrown(InvalidRequestError, tooLate);
});

test("a webhook is received once", async () => {
  const [secret, event] = ["whsec_c2VjcmV0IG9mIGEgdGVzdA==", '{"type": "order.paid"}'];
  const headers = (id: string, sent = new Date()) => ({
    "webhook-id": id,
    "webhook-timestamp": String(Math.floor(sent.getTime() / 1000)),
    "webhook-signature": new Webhook(secret).sign(id, sent, event),
  });
  const id = unique("msg");
  const paid = { type: "order.paid" };
  assert.deepEqual(await receive(client, secret, event, headers(id)), paid);
  assert.equal(await receive(client, secret, event, headers(id)), undefined);
  // A repeat has a time of its own.
  const again = headers(id, new Date(Date.now() - 30_000));
  assert.equal(await receive(client, secret, event, again), undefined);
  assert.deepEqual(await receive(client, secret, event, headers(unique("msg"))), paid);

  // A forgery spends nothing.
  const forged = unique("msg");
  await thrown(WebhookVerificationError, receive(client, secret, "{}", headers(forged)));
  assert.equal(await client.namespaces.used("webhooks", forged), null);
  assert.deepEqual(await receive(client, secret, event, headers(forged)), paid);
});
