// Verdicts on signed requests. A verdict spends a nonce, so each is asked for under a key of its
// own: a lost answer is told again, and never reads as a replay. Without an answer, the request
// counts as refused.

import { asRefusal, OnceguardError, SignatureRefusedError } from "../errors.js";
import type { Transport } from "../transport.js";
import type { ReceivedRequest, Verdict } from "../types.js";
import { read, write } from "../wire.js";

export async function judge(
  transport: Transport,
  request: ReceivedRequest,
  idempotencyKey: string,
): Promise<Verdict> {
  const { method, url, headers, body, profile, sessionId } = request;
  const content = body !== undefined && body.length > 0 ? body : undefined;
  const lines = Array.from(headers, ([name, value]) => [name, value]);
  const received = write({ method, url, headers: lines, body: content, profile, sessionId });
  try {
    const answer = await transport.send({
      method: "POST",
      path: "/v1/verify",
      body: received,
      headers: { "Idempotency-Key": idempotencyKey },
      repeatable: true,
    });
    return read<Verdict>(answer.body, "did", "keyid", "nonce", "covered", "created", "expires");
  } catch (error) {
    if (!(error instanceof OnceguardError) || error instanceof SignatureRefusedError) throw error;
    // 403 is about the judged request, unless its code says that it is about our token.
    const about = error.status === 403 && error.code !== undefined && error.code !== "forbidden";
    throw about ? asRefusal(error) : error;
  }
}
