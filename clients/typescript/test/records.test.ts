// Sealed records and erasure: each call, and what a lost answer does to a write.

import assert from "node:assert/strict";
import { test } from "node:test";
import {
  CursorExpiredError,
  ForbiddenError,
  InvalidRequestError,
  Key,
  NoAnswerError,
  NotFoundError,
  Onceguard,
  PreconditionFailedError,
  type RecordPut,
} from "../src/index.js";
import { Cutting, client, collect, json, serving, TOKEN, thrown, URL } from "./support.js";

const SOME = 100;
const { records } = client;

const bytes = (text: string) => new TextEncoder().encode(text);

function sealed(content = "sealed") {
  return { iv: crypto.getRandomValues(new Uint8Array(12)), ciphertext: bytes(content) };
}

/** An owner that no other test has. */
async function owner(): Promise<string> {
  return (await Key.generate()).did;
}

function put(id: string, content = "sealed", ifMatch?: string): RecordPut {
  const record = sealed(content);
  return { op: "put", kind: "sync", id, record, ...(ifMatch !== undefined && { ifMatch }) };
}

test("a record, from its writing to its deletion", async () => {
  const did = await owner();
  const record = {
    ...sealed(),
    ciphertext: Uint8Array.from({ length: 256 }, (_, n) => n),
    clientTime: "2026-01-02T03:04:05.000006Z",
    metadata: { device: "laptop", snake_case: { camelCase: 1 } },
    expiresAt: new Date(Date.now() + 3_600_000).toISOString(),
  };
  const written = await records.put(did, "sync", "a/b~", record);
  assert.deepEqual([written.kind, written.id, written.version], ["sync", "a/b~", 1]);
  const read = await records.read(did, "sync", "a/b~");
  assert.deepEqual([read.iv, read.ciphertext], [record.iv, record.ciphertext]);
  assert.deepEqual([read.metadata, read.clientTime], [record.metadata, record.clientTime]);
  assert.equal(read.etag, written.etag);
  assert.equal(Date.parse(read.expiresAt ?? ""), Date.parse(record.expiresAt));

  const { etag = "" } = written;
  assert.equal(await records.readIfChanged(did, "sync", "a/b~", etag), null);
  await thrown(PreconditionFailedError, records.put(did, "sync", "a/b~", sealed()));
  const newer = await records.put(did, "sync", "a/b~", sealed("newer"), { ifMatch: etag });
  assert.equal(newer.version, 2);
  const stale = records.put(did, "sync", "a/b~", sealed(), { ifMatch: etag });
  assert.equal((await thrown(PreconditionFailedError, stale)).attempts, 1);
  const changed = await records.readIfChanged(did, "sync", "a/b~", etag);
  assert.deepEqual(changed?.ciphertext, bytes("newer"));
  await records.put(did, "sync", "a/b~", sealed("any"), { ifMatch: "*" });

  const wrong = records.delete(did, "sync", "a/b~", { ifMatch: etag });
  await thrown(PreconditionFailedError, wrong);
  await records.delete(did, "sync", "a/b~", { ifMatch: "*" });
  const gone = await thrown(NotFoundError, records.read(did, "sync", "a/b~"));
  assert.equal(gone.code, "record_not_found");
});

test("a batch changes all or nothing", async () => {
  const did = await owner();
  const [one, two] = await records.change(did, [put("1"), put("2")]);
  assert.deepEqual([one?.id, two?.id, one?.deleted], ["1", "2", undefined]);
  const refused = records.change(did, [put("3"), put("1")]);
  const { errors } = await thrown(PreconditionFailedError, refused);
  assert.deepEqual(
    errors.map((error) => error.pointer),
    ["/operations/1"],
  );
  await thrown(NotFoundError, records.read(did, "sync", "3"));
  const [replaced, deleted] = await records.change(did, [
    put("1", "newer", one?.etag ?? ""),
    { op: "delete", kind: "sync", id: "2", ifMatch: two?.etag ?? "" },
  ]);
  assert.deepEqual([replaced?.version, deleted?.deleted, deleted?.etag], [2, true, undefined]);
});

test("changes are followed page by page", async () => {
  const did = await owner();
  assert.deepEqual(await collect(records.list(did)), []);
  await records.change(
    did,
    ["0", "1", "2", "3", "4"].map((id) => put(id)),
  );
  const pages = await collect(records.follow(did, { pageSize: 2 }));
  assert.deepEqual(
    pages.map((page) => page.hasMore),
    [true, true, false],
  );
  const seen = pages.flatMap((page) => page.items);
  const ids = (items: readonly { readonly id: string }[]) => items.map(({ id }) => id);
  assert.deepEqual(ids(seen), ["0", "1", "2", "3", "4"]);
  assert.deepEqual(seen[0]?.ciphertext, bytes("sealed"));

  await records.delete(did, "sync", "3", { ifMatch: seen[3]?.etag ?? "" });
  const [since] = await collect(records.follow(did, { since: pages[2]?.nextCursor ?? "" }));
  assert.deepEqual(
    since?.items.map(({ id, deleted }) => [id, deleted]),
    [["3", true]],
  );
  assert.deepEqual(ids(await collect(records.list(did, { pageSize: 2 }))), ["0", "1", "2", "4"]);

  const metadata = { device: "phone" };
  for (const id of ["m1", "m2"]) await records.put(did, "backup", id, { ...sealed("x"), metadata });
  const found = await collect(records.list(did, { metadata, contents: false, pageSize: 1 }));
  assert.deepEqual(
    found.map(({ id, iv }) => [id, iv]),
    [
      ["m1", undefined],
      ["m2", undefined],
    ],
  );
  assert.deepEqual(ids(await collect(records.list(did, { kind: "backup" }))), ["m1", "m2"]);

  const usage = await records.usage(did);
  assert.deepEqual([usage.records, usage.kinds], [7, { sync: 4, backup: 2 }]);
  assert.equal(await records.deleteAll(did), 6);
  const expired = collect(records.follow(did, { since: since?.nextCursor ?? "" }));
  await thrown(CursorExpiredError, expired);
});

test("inactive owners", async () => {
  const did = await owner();
  await records.put(did, "sync", "r", sealed());
  // Everything here is of today.
  const owners = await collect(records.inactive(1, { pageSize: 1 }));
  assert.ok(!owners.some((each) => each.did === did));
  assert.deepEqual(await records.deleteInactive(36_500), { owners: 0, records: 0 });
  await thrown(InvalidRequestError, records.deleteInactive(0));
  const item = { did, last_accessed: "t", records: 1, bytes: 2 };
  await serving(
    (_, response) => json(response, 200, { items: [item], next_cursor: null }),
    async (baseUrl) => {
      const other = new Onceguard({ baseUrl, token: TOKEN });
      const found = await collect(other.records.inactive(1));
      assert.deepEqual(found, [{ did, lastAccessed: "t", records: 1, bytes: 2 }]);
    },
  );
});

test("an agent reaches its own records", async () => {
  const key = await Key.generate();
  const agent = new Onceguard({ baseUrl: URL, key });
  await agent.records.put(key.did, "sync", "r/1", sealed());
  const read = await agent.records.read(key.did, "sync", "r/1");
  assert.deepEqual(read.ciphertext, bytes("sealed"));
  assert.equal((await collect(agent.records.list(key.did))).length, 1);
  await thrown(ForbiddenError, agent.records.usage(await owner()));
  assert.equal((await agent.dids.erase(key.did)).records, 1);
  assert.deepEqual(await collect(records.list(key.did)), []);
});

for (const when of ["before", "after"] as const) {
  // No version is skipped, and none is doubled.
  test(`each write is made once, also when it is cut ${when} the decision`, async () => {
    const did = await owner();
    const cutting = new Cutting(when);
    await cutting.running(async (baseUrl) => {
      const { records: lossy } = new Onceguard({ baseUrl, token: TOKEN });
      const write = async (id: string) => {
        const written = await lossy.put(did, "sync", id, sealed("1"));
        const { etag: ifMatch = "" } = written;
        assert.equal((await records.read(did, "sync", id)).etag, ifMatch);
        const newer = await lossy.put(did, "sync", id, sealed("2"), { ifMatch });
        assert.deepEqual([written.version, newer.version, newer.size], [1, 2, 1]);
        await lossy.delete(did, "sync", id, { ifMatch: newer.etag ?? "" });
      };
      for (let n = 0; n < SOME; n += 10) {
        await Promise.all(Array.from({ length: 10 }, (_, m) => write(String(n + m))));
      }
      const results = await lossy.change(did, [put("x"), put("y")]);
      assert.deepEqual(
        results.map(({ id, version }) => [id, version]),
        [
          ["x", 1],
          ["y", 1],
        ],
      );
      // Each change took one number.
      assert.equal(results[1]?.sequence, 3 * SOME + 2);
    });
    const left = await collect(records.list(did));
    assert.deepEqual(
      left.map(({ id }) => id),
      ["x", "y"],
    );
  });

  test(`what could undo the work of others is sent once, cut ${when} the decision`, async () => {
    const did = await owner();
    const { etag: ifMatch = "" } = await records.put(did, "sync", "r", sealed());
    const cutting = new Cutting(when);
    await cutting.running(async (baseUrl) => {
      const { records: lossy, dids } = new Onceguard({ baseUrl, token: TOKEN });
      const calls = [
        () => lossy.change(did, [{ op: "delete", kind: "sync", id: "r", ifMatch }]),
        () => lossy.change(did, [put("r", "x", "*")]),
        () => lossy.put(did, "sync", "r", sealed(), { ifMatch: "*" }),
        () => lossy.delete(did, "sync", "r", { ifMatch: "*" }),
        () => lossy.deleteAll(did),
        () => lossy.deleteInactive(36_500),
        () => dids.erase(did),
      ];
      for (const call of calls) {
        assert.equal((await thrown(NoAnswerError, call())).attempts, 1);
      }
      assert.equal(cutting.received, calls.length);
    });
  });
}

test("what another device wrote meanwhile is not ours", async () => {
  const did = await owner();
  let first = true;
  await serving(
    async ({ method = "", url = "", headers }, response, body) => {
      const names = ["authorization", "content-type", "if-none-match"];
      const kept = names.filter((name) => headers[name] !== undefined);
      const init = {
        method,
        headers: kept.map((name): [string, string] => [name, String(headers[name])]),
      };
      const content = body.length > 0 ? { body: new Uint8Array(body) } : {};
      const answer = await fetch(URL + url, { ...init, ...content });
      if (first) {
        first = false;
        const ifMatch = answer.headers.get("ETag") ?? "";
        await records.put(did, "sync", "r", sealed("theirs"), { ifMatch });
        response.socket?.destroy();
        return;
      }
      json(response, answer.status, await answer.json());
    },
    async (baseUrl) => {
      const lossy = new Onceguard({ baseUrl, token: TOKEN });
      const refused = lossy.records.put(did, "sync", "r", sealed("ours"));
      assert.equal((await thrown(PreconditionFailedError, refused)).attempts, 2);
    },
  );
  assert.deepEqual((await records.read(did, "sync", "r")).ciphertext, bytes("theirs"));
});
