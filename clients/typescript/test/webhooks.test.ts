// Webhooks: what the service sends to a receiver, and the calls about it.

import assert from "node:assert/strict";
import { test } from "node:test";
import { inspect } from "node:util";
import { Webhook as Verifier } from "standardwebhooks";
import {
  type CreatedWebhook,
  ForbiddenError,
  InvalidRequestError,
  Key,
  NoAnswerError,
  NotFoundError,
  Onceguard,
  UnexpectedAnswerError,
} from "../src/index.js";
import { sleep } from "../src/transport.js";
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
} from "./support.js";

const { webhooks } = client;
const anHourAgo = () => new Date(Date.now() - 3_600_000).toISOString();

/** Waits for this, a minute and more where the instance is slow. */
async function waitFor(state: () => boolean | Promise<boolean>): Promise<void> {
  const end = Date.now() + 90_000;
  while (!(await state())) {
    assert.ok(Date.now() < end, "it never came");
    await sleep(20);
  }
}

/** An endpoint that answers with this status, and keeps what it got. */
class Receiver {
  readonly got: { headers: Record<string, string>; body: string }[] = [];

  constructor(public status = 204) {}

  running<T>(work: (url: string) => Promise<T>): Promise<T> {
    return serving(({ headers }, response, body) => {
      this.got.push({ headers: headers as Record<string, string>, body: body.toString() });
      response.writeHead(this.status).end();
    }, work);
  }

  times(id: string): number {
    return this.got.filter(({ headers }) => headers["webhook-id"] === id).length;
  }
}

/** Runs `work` with a webhook of this receiver, and with what publishes an event that it hears. */
async function hearing(
  receiver: Receiver,
  type: string,
  work: (made: CreatedWebhook, publish: (subject: string) => Promise<string>) => Promise<void>,
): Promise<void> {
  await receiver.running(async (url) => {
    const made = await webhooks.create({ url, types: [type] });
    try {
      await work(made, (subject) => client.events.publish({ type, subject }));
    } finally {
      await webhooks.delete(made.id);
    }
  });
}

async function delivered(id: string): Promise<string[]> {
  const found = await collect(webhooks.deliveries(id, { state: "delivered", pageSize: 2 }));
  return found.map(({ event }) => event);
}

async function listed(id: string) {
  return (await webhooks.list()).find((webhook) => webhook.id === id);
}

test("a receiver verifies what it gets", async () => {
  const receiver = new Receiver();
  await hearing(receiver, await freshType(), async (made, publish) => {
    assert.deepEqual([made.state, made.signature, made.reason], ["active", "v1", null]);
    const published: string[] = [];
    for (const subject of ["0", "1", "2"]) published.push(await publish(subject));
    await waitFor(() => published.every((id) => receiver.times(id) > 0));
    const verifier = new Verifier(made.secret);
    for (const { headers, body } of receiver.got) {
      const { data } = verifier.verify(body, headers) as { data: { id: string; subject: string } };
      assert.equal(published[Number(data.subject)], data.id);
      assert.equal(headers["webhook-id"], data.id);
    }

    await waitFor(async () => (await delivered(made.id)).length === 3);
    assert.deepEqual(await delivered(made.id), published.reverse());
    const [last, before] = await collect(webhooks.deliveries(made.id));
    assert.ok(last && before);
    assert.deepEqual([last.state, last.lastStatus], ["delivered", 204]);
    assert.deepEqual([last.nextAttemptAt, last.lastError], [null, null]);
    assert.ok(last.attempts >= 1);
    assert.ok(last.createdAt <= (last.lastAttemptAt ?? ""));
    assert.ok(last.sequence > before.sequence);
    assert.deepEqual(await collect(webhooks.deliveries(made.id, { state: "dead" })), []);
  });
});

test("events are sent again", async () => {
  const receiver = new Receiver();
  await hearing(receiver, await freshType(), async (made, publish) => {
    const [first, second] = [await publish("1"), await publish("2")];
    await waitFor(async () => (await delivered(made.id)).length === 2);
    assert.equal(await webhooks.replay(made.id, { event: first }), undefined);
    await waitFor(() => receiver.times(first) >= 2);
    await waitFor(async () => (await delivered(made.id)).length === 2);
    await webhooks.replay(made.id, { since: anHourAgo() });
    await waitFor(() => receiver.times(first) >= 3 && receiver.times(second) >= 2);
    await thrown(NotFoundError, webhooks.replay(made.id, { event: made.id }));
  });
});

test("a webhook is changed, paused and resumed", async () => {
  const [receiver, type] = [new Receiver(), await freshType()];
  await hearing(receiver, await freshType(), async (made) => {
    assert.deepEqual(await listed(made.id), { ...made });
    await receiver.running(async (origin) => {
      const url = `${origin}/elsewhere`;
      const changed = await webhooks.change(made.id, { url, types: [type] });
      assert.deepEqual([changed.url, changed.types, changed.state], [url, [type], "active"]);
      assert.equal((await webhooks.change(made.id, { paused: true })).state, "paused");
      const published = await client.events.publish({ type, subject: "s" });
      assert.deepEqual(await webhooks.change(made.id, { paused: false }), changed);
      await waitFor(() => receiver.times(published) > 0);
    });
  });
});

test("what fails is told", async () => {
  const receiver = new Receiver(500);
  await hearing(receiver, await freshType(), async (made, publish) => {
    await publish("s");
    const tried = async () => {
      const pending = await collect(webhooks.deliveries(made.id, { state: "pending" }));
      return pending.find(({ lastStatus }) => lastStatus === 500);
    };
    await waitFor(async () => (await tried()) !== undefined);
    const failed = await tried();
    assert.ok(failed);
    assert.equal(failed.lastError, "answers 500");
    assert.ok(failed.attempts >= 1);
    assert.ok((failed.nextAttemptAt ?? "") > (failed.lastAttemptAt ?? "~"));
    receiver.status = 410;
    await publish("gone");
    await waitFor(async () => (await listed(made.id))?.state === "disabled");
    assert.equal(typeof (await listed(made.id))?.reason, "string");
    assert.equal((await webhooks.change(made.id, { paused: false })).state, "active");
  });
});

test("the secret is not shown", async () => {
  const webhook = { url: "https://receiver.example/hooks", types: ["*"] };
  for (const [signature, prefix] of [
    ["v1", "whsec_"],
    ["v1a", "whpk_"],
  ] as const) {
    const made = await webhooks.create({ ...webhook, signature });
    assert.ok(made.secret.startsWith(prefix));
    assert.equal(made.signature, signature);
    const all = await webhooks.list();
    const texts = [inspect(made), JSON.stringify(made), inspect({ ...made }), inspect(all)];
    for (const text of texts) {
      assert.ok(text.includes(made.id));
      assert.ok(!text.includes(prefix), text);
    }
    await webhooks.delete(made.id);
  }
  // Neither by an error about an answer that has it.
  await serving(
    (_, response) => json(response, 201, { secret: "whsec_c2VjcmV0", id: "i" }),
    async (baseUrl) => {
      const given = new Onceguard({ baseUrl, token: TOKEN });
      const unexpected = await thrown(UnexpectedAnswerError, given.webhooks.create(webhook));
      assert.ok(!inspect(unexpected).includes("whsec_"));
    },
  );
});

test("what cannot be done says why", async () => {
  const invalid = webhooks.create({ url: "ftp://receiver.example", types: [] });
  const { errors } = await thrown(InvalidRequestError, invalid);
  assert.deepEqual(
    errors.map(({ pointer }) => pointer),
    ["/url", "/types"],
  );
  for (const call of [
    () => webhooks.change("a/b", { paused: true }),
    () => webhooks.replay("a/b", { since: anHourAgo() }),
    () => webhooks.delete("a/b"),
    () => collect(webhooks.deliveries("a/b")),
  ]) {
    assert.match((await thrown(InvalidRequestError, call())).message, /must be a UUID/);
  }
  const agent = new Onceguard({ baseUrl: URL, key: await Key.generate() });
  await thrown(ForbiddenError, agent.webhooks.list());
});

for (const when of ["before", "after"] as const) {
  test(`what changes webhooks is sent once, lost ${when} the decision`, async () => {
    const url = `https://receiver.example/${await freshType()}`;
    const ours = async () => (await webhooks.list()).filter((each) => each.url.startsWith(url));
    const { id } = await webhooks.create({ url, types: ["*"] });
    const now = new Date().toISOString();
    const cutting = new Cutting(when);
    await cutting.running(async (baseUrl) => {
      const lossy = new Onceguard({ baseUrl, token: TOKEN }).webhooks;
      const changes = [
        () => lossy.create({ url: `${url}/new`, types: ["*"] }),
        () => lossy.change(id, { url: `${url}/changed` }),
        () => lossy.replay(id, { since: now }),
        () => lossy.delete(id),
      ];
      for (const change of changes) {
        assert.equal((await thrown(NoAnswerError, change())).attempts, 1);
      }
      assert.equal(cutting.received, changes.length);
      const left = await ours();
      assert.deepEqual(
        left.map((each) => each.url),
        [when === "before" ? url : `${url}/new`],
      );
      // Reads are repeated.
      const repeated = (await lossy.list()).filter((each) => each.url.startsWith(url));
      assert.deepEqual(repeated, left);
      for (const each of left) {
        assert.deepEqual(await collect(lossy.deliveries(each.id)), []);
        await webhooks.delete(each.id);
      }
      assert.equal(cutting.received, changes.length + 4);
    });
  });
}
