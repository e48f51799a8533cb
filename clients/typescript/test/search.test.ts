// The search finds stored DIDs and sessions by their words.

import assert from "node:assert/strict";
import { test } from "node:test";
import {
  ForbiddenError,
  InvalidRequestError,
  Key,
  Onceguard,
  UnexpectedAnswerError,
} from "../src/index.js";
import { Cutting, client, collect, json, parties, serving, TOKEN, thrown, URL } from "./support.js";

/** The ids of what a search finds. */
async function found(q: string, pageSize = 50, by = client): Promise<string[]> {
  return (await collect(by.search(q, { pageSize }))).map(({ id }) => id);
}

/** A DID and sessions that have a word that no others have; their ids, newest first. */
async function store() {
  const word = (await Key.generate()).did.slice(-40);
  const { publicKey } = await Key.generate("P256");
  await client.dids.store(`did:example:${word}`, { publicKey, keyType: "P256" });
  const metadata = { order: `${word} lamp`, snake_case: 1 };
  const ids = [`did:example:${word}`];
  for (let n = 0; n < 2; n += 1) {
    ids.unshift((await client.sessions.open({ ...(await parties()), metadata })).id);
  }
  return { word, publicKey, metadata, ids };
}

test("all that has the words is found", async () => {
  const { word, publicKey, metadata, ids } = await store();
  const all = await collect(client.search(word, { pageSize: 1 }));
  assert.deepEqual(
    all.map(({ id }) => id),
    ids,
  );
  const [newest, , did] = all;
  assert.ok(newest?.kind === "session" && did?.kind === "did");
  assert.deepEqual([newest.state, newest.metadata, newest.etag], ["active", metadata, undefined]);
  assert.deepEqual([did.did, did.publicKey], [did.id, publicKey]);
  const sessions = await found(`LAMP, ${word.toUpperCase()}!`);
  assert.deepEqual(sessions, ids.slice(0, 2), "all words, in upper or lower case");
  assert.deepEqual(await found(word.slice(0, -1)), [], "whole words");
});

test("a search whose answer is lost is repeated", async () => {
  const { word, ids } = await store();
  const cutting = new Cutting("after");
  await cutting.running(async (baseUrl) => {
    assert.deepEqual(await found(word, 2, new Onceguard({ baseUrl, token: TOKEN })), ids);
  });
  assert.deepEqual([cutting.cut, cutting.received], [2, 4], "two pages");
});

test("what cannot be searched says why", async () => {
  const invalid = await thrown(InvalidRequestError, found("?"));
  assert.match(invalid.message, /must have a word/);
  const agent = new Onceguard({ baseUrl: URL, key: await Key.generate() });
  await thrown(ForbiddenError, found("shop", 50, agent));
});

test("a kind that is newer than the client is an error", async () => {
  for (const item of [{ kind: "record", id: "i" }, { id: "i" }, "record"]) {
    await serving(
      (_, response) => json(response, 200, { items: [item], next_cursor: null }),
      async (baseUrl) => {
        const given = new Onceguard({ baseUrl, token: TOKEN });
        await thrown(UnexpectedAnswerError, found("shop", 50, given));
      },
    );
  }
});
