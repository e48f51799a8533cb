// The search for stored DIDs and sessions by their words.

import { UnexpectedAnswerError } from "../errors.js";
import type { Transport } from "../transport.js";
import type { Found } from "../types.js";
import { read } from "../wire.js";
import { didOf } from "./dids.js";
import { pages } from "./pages.js";
import { listedSession } from "./sessions.js";

export async function* find(
  transport: Transport,
  q: string,
  pageSize: number | undefined,
): AsyncGenerator<Found, void> {
  for await (const item of pages(transport, "/v1/search", { q, limit: pageSize })) {
    yield foundOf(item);
  }
}

function foundOf(item: unknown): Found {
  const { kind, id } = read<Found>(item, "kind", "id");
  if (kind === "did") return { ...didOf(item), kind, id };
  if (kind === "session") return { ...listedSession(item), kind };
  throw new UnexpectedAnswerError(`The answer has a kind that is not known here: ${kind}.`);
}
