// onceguard: is this signed request from who it says, fresh, and not a replay?

export { Onceguard, type OnceguardOptions } from "./client.js";
export type { Code } from "./codes.js";
export {
  CannotSignError,
  ClaimQuotaReachedError,
  CursorExpiredError,
  DidRevokedError,
  type FieldError,
  ForbiddenError,
  InvalidRequestError,
  IssuedBeforeRestoreError,
  NoAnswerError,
  NonceReplayedError,
  NotFoundError,
  OnceguardError,
  OutcomeUnknownError,
  PreconditionFailedError,
  type Problem,
  RateLimitedError,
  RecordQuotaReachedError,
  SessionEndedError,
  SessionExistsError,
  SessionExpiredError,
  SignatureRefusedError,
  SignatureReplayedError,
  UnauthenticatedError,
  UnavailableError,
  UnexpectedAnswerError,
} from "./errors.js";
export type * from "./events.js";
export { type SignedFetchOptions, signedFetch } from "./fetch.js";
export { type GuardOptions, verifier } from "./guard.js";
export { Key } from "./keys.js";
export type * from "./records.js";
export { signRequest, type Unsigned } from "./signatures.js";
export type * from "./types.js";
export type * from "./webhooks.js";
