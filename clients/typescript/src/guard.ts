// What all middleware here does: it asks for a verdict on a received request, and lets through only
// what passed. Every failure (no answer, a wrong token, a full disk) is 503, never open.

import type { Onceguard } from "./client.js";
import { OnceguardError, SignatureRefusedError } from "./errors.js";
import { areMalformed } from "./fields.js";
import { freshNonce } from "./signatures.js";
import type { Verdict } from "./types.js";

/**
 * The most bytes of a body that can be judged: onceguard takes 256 KiB of JSON, with the body in
 * base64.
 */
const MAX_BODY_BYTES = 160 * 1024;
/** Of these the sender is known, and may not. */
const FORBIDDEN = new Set([
  "signature_key_revoked",
  "signature_not_a_party",
  "claim_quota_reached",
]);
/** Another signature can mend these: the refusal asks for it in `Accept-Signature`. */
const MENDABLE = new Set([
  "signature_required",
  "signature_malformed",
  "signature_tag_invalid",
  "signature_params_incomplete",
  "signature_components_incomplete",
]);
/** A signature that expired longer ago, in seconds, is refused without asking: no clock is so wrong. */
const SKEW = 600;

export interface GuardOptions {
  readonly client: Onceguard;
  /**
   * The scheme and host that agents call this service by, such as `https://shop.example`. A request
   * that was signed for another one is refused: its Host header does not count.
   */
  readonly origin: string;
  /** The profile to judge by: `onceguard`, if left out. */
  readonly profile?: string;
  /** 160 KiB, if left out, which is the most that onceguard judges. */
  readonly maxBodyBytes?: number;
  /** Told why a request could not be judged; written to the console, if left out. */
  readonly onUnavailable?: (error: Error) => void;
}

type Lines = readonly (readonly [string, string])[];

/** Judges the requests that any framework received. */
export class Guard {
  readonly maxBodyBytes: number;
  readonly #options: GuardOptions;
  readonly #origin: string;

  constructor(options: GuardOptions) {
    this.#options = options;
    this.#origin = originOf(options.origin);
    this.maxBodyBytes = options.maxBodyBytes ?? MAX_BODY_BYTES;
  }

  /** Refuses what cannot pass, without asking, so that its body need not be read. */
  precheck(headers: Lines): Response | undefined {
    const refuse = (code: string, title: string, detail: string) =>
      this.#refusal(401, { title, status: 401, detail, code }, headers);
    const inputs = valuesOf(headers, "signature-input");
    const signatures = valuesOf(headers, "signature");
    if (inputs.length === 0 && signatures.length === 0) {
      const detail = "Sign the request (RFC 9421), as onceguard's docs/signatures.md says.";
      return refuse("signature_required", "The request is not signed", detail);
    }
    if (inputs.length === 0 || signatures.length === 0) {
      const detail = "Send both Signature-Input and Signature.";
      return refuse("signature_malformed", "The signature is malformed", detail);
    }
    if (areMalformed(inputs, signatures)) {
      const detail =
        "Send Signature-Input and Signature as RFC 9421 has them, with the same labels.";
      return refuse("signature_malformed", "The signature is malformed", detail);
    }
    const unquoted = inputs.join(", ").replace(/"(?:[^"\\]|\\.)*"/g, '""');
    const expires = Array.from(unquoted.matchAll(/;\s*expires=(\d{1,15})(?!\d)/g), (found) =>
      Number(found[1]),
    );
    if (expires.length > 0 && Math.max(...expires) < Date.now() / 1000 - SKEW) {
      const title = "The signature is not valid at this time";
      const detail = "Sign the request just before you send it, and check the clock.";
      return refuse("signature_window_invalid", title, detail);
    }
    return undefined;
  }

  /** The verdict on a request, or the answer to send in the application's place. */
  async judge(
    method: string,
    target: string,
    headers: Lines,
    body: Uint8Array,
  ): Promise<Verdict | Response> {
    const { client, profile } = this.#options;
    try {
      return await client.verify({
        method,
        url: this.#origin + target,
        headers,
        body,
        ...(profile !== undefined && { profile }),
      });
    } catch (error) {
      if (error instanceof SignatureRefusedError && error.status === 403) {
        const status = FORBIDDEN.has(error.code ?? "") ? 403 : 401;
        return this.#refusal(status, { ...error.problem, status }, headers);
      }
      return this.unavailable(error);
    }
  }

  /** The operator is told why; the sender, only that it is not about them. */
  unavailable(error: unknown): Response {
    const cause = error instanceof Error ? error : new Error(String(error));
    const tell =
      this.#options.onUnavailable ??
      ((why) => console.error(`A request was refused, because it could not be judged: ${why}`));
    tell(cause);
    const detail =
      "This says nothing about the request. Send it again later, with a new signature.";
    const title = "The request cannot be judged now";
    const answer = refusal(503, "verdict_unavailable", title, detail);
    const after = cause instanceof OnceguardError ? cause.retryAfter : undefined;
    answer.headers.set("Retry-After", String(after ?? 5));
    return answer;
  }

  tooLarge(): Response {
    const detail = `A signed request may have a body of at most ${this.maxBodyBytes} bytes here.`;
    return refusal(413, "payload_too_large", "The body is too large", detail);
  }

  /** Only of the profile that onceguard comes with is it known here what it wants. */
  #refusal(status: number, body: Readonly<Record<string, unknown>>, headers: Lines): Response {
    const answer = problem(status, body);
    const { profile = "onceguard" } = this.#options;
    if (status === 401 && profile === "onceguard" && MENDABLE.has(String(body.code))) {
      answer.headers.set("Accept-Signature", wanted(headers));
    }
    return answer;
  }
}

function valuesOf(headers: Lines, wanted: string): string[] {
  return headers.filter(([name]) => name.toLowerCase() === wanted).map(([, value]) => value);
}

/** What the profile `onceguard` wants of a request with these headers (RFC 9421, section 5.1). */
function wanted(headers: Lines): string {
  const has = (name: string) => valuesOf(headers, name).length > 0;
  const isSized = valuesOf(headers, "content-length").some((length) => length !== "0");
  const hasBody = isSized || has("transfer-encoding") || has("content-type");
  const components = [
    "@method",
    "@target-uri",
    ...(hasBody ? ["content-digest", "content-type"] : []),
    ...(has("x-session-id") ? ["x-session-id"] : []),
  ];
  const list = components.map((name) => `"${name}"`).join(" ");
  return `sig1=(${list});created;expires;nonce="${freshNonce()}";tag="onceguard"`;
}

/**
 * A function that judges a `Request`: in Hono, Next, Deno, Bun and workers. It gives the verdict, or
 * the answer to send. The request's body can still be read.
 *
 * ```ts
 * const verify = verifier({ client, origin: "https://shop.example" });
 * const verdict = await verify(request);
 * if (verdict instanceof Response) return verdict;
 * ```
 */
export function verifier(options: GuardOptions): (request: Request) => Promise<Verdict | Response> {
  const guard = new Guard(options);
  return async (request) => {
    const headers = [...request.headers];
    const refused = guard.precheck(headers);
    if (refused !== undefined) return refused;
    const body = await bodyOf(request.clone(), guard.maxBodyBytes);
    if (body === undefined) return guard.tooLarge();
    // Verbatim, as far as a Request has it.
    const target = request.url.replace(/^[a-z]+:\/\/[^/?#]*/i, "").replace(/#.*/, "");
    return guard.judge(request.method, target, headers, body);
  };
}

/** All of the body; undefined when it is longer. */
async function bodyOf(request: Request, limit: number): Promise<Uint8Array | undefined> {
  const chunks: Uint8Array[] = [];
  let length = 0;
  const reader = request.body?.getReader();
  while (reader !== undefined) {
    const { done, value } = await reader.read();
    if (done) break;
    length += value.length;
    if (length > limit) {
      // Not awaited: the other branch of the body has not been read.
      void reader.cancel();
      return undefined;
    }
    chunks.push(value);
  }
  return joined(chunks);
}

export function joined(chunks: readonly Uint8Array[]): Uint8Array {
  const body = new Uint8Array(chunks.reduce((sum, chunk) => sum + chunk.length, 0));
  let at = 0;
  for (const chunk of chunks) {
    body.set(chunk, at);
    at += chunk.length;
  }
  return body;
}

function refusal(status: number, code: string, title: string, detail: string): Response {
  return problem(status, { title, status, detail, code });
}

function problem(status: number, body: Readonly<Record<string, unknown>>): Response {
  const headers = new Headers({
    "Content-Type": "application/problem+json",
    "Cache-Control": "no-store",
  });
  if (status === 401) headers.set("WWW-Authenticate", `Signature error="${String(body.code)}"`);
  return new Response(JSON.stringify(body), { status, headers });
}

/** Checks what a service says its agents call it by. */
function originOf(url: string): string {
  const parts = URL.canParse(url) ? new URL(url) : undefined;
  const bare = parts !== undefined && parts.href === `${parts.origin}/`;
  if (!bare || !/^https?:$/.test(parts.protocol)) {
    throw new TypeError(`origin must be a scheme and a host, like https://shop.example: ${url}`);
  }
  return parts.origin;
}
