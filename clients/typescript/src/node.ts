// What the middleware for Node.js servers shares: the request as it was received, and its body.

import type { IncomingMessage, ServerResponse } from "node:http";
import { joined } from "./guard.js";

/** Name and value of each line. */
export function linesOf(request: IncomingMessage): [string, string][] {
  const lines: [string, string][] = [];
  for (let at = 0; at + 1 < request.rawHeaders.length; at += 2) {
    lines.push([request.rawHeaders[at] ?? "", request.rawHeaders[at + 1] ?? ""]);
  }
  return lines;
}

/** Whether the head announces a body. */
export function hasBody(request: IncomingMessage): boolean {
  const length = request.headers["content-length"];
  return request.headers["transfer-encoding"] !== undefined || Number(length ?? 0) > 0;
}

/**
 * All of the body, which stays there for the application; undefined when it is longer.
 *
 * It is taken chunk by chunk and put back before the stream has told that it ended: what is put back
 * then is read as if it had just arrived.
 */
export function peekBody(request: IncomingMessage, limit: number): Promise<Uint8Array | undefined> {
  if (!hasBody(request)) return Promise.resolve(new Uint8Array());
  if (request.readableDidRead) {
    const advice = "Put requireSignature before what reads bodies, such as express.json().";
    return Promise.reject(new Error(`The body was read before it could be judged. ${advice}`));
  }
  return new Promise((resolve, reject) => {
    const chunks: Uint8Array[] = [];
    let length = 0;
    const done = (settle: () => void) => {
      request.off("readable", take).off("error", failed).off("close", closed);
      settle();
    };
    const failed = (error: Error) => done(() => reject(error));
    const closed = () => failed(new Error("The sender closed the connection within the body."));
    const take = () => {
      while (request.readableLength > 0) {
        const chunk = request.read() as Uint8Array | null;
        if (chunk === null) break;
        chunks.push(chunk);
        length += chunk.length;
      }
      if (length > limit) {
        done(() => resolve(undefined));
      } else if (request.complete) {
        if (length > 0) request.unshift(joined(chunks));
        done(() => resolve(joined(chunks)));
      }
    };
    request.on("readable", take).on("error", failed).on("close", closed);
  });
}

/** Sends an answer of the guard. */
export async function send(answer: Response, response: ServerResponse): Promise<void> {
  response.writeHead(answer.status, Object.fromEntries(answer.headers));
  response.end(await answer.text());
}
