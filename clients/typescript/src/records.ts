// What sealed records are, as onceguard answers with them and as it is asked.

import type { Metadata } from "./types.js";

/** A record to write. Encrypt it before, with an authenticated cipher. */
export interface NewRecord {
  /** The initialization vector: 12 bytes, never twice with one key. */
  readonly iv: Uint8Array;
  /** At most 1,000,000 bytes. */
  readonly ciphertext: Uint8Array;
  /** When the client made it, by its own clock. */
  readonly clientTime?: string;
  /** At most 4 KiB. It is not encrypted: the operator can read it. */
  readonly metadata?: Metadata;
  /** From then on the record counts as deleted. */
  readonly expiresAt?: string;
}

/** The writing of a record, within a batch. */
export interface RecordPut {
  readonly op: "put";
  readonly kind: string;
  readonly id: string;
  readonly record: NewRecord;
  /** The `etag` of the version to replace; left out, if there is no such record yet. */
  readonly ifMatch?: string;
}

/** The deletion of a record, within a batch. */
export interface RecordDelete {
  readonly op: "delete";
  readonly kind: string;
  readonly id: string;
  /** The `etag` of the version to delete. */
  readonly ifMatch: string;
}

/** What a change has written. */
export interface RecordWritten {
  readonly kind: string;
  readonly id: string;
  readonly version: number;
  /** The number of this change among its owner's. */
  readonly sequence: number;
  /** For `ifMatch`; absent of a deleted record. */
  readonly etag?: string;
  /** Only true, of a deleted record. */
  readonly deleted?: boolean;
  /** Of the ciphertext, in bytes. */
  readonly size: number;
  readonly createdAt: string;
  readonly updatedAt: string;
}

/** A record, or what a deleted one has left. */
export interface Record {
  readonly kind: string;
  readonly id: string;
  readonly version: number;
  /** The number of its last change among its owner's. */
  readonly sequence: number;
  /** For `ifMatch`; absent of a deleted record. */
  readonly etag?: string;
  /** Only true, of a deleted record. */
  readonly deleted?: boolean;
  /** Only true: what is stored is not what was written, and is not handed out. */
  readonly damaged?: boolean;
  /** Of the ciphertext, in bytes. */
  readonly size?: number;
  readonly iv?: Uint8Array;
  readonly ciphertext?: Uint8Array;
  readonly checksum?: string;
  readonly clientTime?: string;
  readonly metadata?: Metadata;
  readonly expiresAt?: string;
  readonly createdAt: string;
  readonly updatedAt: string;
}

/** Which records to list or follow. */
export interface RecordFilter {
  readonly kind?: string;
  /** Whether iv and ciphertext come with them; they do, if left out. */
  readonly contents?: boolean;
  readonly pageSize?: number;
}

/** A page of changes. */
export interface RecordFeed {
  readonly items: readonly Record[];
  /** Where to go on. */
  readonly nextCursor: string;
  /** Whether there is more already. */
  readonly hasMore: boolean;
}

/** What an owner has, and may have. */
export interface RecordUsage {
  readonly bytes: number;
  /** Deleted records count until they are forgotten. */
  readonly records: number;
  /** Records of each kind, without deleted ones. */
  readonly kinds: { readonly [kind: string]: number };
  readonly maxBytes: number;
  readonly maxRecords: number;
}

/** An owner whose records were neither read nor written for long. */
export interface InactiveOwner {
  readonly did: string;
  /** To the hour. */
  readonly lastAccessed: string;
  readonly records: number;
  readonly bytes: number;
}

/** What was removed of inactive owners. */
export interface InactiveRemoved {
  readonly owners: number;
  readonly records: number;
}
