// The layer that people touch is written by hand; it fits the service's own description,
// /openapi.json, or this file does not compile. `npm test` writes openapi.d.ts from the document.

import assert from "node:assert/strict";
import { test } from "node:test";
import { CODES } from "../src/codes.js";
import type * as onceguard from "../src/index.js";
import type { components, operations } from "./openapi.js";
import { client, URL } from "./support.js";

type Schemas = components["schemas"];

type CamelCase<Name> = Name extends `${infer First}_${infer Rest}`
  ? `${First}${Capitalize<CamelCase<Rest>>}`
  : Name;

/** A schema with the names of this library. */
type Renamed<T> = T extends readonly (infer Item)[]
  ? readonly Renamed<Item>[]
  : T extends object
    ? string extends keyof T
      ? { readonly [name: string]: unknown }
      : { readonly [Name in keyof T as CamelCase<Name>]: Renamed<T[Name]> }
    : T;

/** Bytes are base64 in JSON. */
type Bytes<T, Names> = { [Name in keyof T]: Name extends Names ? Decoded<T[Name]> : T[Name] };
type Decoded<T> = T extends string ? Uint8Array : T;

/** Each can stand for the other, and neither has more fields. */
type Same<A, B> = [A, B, keyof A, keyof B] extends [B, A, keyof B, keyof A] ? true : never;

function same<A, B>(_: Same<A, B>): void {}

test("a model has the fields of its schema", () => {
  same<Renamed<Schemas["Session"]>, Omit<onceguard.Session, "etag">>(true);
  same<Renamed<Schemas["AcceptedNonce"]>, onceguard.AcceptedNonce>(true);
  same<Renamed<Schemas["UsedNonce"]>, onceguard.UsedNonce>(true);
  same<Renamed<Schemas["NamespaceNonce"]>, onceguard.NamespaceNonce>(true);
  same<Renamed<Schemas["Namespace"]>, onceguard.Namespace>(true);
  same<Renamed<Schemas["ClaimResult"]>, onceguard.ClaimResult>(true);
  same<Renamed<Schemas["Revocation"]>, onceguard.Revocation>(true);
  same<Renamed<Schemas["Stats"]>, onceguard.Stats>(true);
  same<Renamed<Schemas["UnusableMethod"]>, onceguard.UnusableMethod>(true);
  // Two algorithms differ in case only, so that the document does not list them.
  same<Omit<Renamed<Schemas["Verdict"]>, "alg">, Omit<onceguard.Verdict, "alg">>(true);
  type Method = Bytes<Renamed<Schemas["VerificationMethod"]>, "publicKey">;
  same<Method, onceguard.VerificationMethod>(true);
  type Did = Bytes<Renamed<Schemas["Did"]>, "publicKey">;
  same<Omit<Did, "verificationMethods">, Omit<onceguard.Did, "verificationMethods">>(true);
  same<keyof Did, keyof onceguard.Did>(true);
  same<keyof Schemas["DidResolutionResult"], keyof onceguard.Resolution | "@context">(true);
});

test("records have the fields of the document", () => {
  type Sealed<T> = Bytes<Renamed<T>, "iv" | "ciphertext">;
  same<Sealed<Schemas["Record"]>, onceguard.Record>(true);
  same<Renamed<Schemas["RecordWritten"]>, onceguard.RecordWritten>(true);
  same<keyof Renamed<Schemas["RecordFeed"]>, keyof onceguard.RecordFeed>(true);
  // Kinds are words of the owner, which nothing renames.
  type Usage = Omit<Renamed<Schemas["RecordUsage"]>, "kinds">;
  same<Usage, Omit<onceguard.RecordUsage, "kinds">>(true);
  same<Schemas["RecordUsage"]["kinds"], onceguard.RecordUsage["kinds"]>(true);
  same<Renamed<Schemas["InactiveOwner"]>, onceguard.InactiveOwner>(true);
  same<Renamed<Schemas["InactiveRemoved"]>, onceguard.InactiveRemoved>(true);
  same<Renamed<Schemas["Erased"]>, onceguard.Erased>(true);
  // The checksum is computed.
  same<Omit<Sealed<Schemas["NewRecord"]>, "checksum">, onceguard.NewRecord>(true);
  type Operation = Exclude<keyof Renamed<Schemas["RecordOperation"]>, "ifNoneMatch">;
  same<Operation, keyof onceguard.RecordPut>(true);
  same<Exclude<Operation, "record">, keyof onceguard.RecordDelete>(true);
});

test("events have the fields of the document", () => {
  same<Renamed<Schemas["Event"]>, onceguard.Event>(true);
  same<Renamed<Schemas["EventFeed"]>, onceguard.EventFeed>(true);
  same<Renamed<Schemas["NewEvent"]>, onceguard.NewEvent>(true);
  same<Renamed<Schemas["Instance"]>, onceguard.Instance>(true);
});

test("webhooks have the fields of the document", () => {
  same<Renamed<Schemas["Webhook"]>, onceguard.Webhook>(true);
  same<Renamed<Schemas["CreatedWebhook"]>, onceguard.CreatedWebhook>(true);
  same<Renamed<Schemas["WebhookDelivery"]>, onceguard.WebhookDelivery>(true);
  same<Renamed<Schemas["NewWebhook"]>, onceguard.NewWebhook>(true);
  same<Renamed<Schemas["WebhookChange"]>, onceguard.WebhookChange>(true);
  same<keyof Schemas["WebhookReplay"], keyof onceguard.WebhookReplay>(true);
});

test("what a search finds has the fields of the document", () => {
  type Kind<Name> = Extract<Bytes<Renamed<Schemas["Found"]>, "publicKey">, { kind: Name }>;
  same<Schemas["Found"]["kind"], onceguard.Found["kind"]>(true);
  same<Kind<"session">, Omit<onceguard.FoundSession, "etag">>(true);
  type Did = Omit<onceguard.FoundDid, "verificationMethods">;
  same<Omit<Kind<"did">, "verificationMethods">, Did>(true);
  same<keyof Kind<"did">, keyof onceguard.FoundDid>(true);
});

test("a method takes the fields of its body", () => {
  same<Bytes<Renamed<Schemas["NewSession"]>, "sessionKey">, onceguard.NewSession>(true);
  same<Bytes<Renamed<Schemas["SessionChange"]>, "sessionKey">, onceguard.SessionChange>(true);
  same<Bytes<Renamed<Schemas["NewDid"]>, "publicKey">, onceguard.NewDid>(true);
  same<keyof Renamed<Schemas["ReceivedRequest"]>, keyof onceguard.ReceivedRequest>(true);
  // In the API, a nonce that is bytes has a field of its own.
  type NamespaceClaim = Omit<onceguard.NamespaceClaim, "nonce"> & { readonly nonce: string };
  type Claim = onceguard.SessionClaim | onceguard.SignerClaim | NamespaceClaim;
  same<Renamed<Schemas["NewClaim"]>, Claim>(true);
  type Body = Omit<Renamed<Schemas["NamespaceClaim"]>, "nonce" | "nonceBase64">;
  type Options = Parameters<typeof client.namespaces.claim>[2];
  same<Body, Omit<Options, "idempotencyKey">>(true);
  type EndAll = Parameters<typeof client.sessions.endAll>[0];
  same<Renamed<Schemas["SessionParties"]>, EndAll>(true);
});

test("filters are the parameters of the query", () => {
  type Lists = "list_sessions" | "list_dids" | "read_events" | "list_webhook_deliveries" | "search";
  type Query<Name extends Lists> = Renamed<
    Omit<NonNullable<operations[Name]["parameters"]["query"]>, "limit" | "cursor" | "since">
  >;
  same<Query<"list_sessions">, Omit<onceguard.SessionFilter, "pageSize">>(true);
  same<Query<"list_dids">, Omit<onceguard.DidFilter, "pageSize">>(true);
  same<Query<"read_events">, Omit<onceguard.EventFilter, "pageSize">>(true);
  type Deliveries = Omit<onceguard.WebhookDeliveryFilter, "pageSize">;
  same<Query<"list_webhook_deliveries">, Deliveries>(true);
  same<Query<"search">, { readonly q: Parameters<typeof client.search>[0] }>(true);
});

test("each operation is a method", () => {
  const { sessions, claims, namespaces, dids, records, events, webhooks, instances, identifiers } =
    client;
  // All but what is for proxies, and the document itself.
  type NotCalled = "forward_auth" | "openapi";
  const methods: Record<Exclude<keyof operations, NotCalled>, unknown> = {
    open_session: sessions.open,
    list_sessions: sessions.list,
    read_session: sessions.read,
    change_session: sessions.change,
    touch_session: sessions.touch,
    end_session: sessions.end,
    end_sessions: sessions.endAll,
    read_session_key: sessions.key,
    claim_nonce: sessions.claim,
    read_nonce: sessions.used,
    claim_nonces: claims.create,
    claim_in_namespace: namespaces.claim,
    read_namespace: namespaces.read,
    read_namespace_nonce: namespaces.used,
    read_did: dids.read,
    store_did: dids.store,
    forget_did: dids.forget,
    list_dids: dids.list,
    revoke_did: dids.revoke,
    refresh_did: dids.refresh,
    erase_did: dids.erase,
    put_record: records.put,
    read_record: records.read,
    delete_record: records.delete,
    change_records: records.change,
    follow_records: records.follow,
    record_usage: records.usage,
    delete_records: records.deleteAll,
    list_inactive_owners: records.inactive,
    delete_inactive_owners: records.deleteInactive,
    publish_events: events.publish,
    read_events: events.follow,
    create_webhook: webhooks.create,
    list_webhooks: webhooks.list,
    change_webhook: webhooks.change,
    delete_webhook: webhooks.delete,
    list_webhook_deliveries: webhooks.deliveries,
    replay_webhook: webhooks.replay,
    list_instances: instances.list,
    verify_request: client.verify,
    search: client.search,
    stats: client.stats,
    resolve_did: identifiers.resolve,
    list_did_methods: identifiers.methods,
    read_did_properties: identifiers.properties,
  };
  for (const [name, method] of Object.entries(methods))
    assert.equal(typeof method, "function", name);
});

test("every code is known", async () => {
  const page = await (await fetch(`${URL}/problems`)).text();
  const codes = new Set(Array.from(page.matchAll(/problems\/(\w+)/g), ([, code]) => code));
  assert.deepEqual([...codes].sort(), [...CODES].sort());
});
