// Signs requests (RFC 9421, RFC 9530) as onceguard's default profile asks for it: method, whole
// URL, the body's digest and type, and the session's id when it is sent. Or as a service asks for it.

import { askedForms, type Form, ownForm } from "./accept.js";
import { CannotSignError } from "./errors.js";
import { quoted } from "./fields.js";
import type { Key } from "./keys.js";
import { toBase64, toBase64Url } from "./wire.js";

/** How long a signature lasts, in seconds: the most that the profile allows. */
const LIFETIME = 300;
const DIGEST = "content-digest";

/** A request to sign. */
export interface Unsigned {
  readonly method: string;
  /** The whole URL. */
  readonly url: string;
  readonly headers?: Iterable<readonly [string, string]>;
  readonly body?: Uint8Array;
  /** The time of signing, in seconds since 1970; now, if left out. */
  readonly created?: number;
  /** At least 16 visible ASCII characters; random, if left out. */
  readonly nonce?: string;
  /**
   * An `Accept-Signature` field, by which a service asks for a signature: it is made so. If it is
   * left out, the signature is as onceguard's default profile wants it.
   */
  readonly acceptSignature?: string;
}

/**
 * The headers that sign a request. Send it within five minutes, exactly as it is given here, and
 * once: a verifier accepts it only once.
 *
 * ```ts
 * await signRequest(key, { method: "GET", url: "https://shop.example/orders?id=7" });
 * // { "Signature-Input": 'sig1=("@method" "@target-uri");created=…', Signature: "sig1=:…:" }
 * ```
 */
export async function signRequest(key: Key, request: Unsigned): Promise<Record<string, string>> {
  const { method, url, headers = [], body = new Uint8Array(), acceptSignature } = request;
  const fields = combined(headers);
  if (fields.has("signature") || fields.has("signature-input")) {
    throw new CannotSignError("The request is signed already. Sign each request once.");
  }
  const values = new Map([...fields, ...derived(method, url)]);
  const has = (name: string) => name === DIGEST || values.has(name);
  const forms =
    acceptSignature === undefined
      ? [ownForm(ownFields(fields, body))]
      : askedForms(acceptSignature, key, has);
  const added: Record<string, string> = {};
  const isDigested = forms.some(({ components }) => components.includes(DIGEST));
  if (isDigested && (body.length > 0 || !fields.has(DIGEST))) {
    const hash = await crypto.subtle.digest("SHA-256", new Uint8Array(body));
    const digest = `sha-256=:${toBase64(new Uint8Array(hash))}:`;
    if ((fields.get(DIGEST) ?? digest) !== digest) {
      throw new CannotSignError("Content-Digest is not the body's. Leave it out: it is added.");
    }
    values.set(DIGEST, digest);
    added["Content-Digest"] = digest;
  }
  const created = request.created ?? Math.floor(Date.now() / 1000);
  const signed: [string, string][] = [];
  for (const form of forms) {
    const parameters = parametersOf(
      form,
      key,
      created,
      form.nonce ?? request.nonce ?? freshNonce(),
    );
    const lines = form.components.map((name) => `${quoted(name)}: ${covered(values, name)}`);
    if (![...lines, parameters].every((line) => /^[ -~]*$/.test(line))) {
      throw new CannotSignError(
        "Method, URL and signed headers must be visible ASCII: encode them.",
      );
    }
    const base = [...lines, `"@signature-params": ${parameters}`].join("\n");
    const signature = toBase64(await key.sign(new TextEncoder().encode(base)));
    signed.push([`${form.label}=${parameters}`, `${form.label}=:${signature}:`]);
  }
  return {
    ...added,
    "Signature-Input": signed.map(([input]) => input).join(", "),
    Signature: signed.map(([, signature]) => signature).join(", "),
  };
}

/** Random, and long enough for every profile. */
export function freshNonce(): string {
  return toBase64Url(crypto.getRandomValues(new Uint8Array(18)));
}

/** The fields that onceguard's default profile wants signed. */
function ownFields(fields: ReadonlyMap<string, string>, body: Uint8Array): string[] {
  const ofBody =
    body.length > 0 ? [DIGEST, "content-type"] : [DIGEST].filter((name) => fields.has(name));
  return fields.has("x-session-id") ? [...ofBody, "x-session-id"] : ofBody;
}

function parametersOf(form: Form, key: Key, created: number, nonce: string): string {
  const stated: [string, string][] = [["nonce", nonce]];
  // RFC 9421 has no name for ES256K, so that `alg` must be absent.
  if (key.alg !== "ES256K") stated.push(["alg", key.alg]);
  stated.push(["keyid", key.keyid]);
  if (form.tag !== undefined) stated.push(["tag", form.tag]);
  return (
    `(${form.components.map(quoted).join(" ")});created=${created};expires=${created + LIFETIME}` +
    stated.map(([name, value]) => `;${name}=${quoted(value)}`).join("")
  );
}

function covered(values: ReadonlyMap<string, string>, name: string): string {
  const value = values.get(name);
  if (value !== undefined) return value;
  throw new CannotSignError("A body needs a Content-Type, which the signature covers. Set it.");
}

/** Each field's value by its name in lower case, its lines joined (RFC 9421, section 2.1). */
function combined(lines: Iterable<readonly [string, string]>): Map<string, string> {
  const fields = new Map<string, string>();
  for (const [line, text] of lines) {
    const name = line.toLowerCase();
    const value = text.replace(/^[ \t]+|[ \t]+$/g, "");
    const before = fields.get(name);
    fields.set(name, before === undefined ? value : `${before}, ${value}`);
  }
  return fields;
}

/** The components of a request that are no fields (RFC 9421, section 2.2). */
function derived(method: string, url: string): [string, string][] {
  const parts = /^(https?):\/\/([^/?#]+)([^#]*)/i.exec(url);
  if (parts === null) {
    throw new CannotSignError(`${url} is not a whole URL: begin it with https:// or http://.`);
  }
  const [, written = "", authority = "", rest = ""] = parts;
  if (authority.includes("@") || url.includes(" ")) {
    throw new CannotSignError(
      "A signed URL has neither a user name nor spaces. Remove or encode them.",
    );
  }
  const scheme = written.toLowerCase();
  // As it is sent: with a path, and without a fragment.
  const target = rest.startsWith("/") ? rest : `/${rest}`;
  const [path = ""] = target.split("?", 1);
  const defaultPort = scheme === "https" ? /:443$/ : /:80$/;
  return [
    ["@method", method],
    ["@target-uri", `${scheme}://${authority}${target}`],
    ["@authority", authority.toLowerCase().replace(defaultPort, "")],
    ["@scheme", scheme],
    ["@request-target", target],
    ["@path", path],
    ["@query", `?${target.slice(path.length + 1)}`],
  ];
}
