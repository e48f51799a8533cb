// What the middleware finds malformed, the service does, too.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { areMalformed } from "../src/fields.js";
import { SignatureRefusedError } from "../src/index.js";
import { client, thrown } from "./support.js";

test("what is malformed is so for the service, too", async () => {
  type Vectors = Record<"readable" | "malformed", [string[], string[]][]>;
  const file = new URL("../../../vectors/malformed.json", import.meta.url);
  const vectors = JSON.parse(readFileSync(file, "utf8")) as Vectors;
  for (const kind of ["readable", "malformed"] as const) {
    for (const [inputs, signatures] of vectors[kind]) {
      const headers = [
        ...inputs.map((line): [string, string] => ["Signature-Input", line]),
        ...signatures.map((line): [string, string] => ["Signature", line]),
      ];
      assert.equal(areMalformed(inputs, signatures), kind === "malformed", String(headers));
      const judged = client.verify({ method: "GET", url: "https://shop.example/", headers });
      const { code } = await thrown(SignatureRefusedError, judged);
      assert.equal(code === "signature_malformed", kind === "malformed", String(headers));
    }
  }
  assert.ok(areMalformed([`sig1=()${";a".repeat(4096)}`], ["sig1=:AAAA:"]));
});
