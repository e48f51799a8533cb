// The retry rule. Only what is safe to repeat is repeated: reads; claims, verdicts and events (under
// their `Idempotency-Key`); the opening of a session under an id that this client has made; and
// changes of the one version of a record that they name. Nothing else is ever sent twice.

import { NoAnswerError, type OnceguardError, ofAnswer, UnexpectedAnswerError } from "./errors.js";
import { SENT_ONCE } from "./runtime.js";

/** A longer wait than this, in seconds, is left to the caller, who finds it in `retryAfter`. */
const LONGEST_WAIT = 10;
const FIRST_WAIT = 0.1;

export interface Call {
  readonly method: string;
  readonly path: string;
  readonly query?: Readonly<Record<string, string | number | boolean | undefined>>;
  readonly body?: unknown;
  readonly headers?: Readonly<Record<string, string>>;
  /** Whether sending it twice does what sending it once does. */
  readonly repeatable?: boolean;
}

export interface Answer {
  /** 304 answers what was asked only for a change. */
  readonly status: number;
  readonly headers: Headers;
  /** The JSON; undefined where there is no body. */
  readonly body: unknown;
}

export interface TransportOptions {
  readonly baseUrl: string;
  readonly token: string | undefined;
  readonly timeoutMilliseconds: number;
  readonly retries: number;
  readonly fetch: typeof fetch;
}

export class Transport {
  readonly #options: TransportOptions;

  constructor(options: TransportOptions) {
    this.#options = options;
  }

  /** Sends a call, again where that is safe and worth it. An error answer is thrown. */
  async send(call: Call): Promise<Answer> {
    for (let attempt = 1; ; attempt += 1) {
      const outcome = await this.#try(call);
      if (!(outcome instanceof Error)) return outcome;
      const wait = waitAfter(outcome, attempt);
      if (!call.repeatable || attempt > this.#options.retries || wait === undefined) {
        outcome.attempts = attempt;
        const key = call.headers?.["Idempotency-Key"];
        if (key !== undefined) outcome.idempotencyKey = key;
        throw outcome;
      }
      await sleep(wait * 1000);
    }
  }

  async #try(call: Call): Promise<Answer | OnceguardError> {
    const { baseUrl, token, timeoutMilliseconds, fetch } = this.#options;
    const query = new URLSearchParams();
    for (const [name, value] of Object.entries(call.query ?? {})) {
      if (value !== undefined) query.set(name, String(value));
    }
    const url = `${baseUrl}${call.path}${query.size > 0 ? `?${query}` : ""}`;
    const headers = new Headers({ Accept: "application/json", ...call.headers });
    if (token !== undefined) headers.set("Authorization", `Bearer ${token}`);
    if (call.body !== undefined) headers.set("Content-Type", "application/json");
    // A call is to this service: not to one that it names.
    const init: RequestInit = { method: call.method, headers, redirect: "manual" };
    const isHarmlessTwice = call.method === "GET" || headers.has("Idempotency-Key");
    if (!isHarmlessTwice) Object.assign(init, SENT_ONCE);
    if (call.body !== undefined) init.body = JSON.stringify(call.body);
    let response: Response;
    let text: string;
    try {
      response = await fetch(url, { ...init, signal: AbortSignal.timeout(timeoutMilliseconds) });
      text = await response.text();
    } catch (cause) {
      if (!isNetworkError(cause)) throw cause;
      return new NoAnswerError(`No answer to ${call.method} ${call.path}: ${why(cause)}.`, {
        cause,
      });
    }
    const body = parse(text);
    const { status } = response;
    if (!response.ok && status !== 304) return ofAnswer(status, body, retryAfter(response));
    if (text !== "" && body === undefined) {
      return new UnexpectedAnswerError("The answer is not JSON. Is `baseUrl` onceguard's?");
    }
    return { status, headers: response.headers, body };
  }
}

export function sleep(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

/** How long to wait before another try, in seconds; undefined when there should be none. */
function waitAfter(error: OnceguardError, attempt: number): number | undefined {
  const { status, retryAfter } = error;
  if (!(error instanceof NoAnswerError)) {
    if (status !== 429 && status !== 502 && status !== 503) return undefined;
    // Without Retry-After, waiting does not mend a 429.
    if (status === 429 && retryAfter === undefined) return undefined;
  }
  const wait = Math.max(FIRST_WAIT * 2 ** (attempt - 1), retryAfter ?? 0);
  // Never earlier than asked, and not all at once.
  return wait > LONGEST_WAIT ? undefined : wait * (1 + Math.random() / 2);
}

function retryAfter(response: Response): number | undefined {
  const text = response.headers.get("Retry-After") ?? "";
  return /^\d+$/.test(text) ? Number(text) : undefined;
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** `fetch` throws a TypeError when the network fails, and a DOMException when time is up. */
function isNetworkError(error: unknown): error is Error {
  return error instanceof TypeError || (error instanceof Error && error.name === "TimeoutError");
}

function why(error: Error): string {
  const cause = error.cause instanceof Error ? error.cause : error;
  return cause.message === ""
    ? String((cause as { code?: unknown }).code ?? cause.name)
    : cause.message;
}
