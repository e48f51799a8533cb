// Events are published once, and read in an order that skips none; and the list of instances.

import assert from "node:assert/strict";
import { test } from "node:test";
import {
  CursorExpiredError,
  type EventFilter,
  ForbiddenError,
  InvalidRequestError,
  Key,
  Onceguard,
  OutcomeUnknownError,
} from "../src/index.js";
import {
  Cutting,
  client,
  collect,
  freshType,
  json,
  serving,
  TOKEN,
  thrown,
  URL,
  waits,
} from "./support.js";

const { events } = client;
const SOME = 20;

/** The subjects of so many events, which an instance links soon after they were published. */
async function followed(count: number, filter: EventFilter & { since?: string }) {
  const subjects: (string | null)[] = [];
  let since = "";
  // A minute and more, where the instance is slow.
  let pages = 6000;
  for await (const page of events.follow({ ...filter, waitMilliseconds: 10 })) {
    subjects.push(...page.items.map(({ subject }) => subject));
    since = page.nextCursor;
    pages -= 1;
    if (subjects.length >= count || pages === 0) break;
  }
  return { subjects, since };
}

test("what is published can be read", async () => {
  const type = await freshType();
  const data = { amount: 5, snake_case: { camelCase: [1, null] } };
  const id = await events.publish({ type, subject: "order 7", data });
  const ids = await events.publish([
    { type, subject: "order 8" },
    { type, subject: "order 9", data: {} },
  ]);
  assert.deepEqual((await followed(3, { type })).subjects, ["order 7", "order 8", "order 9"]);
  const listed = await collect(events.list({ type, pageSize: 2 }));
  assert.deepEqual(
    listed.map((event) => event.id),
    [id, ...ids],
  );
  const [first] = listed;
  assert.ok(first);
  assert.deepEqual([first.type, first.subject, first.outcome], [type, "order 7", "success"]);
  assert.deepEqual(first.data, data);
  assert.equal(typeof first.requestId, "string");
  assert.ok(
    listed.every(({ sequence }, n) => n === 0 || sequence > (listed[n - 1]?.sequence ?? 0)),
  );
  for (const filter of [
    { subject: "order 8", type },
    { type, actor: first.actor ?? "", outcome: "success", from: listed[1]?.at ?? "", pageSize: 1 },
  ]) {
    const [found] = await collect(events.list(filter));
    assert.equal(found?.subject, "order 8");
  }
  assert.deepEqual(await collect(events.list({ type, to: first.at })), []);
  assert.deepEqual(await collect(events.list({ type, outcome: "nonce_replayed" })), []);
});

test("a follower goes on where it ended, and sees each event once", async () => {
  const type = await freshType();
  const { since } = await followed(0, { type });
  await events.publish({ type, subject: "0" });
  const first = await followed(1, { type, since });
  const more = followed(SOME, { type, since: first.since, pageSize: 3 });
  for (let n = 1; n <= SOME; n += 1) await events.publish({ type, subject: String(n) });
  const seen = [...first.subjects, ...(await more).subjects];
  assert.deepEqual(
    seen,
    Array.from({ length: SOME + 1 }, (_, n) => String(n)),
  );
});

for (const when of ["before", "after"] as const) {
  test(`an event whose answer is lost ${when} it is written is written once`, async () => {
    const type = await freshType();
    const cutting = new Cutting(when);
    const published = await cutting.running(async (baseUrl) => {
      const lossy = new Onceguard({ baseUrl, token: TOKEN });
      const ids: string[] = [];
      for (let n = 0; n < SOME; n += 1) {
        ids.push(await lossy.events.publish({ type, subject: "one" }));
      }
      const many = Array.from({ length: SOME }, () => ({ type, subject: "many" }));
      return [...ids, ...(await lossy.events.publish(many))];
    });
    assert.deepEqual([cutting.cut, cutting.received], [SOME + 1, 2 * (SOME + 1)]);
    await followed(2 * SOME, { type });
    const found = await collect(events.list({ type }));
    assert.deepEqual(
      found.map(({ id }) => id),
      published,
    );
  });
}

test("an outcome that stays unknown leaves the key to publish with", async () => {
  const keys: unknown[] = [];
  await serving(
    (request, response) => {
      keys.push(request.headers["idempotency-key"]);
      json(response, 503, { code: "outcome_unknown", detail: "d", request_id: "r" });
    },
    async (baseUrl) => {
      const given = new Onceguard({ baseUrl, token: TOKEN });
      const event = { type: "com.example.a", subject: "s" };
      const unknown = await thrown(OutcomeUnknownError, given.events.publish(event));
      const { idempotencyKey = "" } = unknown;
      assert.ok(idempotencyKey.length >= 22);
      await thrown(OutcomeUnknownError, given.events.publish(event, { idempotencyKey }));
    },
  );
  assert.equal(keys.length, 6);
  assert.equal(new Set(keys).size, 1);
});

test("what cannot be published says why", async () => {
  const event = { type: "onceguard.did.revoked", subject: "s" };
  await thrown(InvalidRequestError, events.publish(event));
  const type = await freshType();
  const many = [{ type, subject: "s" }, event];
  const { errors } = await thrown(InvalidRequestError, events.publish(many));
  assert.deepEqual(
    errors.map(({ pointer }) => pointer),
    ["/events/1/type"],
  );
  await events.publish({ type, subject: "later" });
  assert.deepEqual((await followed(1, { type })).subjects, ["later"], "all or none");
  await thrown(InvalidRequestError, events.publish([]));
  const agent = new Onceguard({ baseUrl: URL, key: await Key.generate() });
  await thrown(ForbiddenError, agent.events.publish({ type: "com.example.a", subject: "s" }));
});

test("a follower waits where there is nothing new, and tells of an expired cursor", async (t) => {
  const noted = waits(t, (wait) => wait === 1000 || wait === 77);
  const event = {
    id: "i",
    sequence: 1,
    type: "t",
    source: "s",
    subject: null,
    actor: null,
    outcome: "success",
    request_id: null,
    at: "2026-01-02T03:04:05Z",
    data: {},
  };
  const asked: (string | null)[] = [];
  await serving(
    ({ url = "" }, response) => {
      asked.push(new globalThis.URL(url, "http://h").searchParams.get("since"));
      const n = asked.length;
      if (n === 5) json(response, 410, { code: "cursor_expired", detail: "d", request_id: "r" });
      else json(response, 200, { items: n % 3 === 1 ? [event] : [], next_cursor: `c${n}` });
    },
    async (baseUrl) => {
      const given = new Onceguard({ baseUrl, token: TOKEN });
      const sizes: number[] = [];
      const follow = async (options?: { since: string; waitMilliseconds: number }) => {
        for await (const page of given.events.follow(options)) {
          sizes.push(page.items.length);
          if (sizes.length === 3) break;
        }
      };
      await follow();
      const expired = follow({ since: "kept", waitMilliseconds: 77 });
      assert.equal((await thrown(CursorExpiredError, expired)).attempts, 1);
      assert.deepEqual(sizes, [1, 0, 0, 1]);
    },
  );
  assert.deepEqual(asked, [null, "c1", "c2", "kept", "c4"]);
  // After the second page: the third was the last one that was wanted, the fourth had an event.
  assert.deepEqual(noted, [1000]);
});

test("the instances are listed", async () => {
  const listed = await collect(client.instances.list({ pageSize: 1 }));
  const [latest] = listed;
  assert.ok(latest);
  assert.equal(latest.state, "active");
  assert.equal(latest.endedAt, null);
  assert.ok(latest.startedAt <= latest.heartbeatAt);
  assert.equal((await client.stats()).version, latest.version);
});
