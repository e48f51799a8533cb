// DIDs as a Universal Resolver gives them.

import { OnceguardError } from "../errors.js";
import type { Transport } from "../transport.js";
import type { Resolution } from "../types.js";

/** `client.identifiers`: the answers are as W3C DID Resolution defines them. */
export class Identifiers {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /** The DID resolution result: `didDocument`, or why there is none. */
  async resolve(did: string): Promise<Resolution> {
    const path = `/1.0/identifiers/${encodeURIComponent(did)}`;
    const headers = { Accept: "application/did-resolution" };
    try {
      const call = { method: "GET", path, headers, repeatable: true };
      return (await this.#transport.send(call)).body as Resolution;
    } catch (error) {
      // That a DID does not resolve is a result, too.
      if (error instanceof OnceguardError && "didResolutionMetadata" in error.problem) {
        return error.problem as unknown as Resolution;
      }
      throw error;
    }
  }

  /** The DID methods that can be resolved. */
  async methods(): Promise<string[]> {
    const call = { method: "GET", path: "/1.0/methods", repeatable: true };
    return (await this.#transport.send(call)).body as string[];
  }

  /** Who resolves each method. */
  async properties(): Promise<Record<string, unknown>> {
    const call = { method: "GET", path: "/1.0/properties", repeatable: true };
    return (await this.#transport.send(call)).body as Record<string, unknown>;
  }
}
