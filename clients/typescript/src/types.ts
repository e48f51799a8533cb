// What onceguard answers with, and what it is asked. Times are RFC 3339 in UTC, to the microsecond:
// `new Date(session.expiresAt)` reads them.

export type SessionState = "active" | "ended" | "expired";
export type EndReason = "ended" | "expired" | "idle" | "did_revoked" | "restored";
export type KeyType = "Ed25519" | "Secp256k1" | "P256";
export type Algorithm = "ed25519" | "ecdsa-p256-sha256" | "ES256K" | "es256k";
export type Backend = "sqlite" | "postgresql";
export type InstanceState = "active" | "ended" | "terminated" | "failed";
export type Outcome =
  | "accepted"
  | "replayed"
  | "session_not_found"
  | "session_ended"
  | "session_expired"
  | "claim_quota_reached"
  | "expired"
  | "issued_before_restore"
  | "did_revoked";

/** Any JSON object; it is returned as it was sent. */
export type Metadata = Readonly<Record<string, unknown>>;

/** A session to open. */
export interface NewSession {
  readonly clientDid: string;
  readonly serverDid: string;
  /** Leave it out: then one is made, and a lost answer is repeated safely. */
  readonly id?: string;
  /** 1 to 4096 bytes, for the two parties; sealed before it is stored. */
  readonly sessionKey?: Uint8Array;
  readonly ttlSeconds?: number;
  /** The session expires when it is not used for so long. */
  readonly idleTimeoutSeconds?: number;
  /** The most nonces that may be claimed in the session. */
  readonly maxClaims?: number;
  readonly metadata?: Metadata;
}

/** What to change in a session; at least one. */
export interface SessionChange {
  /** Replaces the whole object. */
  readonly metadata?: Metadata;
  readonly sessionKey?: Uint8Array;
  /** From now, and never past the deadline. */
  readonly ttlSeconds?: number;
}

/** Which sessions to list. */
export interface SessionFilter {
  readonly clientDid?: string;
  readonly serverDid?: string;
  /** `active`, if left out. */
  readonly state?: SessionState | "all";
  readonly pageSize?: number;
}

/** A session, without its key. */
export interface Session {
  readonly id: string;
  readonly clientDid: string;
  readonly serverDid: string;
  readonly state: SessionState;
  readonly createdAt: string;
  readonly expiresAt: string;
  /** No change moves `expiresAt` past it. */
  readonly deadline: string;
  readonly lastActivity: string;
  readonly idleTimeoutSeconds: number | null;
  readonly maxClaims: number | null;
  /** Exact where `maxClaims` is set; elsewhere it moves with activity. */
  readonly claims: number;
  readonly metadata: Metadata;
  readonly userAgent: string | null;
  readonly ipAddress: string | null;
  readonly endedAt: string | null;
  readonly endReason: EndReason | null;
  /** For `ifMatch`; absent in lists. */
  readonly etag?: string;
}

/** A nonce that was accepted: act on its message. */
export interface AcceptedNonce {
  readonly nonce: string;
  readonly sessionId: string;
  readonly usedAt: string;
  /** Until then at least, it stays spent. */
  readonly expiresAt: string;
}

/** A nonce that was used. */
export interface UsedNonce {
  readonly nonce: string;
  readonly usedAt: string;
  readonly expiresAt: string;
}

/** An id that was accepted in a namespace: act on its message. */
export interface NamespaceNonce {
  readonly namespace: string;
  readonly usedAt: string;
  /** Until then at least, it stays spent. */
  readonly expiresAt: string;
}

/** What a namespace holds. */
export interface Namespace {
  readonly namespace: string;
  /** Ids that are kept; those that expired are counted until the purge. */
  readonly live: number;
  /** The most of them. */
  readonly quota: number;
}

/** The claim of a nonce in a session. */
export interface SessionClaim {
  readonly sessionId: string;
  readonly nonce: string;
}

/** The claim of a nonce by a signer. */
export interface SignerClaim {
  readonly signer: string;
  readonly nonce: string;
  /** When the message that carries the nonce stops being acceptable. */
  readonly expiresAt: string;
  /** When the signer made the message, by the message's own, authenticated word. */
  readonly issuedAt?: string;
}

/** The claim of an id that is used once and is no DID's nonce: a token's, or a webhook's. */
export interface NamespaceClaim {
  readonly namespace: string;
  /** Text of visible ASCII characters, or bytes of any kind. */
  readonly nonce: string | Uint8Array;
  /** When the id stops being acceptable, at most a day ahead. */
  readonly expiresAt: string;
  /** When the id was issued, by the word of the message that carries it. */
  readonly issuedAt?: string;
}

/** The outcome of one claim of many. */
export interface ClaimResult {
  /** Act on the message only if it is `accepted`. */
  readonly outcome: Outcome;
  readonly usedAt?: string;
  readonly firstUsedAt?: string;
}

/** A key of a DID. */
export interface VerificationMethod {
  readonly id: string;
  readonly keyType: KeyType;
  /** Raw: 32 bytes for Ed25519, 33 (compressed) for the others. */
  readonly publicKey: Uint8Array;
  /** Whether the key may sign. */
  readonly authentication: boolean;
}

/** What a DID's document has that cannot be used, and why. */
export interface UnusableMethod {
  readonly id: string | null;
  readonly pointer: string;
  readonly detail: string;
}

/** What is known of a DID. */
export interface Did {
  readonly did: string;
  readonly keyType: KeyType | null;
  readonly publicKey: Uint8Array | null;
  /** Absent in lists. */
  readonly verificationMethods?: readonly VerificationMethod[];
  /** Absent in lists. */
  readonly unusableMethods?: readonly UnusableMethod[];
  readonly ownerAddress: string | null;
  readonly revoked: boolean;
  readonly deactivated: boolean;
  readonly source: string | null;
  readonly fetchedAt: string | null;
  readonly staleAt: string | null;
  readonly createdAt: string | null;
  readonly updatedAt: string | null;
}

/** A stored DID that a search found. */
export interface FoundDid extends Did {
  readonly kind: "did";
  /** The DID. */
  readonly id: string;
}

/** A session that a search found. */
export interface FoundSession extends Session {
  readonly kind: "session";
}

/** What a search found; `kind` says which. */
export type Found = FoundDid | FoundSession;

/** A key to store for a DID. */
export interface NewDid {
  readonly publicKey: Uint8Array;
  readonly keyType: KeyType;
  readonly ownerAddress?: string;
}

/** Which DIDs to list. */
export interface DidFilter {
  readonly ownerAddress?: string;
  readonly keyType?: KeyType;
  readonly revoked?: boolean;
  readonly pageSize?: number;
}

/** A revocation, which is final. */
export interface Revocation {
  readonly did: string;
  readonly revokedAt: string;
  readonly sessionsEnded: number;
}

/** What an erasure has removed. */
export interface Erased {
  readonly sessions: number;
  readonly records: number;
  /** Events of the audit log, which name a digest of the DID from now on. */
  readonly events: number;
}

/** A request as it was received. */
export interface ReceivedRequest {
  readonly method: string;
  /** The whole URL that was signed. */
  readonly url: string;
  /** Name and value of each line. */
  readonly headers: Iterable<readonly [string, string]>;
  readonly body?: Uint8Array;
  /** `onceguard`, if left out. */
  readonly profile?: string;
  /** The session that the request must belong to. */
  readonly sessionId?: string;
}

/** A signed request that passed every check. Its nonce is spent. */
export interface Verdict {
  /** Who signed. */
  readonly did: string;
  readonly keyid: string;
  readonly alg: Algorithm;
  readonly profile: string;
  readonly created: string;
  readonly expires: string;
  readonly nonce: string;
  /** What the signature covers. Nothing else of the request is vouched for. */
  readonly covered: readonly string[];
  readonly sessionId: string | null;
}

/** The service and its database, at a glance. */
export interface Stats {
  readonly version: string;
  readonly backend: Backend;
  readonly startedAt: string;
  readonly uptimeSeconds: number;
  readonly sessions: { readonly active: number; readonly ended: number };
  readonly liveNonces: number;
  readonly dids: { readonly stored: number; readonly revoked: number };
  readonly records: {
    /** Owners that have records. */
    readonly owners: number;
    readonly records: number;
    readonly bytes: number;
    /** What counts in the quota of all agents together. */
    readonly agents: { readonly records: number; readonly bytes: number };
    readonly topKinds: readonly { readonly kind: string; readonly records: number }[];
  };
  readonly webhooks: {
    readonly active: number;
    readonly paused: number;
    readonly disabled: number;
    /** Events that are sent, or sent again. */
    readonly pending: number;
    /** Events that were given up. */
    readonly dead: number;
    readonly oldestPendingSeconds: number;
  };
  readonly database: {
    readonly bytes: number;
    readonly recoveredAt: string | null;
    readonly tables: readonly { readonly name: string; readonly bytes: number }[];
  };
  readonly lastBackupAt: string | null;
  readonly topClients: readonly { readonly clientDid: string; readonly activeSessions: number }[];
}

/** A process of onceguard. */
export interface Instance {
  readonly id: string;
  /** The address of its API. */
  readonly name: string;
  readonly host: string;
  readonly version: string;
  readonly startedAt: string;
  readonly heartbeatAt: string;
  /** When it was stopped, or its start failed. */
  readonly endedAt: string | null;
  /** `terminated`: its last heartbeat is older than a minute. */
  readonly state: InstanceState;
}

/** A DID resolution result (W3C DID Resolution). */
export interface Resolution {
  readonly didDocument: Readonly<Record<string, unknown>> | null;
  readonly didResolutionMetadata: Readonly<Record<string, unknown>>;
  readonly didDocumentMetadata: Readonly<Record<string, unknown>>;
}
