// The retry rule: no lost answer reads as a replay, and nothing is done twice.

import assert from "node:assert/strict";
import { test } from "node:test";
import {
  Key,
  NoAnswerError,
  Onceguard,
  OnceguardError,
  OutcomeUnknownError,
  SignatureReplayedError,
  signRequest,
} from "../src/index.js";
import {
  CALLS,
  Cutting,
  client,
  collect,
  json,
  parties,
  serving,
  TOKEN,
  thrown,
  waits,
} from "./support.js";

const AT_ONCE = 16;

/** Runs `work` for each number below `count`, a few at a time. */
async function each<T>(count: number, work: (n: number) => Promise<T>): Promise<T[]> {
  const results: T[] = [];
  let next = 0;
  const worker = async () => {
    while (next < count) {
      const n = next;
      next += 1;
      results[n] = await work(n);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  return results;
}

function lossyClient(baseUrl: string): Onceguard {
  return new Onceguard({ baseUrl, token: TOKEN, timeoutMilliseconds: 60_000 });
}

for (const when of ["before", "after"] as const) {
  test(`many claims whose answer is lost ${when} the decision`, async () => {
    const { id } = await client.sessions.open(await parties());
    const cutting = new Cutting(when);
    await cutting.running(async (url) => {
      const lossy = lossyClient(url);
      // A replay would be thrown here.
      const claims = await each(CALLS, (n) => lossy.sessions.claim(id, `n${n}`));
      assert.deepEqual(
        claims.map((claim) => claim.nonce),
        Array.from({ length: CALLS }, (_, n) => `n${n}`),
      );
    });
    assert.deepEqual([cutting.cut, cutting.received], [CALLS, 2 * CALLS]);
    const again = Array.from({ length: CALLS }, (_, n) => ({ sessionId: id, nonce: `n${n}` }));
    const results = await client.claims.create(again);
    assert.deepEqual(new Set(results.map((result) => result.outcome)), new Set(["replayed"]));
  });

  test(`batches whose answer is lost ${when} the decision`, async () => {
    const { id: sessionId } = await client.sessions.open(await parties());
    const cutting = new Cutting(when);
    await cutting.running(async (url) => {
      await each(CALLS / 100, async (batch) => {
        const claims = Array.from({ length: 100 }, (_, n) => ({
          sessionId,
          nonce: `${batch}-${n}`,
        }));
        const results = await lossyClient(url).claims.create(claims);
        assert.ok(results.every((result) => result.outcome === "accepted"));
      });
    });
    assert.equal(cutting.cut, CALLS / 100);
  });

  test(`many verdicts whose answer is lost ${when} the decision`, async () => {
    const key = await Key.generate();
    const unsigned = { method: "GET", url: "https://shop.example/orders" };
    const signed = await each(CALLS, () => signRequest(key, unsigned));
    const cutting = new Cutting(when);
    await cutting.running(async (url) => {
      const lossy = lossyClient(url);
      const verify = (n: number) =>
        lossy.verify({ ...unsigned, headers: Object.entries(signed[n] ?? {}) });
      // A replay would be thrown here.
      const verdicts = await each(CALLS, verify);
      assert.deepEqual(new Set(verdicts.map((verdict) => verdict.did)), new Set([key.did]));
      assert.deepEqual([cutting.cut, cutting.received], [CALLS, 2 * CALLS]);
      // A copy has a key of its own: it is a replay, also when that answer is lost.
      await each(CALLS, (n) => thrown(SignatureReplayedError, verify(n)));
    });
  });

  test(`openings whose answer is lost ${when} the decision`, async () => {
    const pair = await parties();
    const cutting = new Cutting(when);
    const opened = await cutting.running((url) => {
      const lossy = lossyClient(url);
      return each(CALLS / 4, async () => (await lossy.sessions.open(pair)).id);
    });
    const listed = await collect(client.sessions.list({ ...pair, pageSize: 500 }));
    assert.equal(listed.length, CALLS / 4);
    assert.deepEqual(opened.sort(), listed.map((session) => session.id).sort());
  });

  test(`what is not safe to repeat is sent once, lost ${when} the decision`, async () => {
    const { id } = await client.sessions.open(await parties());
    const key = await Key.generate();
    const cutting = new Cutting(when);
    await cutting.running(async (url) => {
      const lossy = lossyClient(url);
      const own = { clientDid: key.did, serverDid: key.did, id: `${id.slice(0, -4)}0000` };
      const calls = [
        () => lossy.sessions.touch(id),
        () => lossy.sessions.change(id, { ttlSeconds: 60 }),
        () => lossy.sessions.open(own),
        () => lossy.sessions.end(id),
        () => lossy.sessions.endAll({ clientDid: key.did }),
        () => lossy.dids.refresh(key.did),
        () => lossy.dids.revoke("did:example:stranger"),
      ];
      for (const call of calls) {
        const lost = await thrown(NoAnswerError, call());
        assert.equal(lost.attempts, 1);
      }
      assert.equal(cutting.received, calls.length);
    });
  });
}

test("an agent repeats a claim under a new signature", async () => {
  const key = await Key.generate();
  const cutting = new Cutting("after");
  await cutting.running(async (baseUrl) => {
    const agent = new Onceguard({ baseUrl, key });
    const { serverDid } = await parties();
    const { id } = await agent.sessions.open({ clientDid: key.did, serverDid });
    await agent.sessions.claim(id, "n");
    assert.notEqual(await client.sessions.used(id, "n"), null);
  });
  assert.equal(cutting.received, 6, "open, read and claim, each twice");
});

interface Given {
  readonly status: number;
  readonly after?: string;
  readonly code?: string;
}

/** A service that gives these answers, the last one for ever; and the keys of the calls it got. */
async function answering(
  answers: readonly Given[],
  work: (given: Onceguard) => Promise<void>,
): Promise<(string | undefined)[]> {
  const keys: (string | undefined)[] = [];
  await serving(
    (request, response) => {
      const { status, after, code } = answers[Math.min(keys.length, answers.length - 1)] as Given;
      keys.push(request.headers["idempotency-key"] as string | undefined);
      if (after !== undefined) response.setHeader("Retry-After", after);
      const accepted = { nonce: "n", session_id: "s", used_at: "t", expires_at: "t" };
      json(response, status, status === 201 ? accepted : { code, detail: "d", request_id: "r" });
    },
    (baseUrl) => work(new Onceguard({ baseUrl, token: TOKEN })),
  );
  return keys;
}

test("an unknown outcome is resolved under the same key", async () => {
  const answers = [{ status: 503, code: "outcome_unknown" }, { status: 502 }, { status: 201 }];
  const keys = await answering(answers, async (given) => {
    await given.sessions.claim("s", "n");
  });
  assert.equal(keys.length, 3);
  assert.equal(new Set(keys).size, 1);
  assert.ok((keys[0] ?? "").length >= 22);
});

test("an outcome that stays unknown leaves the key to repeat it with", async () => {
  const keys = await answering([{ status: 503, code: "outcome_unknown" }], async (given) => {
    const unknown = await thrown(OutcomeUnknownError, given.sessions.claim("s", "n"));
    assert.equal(unknown.attempts, 3);
    const { idempotencyKey = "" } = unknown;
    await thrown(OutcomeUnknownError, given.sessions.claim("s", "n", { idempotencyKey }));
  });
  assert.equal(keys.length, 6);
  assert.equal(new Set(keys).size, 1);
});

test("a verdict that stays unknown leaves the key to repeat it with", async () => {
  const request = { method: "GET", url: "https://shop.example/", headers: [] };
  const keys = await answering([{ status: 503, code: "outcome_unknown" }], async (given) => {
    const unknown = await thrown(OutcomeUnknownError, given.verify(request));
    const { idempotencyKey = "" } = unknown;
    await thrown(OutcomeUnknownError, given.verify(request, { idempotencyKey }));
    await thrown(OutcomeUnknownError, given.verify(request));
  });
  assert.equal(keys.length, 9);
  assert.equal(new Set(keys.slice(0, 6)).size, 1);
  assert.equal(new Set(keys).size, 2, "each call has a key of its own");
});

for (const [answer, attempts] of [
  [{ status: 503, after: "1", code: "overloaded" }, 3],
  [{ status: 429, after: "1", code: "rate_limited" }, 3],
  // Waiting does not help, or the wait is the caller's to decide.
  [{ status: 429, code: "rate_limited" }, 1],
  [{ status: 429, after: "60", code: "rate_limited" }, 1],
  [{ status: 503, after: "60", code: "storage_unavailable" }, 1],
] as const) {
  test(`${JSON.stringify(answer)} is asked for ${attempts} times`, async (t) => {
    const noted = waits(t, (wait) => wait >= 1000 && wait <= 1500);
    const keys = await answering([answer], async (given) => {
      const refused = await thrown(OnceguardError, given.sessions.read("s"));
      assert.equal(refused.attempts, attempts);
      const after = "after" in answer ? Number(answer.after) : undefined;
      assert.equal(refused.retryAfter, after);
    });
    assert.equal(keys.length, attempts);
    assert.equal(noted.length, attempts - 1, "never earlier than asked");
  });
}
