// Lists, page by page.

import type { Call, Transport } from "../transport.js";
import { list, read } from "../wire.js";

/** The items of all pages, as they are in JSON. */
export async function* pages(
  transport: Transport,
  path: string,
  query: NonNullable<Call["query"]>,
): AsyncGenerator<unknown, void> {
  let cursor: string | null = null;
  do {
    const page: NonNullable<Call["query"]> = cursor === null ? query : { ...query, cursor };
    const { body } = await transport.send({ method: "GET", path, query: page, repeatable: true });
    yield* list(body, "items");
    cursor = read<{ nextCursor: string | null }>(body).nextCursor;
  } while (cursor !== null);
}
