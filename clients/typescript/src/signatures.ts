// Signs requests (RFC 9421, RFC 9530) as onceguard's default profile asks for it: method, whole
// URL, the body's digest and type, and the session's id when it is sent.

import { CannotSignError } from "./errors.js";
import type { Key } from "./keys.js";
import { toBase64, toBase64Url } from "./wire.js";

/** How long a signature lasts, in seconds: the most that the profile allows. */
const LIFETIME = 300;

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
  const fields = combined(request.headers ?? []);
  if (fields.has("signature") || fields.has("signature-input")) {
    throw new CannotSignError("The request is signed already. Sign each request once.");
  }
  const added: Record<string, string> = {};
  const covered = new Map([
    ["@method", request.method],
    ["@target-uri", target(request.url)],
  ]);
  const body = request.body ?? new Uint8Array();
  if (body.length > 0) {
    const hash = await crypto.subtle.digest("SHA-256", new Uint8Array(body));
    const digest = `sha-256=:${toBase64(new Uint8Array(hash))}:`;
    if ((fields.get("content-digest") ?? digest) !== digest) {
      throw new CannotSignError("Content-Digest is not the body's. Leave it out: it is added.");
    }
    if (!fields.has("content-type")) {
      throw new CannotSignError("A body needs a Content-Type, which the signature covers. Set it.");
    }
    fields.set("content-digest", digest);
    added["Content-Digest"] = digest;
  }
  const names = ["content-digest", ...(body.length > 0 ? ["content-type"] : []), "x-session-id"];
  for (const name of names) {
    const value = fields.get(name);
    if (value !== undefined) covered.set(name, value);
  }
  const created = request.created ?? Math.floor(Date.now() / 1000);
  const stated: [string, string][] = [["nonce", request.nonce ?? freshNonce()]];
  // RFC 9421 has no name for ES256K, so that `alg` must be absent.
  if (key.alg !== "ES256K") stated.push(["alg", key.alg]);
  stated.push(["keyid", key.keyid], ["tag", "onceguard"]);
  const parameters =
    `(${[...covered.keys()].map(quoted).join(" ")});created=${created};expires=${created + LIFETIME}` +
    stated.map(([name, value]) => `;${name}=${quoted(value)}`).join("");
  const lines = [...covered].map(([name, value]) => `${quoted(name)}: ${value}`);
  if (![...lines, parameters].every((line) => /^[ -~]*$/.test(line))) {
    throw new CannotSignError("Method, URL and signed headers must be visible ASCII: encode them.");
  }
  const base = [...lines, `"@signature-params": ${parameters}`].join("\n");
  const signature = toBase64(await key.sign(new TextEncoder().encode(base)));
  return { ...added, "Signature-Input": `sig1=${parameters}`, Signature: `sig1=:${signature}:` };
}

function freshNonce(): string {
  return toBase64Url(crypto.getRandomValues(new Uint8Array(18)));
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

/** The URL as it is sent: with a path, and without a fragment. */
function target(url: string): string {
  const parts = /^(https?):\/\/([^/?#]+)([^#]*)/i.exec(url);
  if (parts === null) {
    throw new CannotSignError(`${url} is not a whole URL: begin it with https:// or http://.`);
  }
  const [, scheme = "", authority = "", path = ""] = parts;
  if (authority.includes("@") || url.includes(" ")) {
    throw new CannotSignError(
      "A signed URL has neither a user name nor spaces. Remove or encode them.",
    );
  }
  return `${scheme.toLowerCase()}://${authority}${path.startsWith("/") ? path : `/${path}`}`;
}

/** A string as a structured field (RFC 8941, section 4.1.6). */
function quoted(text: string): string {
  return `"${text.replace(/["\\]/g, "\\$&")}"`;
}
