// What an `Accept-Signature` field asks for (RFC 9421, section 5), and whether a key can sign it.

import { CannotSignError } from "./errors.js";
import { type Asked, quoted, readAsked } from "./fields.js";
import type { Key } from "./keys.js";

/** A signature to make: what it covers, by name, and what it states beside the key and the time. */
export interface Form {
  readonly label: string;
  readonly components: readonly string[];
  readonly nonce?: string;
  readonly tag?: string;
}

/** The form that onceguard's default profile wants: its method, URL, and these fields. */
export function ownForm(fields: readonly string[]): Form {
  return { label: "sig1", components: ["@method", "@target-uri", ...fields], tag: "onceguard" };
}

/**
 * The signatures that a field asks for and this key can make; `has` says what a request has. Throws
 * when there is none of them, and says why.
 */
export function askedForms(field: string, key: Key, has: (component: string) => boolean): Form[] {
  const asked = readAsked(field);
  if (asked === undefined || asked.length === 0) {
    throw new CannotSignError(`This Accept-Signature cannot be read (RFC 9421): ${field}`);
  }
  const why: string[] = [];
  const forms: Form[] = [];
  for (const each of asked) {
    const unfit = unfitFor(each, key, has);
    if (unfit === undefined) forms.push(formOf(each));
    else why.push(`${each.label} ${unfit}`);
  }
  if (forms.length > 0) return forms;
  throw new CannotSignError(`Accept-Signature asks for what cannot be signed: ${why.join("; ")}.`);
}

/** Checks a field that is for many requests. */
export function checkForMany(field: string): void {
  if (readAsked(field)?.some(({ parameters }) => parameters.has("nonce"))) {
    throw new CannotSignError(
      "This Accept-Signature has a nonce, which is for one request. Remove it: each gets a fresh one.",
    );
  }
}

function formOf({ label, identifiers, parameters }: Asked): Form {
  const [nonce, tag] = [parameters.get("nonce"), parameters.get("tag")];
  return {
    label,
    components: identifiers.map((identifier) => identifier.slice(1, -1)),
    ...(typeof nonce === "string" && { nonce }),
    ...(typeof tag === "string" && { tag }),
  };
}

function unfitFor(
  { identifiers, parameters }: Asked,
  key: Key,
  has: (component: string) => boolean,
): string | undefined {
  for (const identifier of identifiers) {
    // Neither parameters nor escapes: what is left between the quotes is a name.
    const name = /^"([^"\\]*)"$/.exec(identifier)?.[1];
    if (name === undefined) return `covers ${identifier}, which is not known here`;
    if (!has(name)) return `covers ${identifier}, which the request does not have`;
  }
  if (new Set(identifiers).size < identifiers.length) return "covers something twice";
  // Another service could use it.
  if (!['"@target-uri"', '"@authority"'].some((bound) => identifiers.includes(bound))) {
    return "covers neither @target-uri nor @authority, so that it would hold for other services";
  }
  const alg = key.alg === "ES256K" ? undefined : key.alg;
  for (const [name, value] of parameters) {
    const written = typeof value === "string" ? `${name}=${quoted(value)}` : name;
    switch (name) {
      case "created":
      case "expires":
        if (value !== true) return `gives ${name} a value, which is the signer's to choose`;
        break;
      case "nonce":
      case "tag":
        if (typeof value !== "string") return `has a ${name} that is no string`;
        break;
      case "alg":
        if (value !== alg) return `wants ${written}, and the key signs by ${key.alg}`;
        break;
      case "keyid":
        if (value !== key.keyid) return `wants ${written}, and the key is ${key.keyid}`;
        break;
      default:
        return `has the parameter ${name}, which is not known here`;
    }
  }
  return undefined;
}
