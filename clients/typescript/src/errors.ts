// What can go wrong, one class for each kind. A message says what was wrong, and what to do; it
// never has a token or a key.

import type { Code } from "./codes.js";

/** One mistake in a request: where (a JSON pointer, or a parameter's name), and what. */
export interface FieldError {
  readonly pointer: string;
  readonly detail: string;
}

/** The body of an answer that is an error (RFC 9457), as the service wrote it. */
export type Problem = Readonly<Record<string, unknown>>;

/**
 * The base of all errors here.
 *
 * ```ts
 * try {
 *   await client.sessions.claim(session.id, nonce);
 * } catch (error) {
 *   if (error instanceof NonceReplayedError) return refuseTheMessage();
 *   throw error;
 * }
 * ```
 */
export class OnceguardError extends Error {
  /** The stable word for programs, such as `nonce_replayed`; absent when there was no answer. */
  code?: Code;
  /** The HTTP status; absent when there was no answer. */
  status?: number;
  /** The service's log has the call under this id. */
  requestId?: string;
  /** In how many seconds another try is worth it; absent when waiting does not help. */
  retryAfter?: number;
  /** Each mistake, with `InvalidRequestError`. */
  errors: readonly FieldError[] = [];
  /** When the nonce was accepted, with `NonceReplayedError`. */
  firstUsedAt?: string;
  /** The key under which a call was sent: the same call with it learns the true outcome. */
  idempotencyKey?: string;
  /** How often the call was sent. */
  attempts = 0;
  /** The whole answer. */
  problem: Problem = {};

  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = new.target.name;
  }
}

/** The request is not valid; `errors` names each mistake. Nothing was changed. */
export class InvalidRequestError extends OnceguardError {}
/** onceguard does not know the caller. */
export class UnauthenticatedError extends OnceguardError {}
/** The caller may not do this. */
export class ForbiddenError extends OnceguardError {}
/** A DID of this call is revoked, for good. Use another DID. */
export class DidRevokedError extends OnceguardError {}
/** There is no such session, DID, nonce, record or path. */
export class NotFoundError extends OnceguardError {}
/** The nonce was used before: the message that carries it is a replay. Refuse it. */
export class NonceReplayedError extends OnceguardError {}
/**
 * The nonce may have been used before the database was restored, so that it is not accepted: refuse
 * the message, and ask for a new one. With `issuedAt`, only what is older is refused.
 */
export class IssuedBeforeRestoreError extends OnceguardError {}
/** The session's id is taken, or may have been. Leave `id` out, and one is made. */
export class SessionExistsError extends OnceguardError {}
/** The session has ended. Open a new one. */
export class SessionEndedError extends OnceguardError {}
/** The session has expired. Open a new one. */
export class SessionExpiredError extends OnceguardError {}
/** The session or record has changed since it was read. Read it again, and repeat the change. */
export class PreconditionFailedError extends OnceguardError {}
/**
 * What came after the cursor is no longer known as a whole. Records: read everything anew, and drop
 * what is not in it. Events: begin without `since`; some are gone.
 */
export class CursorExpiredError extends OnceguardError {}
/** A signed request did not pass. `code` names the check that it failed. */
export class SignatureRefusedError extends OnceguardError {}
/** The signed request passed before: this one is a copy. */
export class SignatureReplayedError extends SignatureRefusedError {}
/** The session, signer or namespace has no claims left. Nothing is evicted to make room. */
export class ClaimQuotaReachedError extends OnceguardError {}
/** There is no room for the record. Waiting does not help: delete records. */
export class RecordQuotaReachedError extends OnceguardError {}
/** Too many calls of this kind. Wait for `retryAfter` seconds. */
export class RateLimitedError extends OnceguardError {}
/** onceguard cannot answer safely now. Treat a claim as not accepted, a request as refused. */
export class UnavailableError extends OnceguardError {}
/** The change may have been made. Repeat a claim or a verdict with the same `idempotencyKey`. */
export class OutcomeUnknownError extends UnavailableError {}
/**
 * No answer came: the connection failed, broke, or was too slow. The change may have been made.
 * Repeat a claim or a verdict with the same `idempotencyKey`.
 */
export class NoAnswerError extends UnavailableError {}
/** The answer is not one that this client knows. Is `baseUrl` onceguard's? */
export class UnexpectedAnswerError extends OnceguardError {}
/**
 * The key cannot be read, the request lacks what a signature must cover, or what `Accept-Signature`
 * asks for cannot be signed.
 */
export class CannotSignError extends OnceguardError {}

type Kind = new (message: string, options?: ErrorOptions) => OnceguardError;

const BY_CODE = new Map<string, Kind>([
  ["did_revoked", DidRevokedError],
  ["nonce_replayed", NonceReplayedError],
  ["issued_before_restore", IssuedBeforeRestoreError],
  ["session_exists", SessionExistsError],
  ["session_id_before_restore", SessionExistsError],
  ["session_ended", SessionEndedError],
  ["session_expired", SessionExpiredError],
  ["cursor_expired", CursorExpiredError],
  ["signature_replayed", SignatureReplayedError],
  ["signature_key_unavailable", UnavailableError],
  ["signature_revocation_stale", UnavailableError],
  ["claim_quota_reached", ClaimQuotaReachedError],
  ["record_quota_reached", RecordQuotaReachedError],
  ["outcome_unknown", OutcomeUnknownError],
]);

const BY_STATUS = new Map<number, Kind>([
  [400, InvalidRequestError],
  [401, UnauthenticatedError],
  [403, ForbiddenError],
  [404, NotFoundError],
  [405, NotFoundError],
  [410, SessionEndedError],
  [412, PreconditionFailedError],
  [413, InvalidRequestError],
  [415, InvalidRequestError],
  [421, InvalidRequestError],
  [422, InvalidRequestError],
  [428, InvalidRequestError],
  [429, RateLimitedError],
  [502, UnavailableError],
  [503, UnavailableError],
  [504, UnavailableError],
]);

/** A code that is newer than this client is treated by its status. */
function kindOf(status: number, code: string | undefined): Kind {
  const known = code === undefined ? undefined : BY_CODE.get(code);
  if (known !== undefined) return known;
  if (code?.startsWith("signature_")) return SignatureRefusedError;
  if (code === undefined && status < 500 && status !== 429) return UnexpectedAnswerError;
  return BY_STATUS.get(status) ?? UnexpectedAnswerError;
}

/** The error that an answer stands for; an answer of a proxy is no problem with a code. */
export function ofAnswer(status: number, body: unknown, retryAfter?: number): OnceguardError {
  const problem: Problem = isObject(body) ? body : {};
  const code = text(problem.code);
  const requestId = text(problem.request_id);
  const detail = text(problem.detail) ?? `onceguard, or a proxy before it, answered ${status}`;
  const errors = Array.isArray(problem.errors) ? (problem.errors as FieldError[]) : [];
  const words = [`${detail.replace(/\.$/, "")}.`];
  if (errors.length > 1) words.push(...errors.map((each) => `${each.pointer}: ${each.detail}.`));
  if (code !== undefined) words.push(`(${code}, request ${requestId})`);
  const kind = kindOf(status, code);
  if (kind === UnauthenticatedError) {
    words.push("Make a token with `onceguard token create`, and give it as `token`.");
  }
  const firstUsedAt = text(problem.first_used_at);
  return Object.assign(new kind(words.join(" ")), {
    status,
    errors,
    problem,
    ...(code !== undefined && { code }),
    ...(requestId !== undefined && { requestId }),
    ...(retryAfter !== undefined && { retryAfter }),
    ...(firstUsedAt !== undefined && { firstUsedAt }),
  });
}

/** The same error as the refusal of a judged request, whose session ended, say. */
export function asRefusal(error: OnceguardError): SignatureRefusedError {
  const name = SignatureRefusedError.name;
  return Object.assign(new SignatureRefusedError(error.message), { ...error, name });
}

export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function text(value: unknown): string | undefined {
  return typeof value === "string" ? value : undefined;
}
