// Each call, against the real service.

import assert from "node:assert/strict";
import { test } from "node:test";
import { ofAnswer } from "../src/errors.js";
import {
  CannotSignError,
  ClaimQuotaReachedError,
  CursorExpiredError,
  DidRevokedError,
  ForbiddenError,
  InvalidRequestError,
  IssuedBeforeRestoreError,
  Key,
  NonceReplayedError,
  NotFoundError,
  Onceguard,
  PreconditionFailedError,
  RecordQuotaReachedError,
  SessionEndedError,
  SessionExistsError,
  UnauthenticatedError,
  UnavailableError,
  UnexpectedAnswerError,
} from "../src/index.js";
import { client, collect, json, parties, serving, TOKEN, thrown, URL } from "./support.js";

test("a session, from its opening to its end", async () => {
  const pair = await parties();
  const sessionKey = Uint8Array.of(0, 255, 7);
  const metadata = { purpose: "test", snake_case: { camelCase: [1, null] } };
  const opened = await client.sessions.open({
    ...pair,
    sessionKey,
    ttlSeconds: 600,
    idleTimeoutSeconds: 60,
    maxClaims: 9,
    metadata,
  });
  assert.equal(opened.clientDid, pair.clientDid);
  assert.equal(opened.serverDid, pair.serverDid);
  assert.equal(opened.state, "active");
  assert.equal(Date.parse(opened.expiresAt) - Date.parse(opened.createdAt), 600_000);
  assert.deepEqual(opened.metadata, metadata);
  assert.deepEqual(await client.sessions.key(opened.id), sessionKey);
  assert.equal((await client.sessions.read(opened.id)).id, opened.id);
  await client.sessions.touch(opened.id);

  const ifMatch = opened.etag ?? "";
  const changed = await client.sessions.change(opened.id, { metadata: {} }, { ifMatch });
  assert.deepEqual(changed.metadata, {});
  assert.notEqual(changed.etag, opened.etag);
  const stale = client.sessions.change(opened.id, { ttlSeconds: 60 }, { ifMatch });
  await thrown(PreconditionFailedError, stale);

  await client.sessions.end(opened.id);
  const ended = await thrown(SessionEndedError, client.sessions.read(opened.id));
  assert.equal(ended.problem.end_reason, "ended");
  const { clientDid } = pair;
  const [listed] = await collect(client.sessions.list({ clientDid, state: "ended" }));
  assert.equal(listed?.endReason, "ended");
  assert.equal(listed?.etag, undefined);
});

test("a list goes over all pages", async () => {
  const { clientDid, serverDid } = await parties();
  const opened: string[] = [];
  for (let n = 0; n < 5; n += 1) {
    opened.unshift((await client.sessions.open({ clientDid, serverDid })).id);
  }
  const listed = await collect(client.sessions.list({ serverDid, pageSize: 2 }));
  assert.deepEqual(
    listed.map((session) => session.id),
    opened,
  );
  assert.equal(await client.sessions.endAll({ clientDid }), 5);
  assert.deepEqual(await collect(client.sessions.list({ clientDid })), []);
});

test("a chosen id is taken once", async () => {
  const { id } = await client.sessions.open(await parties());
  await thrown(SessionExistsError, client.sessions.open({ ...(await parties()), id }));
});

test("a nonce is accepted once", async () => {
  const { id } = await client.sessions.open({ ...(await parties()), maxClaims: 2 });
  assert.equal(await client.sessions.used(id, "a/b"), null);
  const accepted = await client.sessions.claim(id, "a/b");
  assert.deepEqual([accepted.nonce, accepted.sessionId], ["a/b", id]);
  const replayed = await thrown(NonceReplayedError, client.sessions.claim(id, "a/b"));
  assert.equal(replayed.firstUsedAt, accepted.usedAt);
  assert.equal((await client.sessions.used(id, "a/b"))?.usedAt, accepted.usedAt);
  await client.sessions.claim(id, "second");
  const full = await thrown(ClaimQuotaReachedError, client.sessions.claim(id, "third"));
  assert.deepEqual([full.retryAfter, full.attempts], [undefined, 1], "waiting does not mend it");
});

test("claims are decided each on its own", async () => {
  const { id: sessionId } = await client.sessions.open(await parties());
  const expiresAt = new Date(Date.now() + 60_000).toISOString();
  const claims = [
    { sessionId, nonce: "one" },
    { sessionId, nonce: "one" },
    {
      signer: (await Key.generate()).did,
      nonce: "one",
      expiresAt,
      issuedAt: new Date(Date.now() - 1000).toISOString(),
    },
    { namespace: sessionId, nonce: "one", expiresAt },
    { namespace: sessionId, nonce: new TextEncoder().encode("one"), expiresAt },
    { namespace: sessionId, nonce: Uint8Array.of(0, 255), expiresAt },
  ];
  const idempotencyKey = `0123456789abcdef${sessionId}`;
  const results = await client.claims.create(claims, { idempotencyKey });
  assert.deepEqual(
    results.map((result) => result.outcome),
    ["accepted", "replayed", "accepted", "accepted", "replayed", "accepted"],
  );
  assert.equal(results[1]?.firstUsedAt, results[0]?.usedAt);
  assert.deepEqual(await client.claims.create(claims, { idempotencyKey }), results);
});

test("an id is accepted once in a namespace", async () => {
  const namespace = `https://shop.example/${(await Key.generate()).did}`;
  const expiresAt = new Date(Date.now() + 60_000).toISOString();
  const { namespaces } = client;
  assert.equal(await namespaces.used(namespace, "a/b"), null);
  const accepted = await namespaces.claim(namespace, "a/b", { expiresAt });
  assert.equal(accepted.namespace, namespace);
  for (const copy of ["a/b", new TextEncoder().encode("a/b")]) {
    const claim = namespaces.claim(namespace, copy, { expiresAt });
    assert.equal((await thrown(NonceReplayedError, claim)).firstUsedAt, accepted.usedAt);
  }
  const issuedAt = new Date(Date.now() - 1000).toISOString();
  await namespaces.claim(namespace, Uint8Array.of(0, 255), { expiresAt, issuedAt });
  assert.equal((await namespaces.used(namespace, "a/b"))?.usedAt, accepted.usedAt);
  assert.equal((await namespaces.read(namespace)).live, 2);
  const idempotencyKey = crypto.randomUUID();
  const once = await namespaces.claim(namespace, "c", { expiresAt, idempotencyKey });
  assert.deepEqual(await namespaces.claim(namespace, "c", { expiresAt, idempotencyKey }), once);
});

test("DIDs", async () => {
  const key = await Key.generate("P256");
  const did = key.did.replace("did:key", "did:example");
  await thrown(NotFoundError, client.dids.read(did));
  const { publicKey, keyType } = key;
  const ownerAddress = key.did.slice(-40);
  const stored = await client.dids.store(did, { publicKey, keyType, ownerAddress });
  assert.deepEqual([stored.publicKey, stored.keyType], [publicKey, "P256"]);
  const read = await client.dids.read(did, { maxAge: 60 });
  assert.deepEqual(
    read.verificationMethods?.map((method) => method.publicKey),
    [publicKey],
  );
  assert.deepEqual((await client.dids.refresh(did)).publicKey, publicKey);
  const listed = await collect(client.dids.list({ ownerAddress, revoked: false, pageSize: 1 }));
  assert.deepEqual(
    listed.map((each) => each.did),
    [did],
  );
  await client.dids.forget(did);
  const revocation = await client.dids.revoke(did);
  assert.deepEqual([revocation.did, revocation.sessionsEnded], [did, 0]);
  await thrown(DidRevokedError, client.sessions.open({ clientDid: did, serverDid: key.did }));
});

test("identifiers", async () => {
  const { did } = await Key.generate();
  assert.equal((await client.identifiers.resolve(did)).didDocument?.id, did);
  const missing = await client.identifiers.resolve("did:nosuchmethod:a");
  assert.equal(missing.didDocument, null);
  assert.ok(missing.didResolutionMetadata.error);
  assert.ok((await client.identifiers.methods()).includes("key"));
  assert.ok("key" in (await client.identifiers.properties()));
});

test("stats", async () => {
  const stats = await client.stats();
  assert.ok(["sqlite", "postgresql"].includes(stats.backend));
  assert.ok(Date.parse(stats.startedAt) < Date.now());
  assert.ok(stats.database.tables.some((table) => table.name === "sessions"));
});

test("an agent calls by its key", async () => {
  for (const keyType of ["Ed25519", "P256", "Secp256k1"] as const) {
    const key = await Key.generate(keyType);
    const agent = new Onceguard({ baseUrl: URL, key });
    const { serverDid } = await parties();
    const { id } = await agent.sessions.open({ clientDid: key.did, serverDid });
    await agent.sessions.claim(id, "n");
    const listed = await collect(agent.sessions.list({ clientDid: key.did }));
    assert.deepEqual(
      listed.map((session) => session.id),
      [id],
    );
    await thrown(ForbiddenError, agent.stats());
  }
});

test("errors say what to do", async () => {
  const invalid = await thrown(
    InvalidRequestError,
    client.sessions.open({ clientDid: "x", serverDid: "y" }),
  );
  assert.deepEqual(
    invalid.errors.map((error) => error.pointer),
    ["/client_did", "/server_did"],
  );
  assert.match(invalid.message, /\/server_did: must be a DID/);
  assert.equal(invalid.code, "validation_failed");
  assert.ok(invalid.message.includes(invalid.requestId ?? "?"));

  const stranger = new Onceguard({ baseUrl: URL, token: "og_wrong_token" });
  const unknown = await thrown(UnauthenticatedError, stranger.stats());
  assert.match(unknown.message, /onceguard token create/);
  assert.doesNotMatch(unknown.message, /og_wrong/);

  const pem = "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----";
  const damaged = await thrown(CannotSignError, Key.fromPem(pem));
  assert.doesNotMatch(String(damaged.stack), /c2VjcmV0/);
  const noPem = await thrown(CannotSignError, Key.fromPem("secret"));
  assert.match(noPem.message, /onceguard key new/);
});

for (const [status, code, kind] of [
  [404, "record_not_found", NotFoundError],
  [409, "issued_before_restore", IssuedBeforeRestoreError],
  [410, "cursor_expired", CursorExpiredError],
  [422, "checksum_mismatch", InvalidRequestError],
  [428, "precondition_required", InvalidRequestError],
  [503, "storage_went_back", UnavailableError],
  [507, "record_quota_reached", RecordQuotaReachedError],
] as const) {
  test(`${code} is a ${kind.name}`, () => {
    const error = ofAnswer(status, { code, detail: "d", request_id: "r" });
    assert.deepEqual([error.constructor, error.code, error.status], [kind, code, status]);
  });
}

test("an answer that is not onceguard's is an error", async () => {
  for (const [status, content] of [
    [200, "<html>"],
    [200, "{}"],
    [302, "{}"],
    [403, "<html>"],
    [418, "{}"],
    [500, "[]"],
  ] as const) {
    await serving(
      (_, response) => response.writeHead(status).end(content),
      async (baseUrl) => {
        const other = new Onceguard({ baseUrl, token: TOKEN });
        const error = await thrown(UnexpectedAnswerError, other.stats());
        assert.equal(error.code, undefined);
      },
    );
  }
});

test("a call that is slow is given up", async () => {
  await serving(
    () => undefined,
    async (baseUrl) => {
      const slow = new Onceguard({ baseUrl, token: TOKEN, timeoutMilliseconds: 100, retries: 0 });
      const error = await thrown(Error, slow.stats());
      assert.equal(error.name, "NoAnswerError");
    },
  );
});

test("fields that are newer than the client do no harm", async () => {
  await serving(
    (_, response) =>
      json(response, 200, { did: "did:example:a", revoked_at: "t", sessions_ended: 0, new: 1 }),
    async (baseUrl) => {
      const older = new Onceguard({ baseUrl, token: TOKEN });
      assert.equal((await older.dids.revoke("did:example:a")).sessionsEnded, 0);
    },
  );
});
