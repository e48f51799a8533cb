// Sealed records: what agents encrypted and their devices share. onceguard cannot read it.
//
// A write names the version that it replaces, so that a lost answer is repeated safely: where the
// first try was made, the second is refused, and the record that is there has the checksum of ours.

import { NotFoundError, PreconditionFailedError } from "../errors.js";
import type {
  InactiveOwner,
  InactiveRemoved,
  NewRecord,
  Record,
  RecordDelete,
  RecordFeed,
  RecordFilter,
  RecordPut,
  RecordUsage,
  RecordWritten,
} from "../records.js";
import type { Call, Transport } from "../transport.js";
import { fromBase64, list, read, write } from "../wire.js";
import { pages } from "./pages.js";

const WRITTEN = ["kind", "id", "version", "sequence", "size", "createdAt", "updatedAt"] as const;

/** `client.records` */
export class Records {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /**
   * Writes a record: a new one, or with `ifMatch: record.etag` in the place of that one.
   *
   * ```ts
   * const written = await client.records.put(did, "sync", "notes", { iv, ciphertext });
   * await client.records.put(did, "sync", "notes", newer, { ifMatch: written.etag });
   * ```
   *
   * A lost answer is repeated: where the first try was made, the record has this checksum. With
   * `ifMatch: "*"`, which is any version, nothing is repeated. Throws `PreconditionFailedError` when
   * there is another version: read it, merge, and write again.
   */
  async put(
    did: string,
    kind: string,
    id: string,
    record: NewRecord,
    options: { readonly ifMatch?: string | undefined } = {},
  ): Promise<RecordWritten> {
    const { ifMatch } = options;
    const body = await fields(record);
    const call = {
      method: "PUT",
      path: path(did, kind, id),
      body,
      headers: ifMatch === undefined ? { "If-None-Match": "*" } : { "If-Match": ifMatch },
      repeatable: isRepeatable(ifMatch),
    };
    try {
      return read<RecordWritten>((await this.#transport.send(call)).body, ...WRITTEN);
    } catch (error) {
      const written = isRefusedRepeat(error) && (await this.#ours(did, kind, id, body.checksum));
      if (!written) throw error;
      return written;
    }
  }

  /** Reads a record. */
  async read(did: string, kind: string, id: string): Promise<Record> {
    const call = { method: "GET", path: path(did, kind, id), repeatable: true };
    return recordOf((await this.#transport.send(call)).body);
  }

  /** Reads a record; null if it is still the one with this `etag`. */
  async readIfChanged(did: string, kind: string, id: string, etag: string): Promise<Record | null> {
    const headers = { "If-None-Match": etag };
    const call = { method: "GET", path: path(did, kind, id), headers, repeatable: true };
    const { status, body } = await this.#transport.send(call);
    return status === 304 ? null : recordOf(body);
  }

  /** Deletes a record: the version with this `etag`. */
  async delete(
    did: string,
    kind: string,
    id: string,
    options: { readonly ifMatch: string },
  ): Promise<void> {
    const { ifMatch } = options;
    const headers = { "If-Match": ifMatch };
    const repeatable = isRepeatable(ifMatch);
    try {
      await this.#transport.send({
        method: "DELETE",
        path: path(did, kind, id),
        headers,
        repeatable,
      });
    } catch (error) {
      // An earlier try deleted it, and its answer was lost.
      if (isRefusedRepeat(error) && (await this.#find(did, kind, id)) === undefined) return;
      throw error;
    }
  }

  /**
   * Writes and deletes up to 100 records: all, or none. A batch without deletions is repeated as
   * `put` is.
   *
   * ```ts
   * await client.records.change(did, [{ op: "put", kind: "sync", id: "notes", record }]);
   * ```
   */
  async change(
    did: string,
    operations: readonly (RecordPut | RecordDelete)[],
  ): Promise<RecordWritten[]> {
    const written = await Promise.all(operations.map(operationFields));
    const puts = written.filter((each) => each.op === "put");
    const call = {
      method: "POST",
      path: path(did, "batch"),
      body: { operations: written },
      // What a deletion has left cannot be read again: such a batch is sent once.
      repeatable: puts.length === written.length && puts.every((put) => isRepeatable(put.if_match)),
    };
    try {
      const { body } = await this.#transport.send(call);
      return list(body, "results").map((result) => read<RecordWritten>(result, ...WRITTEN));
    } catch (error) {
      if (!isRefusedRepeat(error)) throw error;
      const found: RecordWritten[] = [];
      for (const { kind, id, record } of puts) {
        const ours = await this.#ours(did, kind, id, record?.checksum);
        if (ours === undefined) throw error;
        found.push(ours);
      }
      return found;
    }
  }

  /**
   * The records that are there; with `metadata`, those that have these members. With
   * `contents: false`, they come without iv and ciphertext.
   */
  async *list(
    did: string,
    filter: RecordFilter & {
      readonly metadata?: Readonly<globalThis.Record<string, string>>;
    } = {},
  ): AsyncGenerator<Record, void> {
    const { metadata = {}, ...rest } = filter;
    const conditions = Object.entries(metadata).map(([name, value]) => [`metadata.${name}`, value]);
    const after = conditions.length > 0 ? "cursor" : "since";
    const query = { ...queryOf(rest), ...Object.fromEntries(conditions) };
    for await (const page of this.#feed(did, query, after)) {
      yield* page.items.filter((record) => !record.deleted);
    }
  }

  /**
   * What has changed, deletions included, in pages, until there is no more for now. Keep the
   * `nextCursor` of the last page, and give it as `since` the next time. Throws `CursorExpiredError`
   * when everything must be read anew.
   */
  follow(
    did: string,
    filter: RecordFilter & { readonly since?: string } = {},
  ): AsyncGenerator<RecordFeed, void> {
    const { since, ...rest } = filter;
    return this.#feed(did, { ...queryOf(rest), since }, "since");
  }

  /** What an owner has, and may have. */
  async usage(did: string): Promise<RecordUsage> {
    const call = { method: "GET", path: path(did, "usage"), repeatable: true };
    const { body } = await this.#transport.send(call);
    return read<RecordUsage>(body, "bytes", "records", "kinds", "maxBytes", "maxRecords");
  }

  /** Removes all records of an owner; says how many. */
  async deleteAll(did: string): Promise<number> {
    const { body } = await this.#transport.send({ method: "DELETE", path: path(did) });
    return read<{ deleted: number }>(body, "deleted").deleted;
  }

  /** Owners whose records were neither read nor written for so many days. */
  async *inactive(
    inactiveDays: number,
    options: { readonly pageSize?: number } = {},
  ): AsyncGenerator<InactiveOwner, void> {
    const query = { inactive_days: inactiveDays, limit: options.pageSize };
    for await (const item of pages(this.#transport, "/v1/records", query)) {
      yield read<InactiveOwner>(item, "did", "lastAccessed");
    }
  }

  /** Removes the records of these owners. Look with `inactive` first. */
  async deleteInactive(inactiveDays: number): Promise<InactiveRemoved> {
    const query = { inactive_days: inactiveDays };
    const { body } = await this.#transport.send({ method: "DELETE", path: "/v1/records", query });
    return read<InactiveRemoved>(body, "owners", "records");
  }

  async *#feed(
    did: string,
    query: NonNullable<Call["query"]>,
    after: "since" | "cursor",
  ): AsyncGenerator<RecordFeed, void> {
    let asked = query;
    for (;;) {
      const call = { method: "GET", path: path(did), query: asked, repeatable: true };
      const { body } = await this.#transport.send(call);
      const items = list(body, "items").map(recordOf);
      const page = read<RecordFeed>(body, "nextCursor", "hasMore");
      yield { ...page, items };
      if (!page.hasMore) return;
      asked = { ...query, [after]: page.nextCursor };
    }
  }

  async #find(did: string, kind: string, id: string): Promise<Record | undefined> {
    try {
      return await this.read(did, kind, id);
    } catch (error) {
      if (error instanceof NotFoundError) return undefined;
      throw error;
    }
  }

  /** What an earlier try has written, if it is still there. */
  async #ours(
    did: string,
    kind: string,
    id: string,
    checksum: unknown,
  ): Promise<RecordWritten | undefined> {
    const record = await this.#find(did, kind, id);
    if (record === undefined || record.checksum !== checksum) return undefined;
    const { version, sequence, etag, size = 0, createdAt, updatedAt } = record;
    return {
      kind,
      id,
      version,
      sequence,
      ...(etag !== undefined && { etag }),
      size,
      createdAt,
      updatedAt,
    };
  }
}

function path(did: string, ...more: string[]): string {
  return ["/v1/records", ...[did, ...more].map(encodeURIComponent)].join("/");
}

/** Any version would do for `*`: also one that another device has written since our first try. */
function isRepeatable(ifMatch: unknown): boolean {
  return ifMatch !== "*";
}

function isRefusedRepeat(error: unknown): boolean {
  return error instanceof PreconditionFailedError && error.attempts > 1;
}

function queryOf(filter: RecordFilter): NonNullable<Call["query"]> {
  const { kind, contents = true, pageSize } = filter;
  return { kind, fields: contents ? undefined : "meta", limit: pageSize };
}

async function fields(record: NewRecord): Promise<globalThis.Record<string, unknown>> {
  const sealed = new Uint8Array(record.iv.length + record.ciphertext.length);
  sealed.set(record.iv);
  sealed.set(record.ciphertext, record.iv.length);
  const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", sealed));
  const checksum = Array.from(hash, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return write({ ...record, checksum });
}

interface OperationFields {
  readonly op: "put" | "delete";
  readonly kind: string;
  readonly id: string;
  readonly if_match?: string;
  readonly if_none_match?: "*";
  readonly record?: globalThis.Record<string, unknown>;
}

async function operationFields(operation: RecordPut | RecordDelete): Promise<OperationFields> {
  const { op, kind, id, ifMatch } = operation;
  if (op === "delete") return { op, kind, id, if_match: operation.ifMatch };
  const record = await fields(operation.record);
  if (ifMatch === undefined) return { op, kind, id, if_none_match: "*", record };
  return { op, kind, id, if_match: ifMatch, record };
}

type Wire = Omit<Record, "iv" | "ciphertext"> & {
  readonly iv?: string;
  readonly ciphertext?: string;
};

function recordOf(body: unknown): Record {
  const { iv, ciphertext, ...rest } = read<Wire>(body, "kind", "id", "version", "sequence");
  return {
    ...rest,
    ...(iv !== undefined && { iv: fromBase64(iv) }),
    ...(ciphertext !== undefined && { ciphertext: fromBase64(ciphertext) }),
  };
}
