// Whether `Signature-Input` and `Signature` can be read at all: structured fields (RFC 8941) as
// RFC 9421 has them. This only finds what is malformed for certain; onceguard judges the rest.

const LABEL = "([a-z*][a-z0-9_.*-]*)=";
const STRING = String.raw`"(?:[ !#-\[\]-~]|\\["\\])*"`;
const BYTES = ":[A-Za-z0-9+/=]*:";
const TOKEN = "[A-Za-z*][!#$%&'*+.^_`|~:/0-9A-Za-z-]*";
const VALUE = String.raw`(?:${STRING}|${BYTES}|\?[01]|-?[0-9]+(?:\.[0-9]+)?|${TOKEN})`;
const PARAMETERS = `(?:; *[a-z*][a-z0-9_.*-]*(?:=${VALUE})?)*`;
const COMPONENT = STRING + PARAMETERS;
const INPUT = String.raw`${LABEL}\( *(?:${COMPONENT}(?: +${COMPONENT})*)? *\)${PARAMETERS}`;
const SIGNATURE = LABEL + BYTES + PARAMETERS;
/** onceguard reads no longer field. */
const MOST = 8192;

/** Whether no request with these lines can pass. Both fields have the same labels, each once. */
export function areMalformed(inputs: readonly string[], signatures: readonly string[]): boolean {
  const [stated, signed] = [labels(inputs, INPUT), labels(signatures, SIGNATURE)];
  if (stated === undefined || signed === undefined) return true;
  return stated.sort().join() !== signed.sort().join();
}

/** The labels of a dictionary of such members; undefined if it is none, or has one twice. */
function labels(lines: readonly string[], member: string): string[] | undefined {
  const trimmed = lines.map((line) => line.replace(/^[ \t]+|[ \t]+$/g, ""));
  const text = trimmed.filter((line) => line !== "").join(", ");
  if (text === "") return [];
  if (text.length > MOST) return undefined;
  const [one, comma] = [new RegExp(member, "y"), /[ \t]*,[ \t]*/y];
  const found: string[] = [];
  for (;;) {
    const label = one.exec(text)?.[1];
    if (label === undefined || found.includes(label)) return undefined;
    found.push(label);
    if (one.lastIndex === text.length) return found;
    comma.lastIndex = one.lastIndex;
    if (!comma.test(text)) return undefined;
    one.lastIndex = comma.lastIndex;
  }
}
