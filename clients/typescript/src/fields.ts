// `Signature-Input`, `Signature` and `Accept-Signature` as structured fields (RFC 8941), in the form
// that RFC 9421 gives them. What is malformed here is so for certain; onceguard judges the rest.

const LABEL = "([a-z*][a-z0-9_.*-]*)=";
const STRING = String.raw`"(?:[ !#-\[\]-~]|\\["\\])*"`;
const BYTES = ":[A-Za-z0-9+/=]*:";
const TOKEN = "[A-Za-z*][!#$%&'*+.^_`|~:/0-9A-Za-z-]*";
const VALUE = String.raw`(?:${STRING}|${BYTES}|\?[01]|-?[0-9]+(?:\.[0-9]+)?|${TOKEN})`;
const NAME = "[a-z*][a-z0-9_.*-]*";
const PARAMETERS = `(?:; *${NAME}(?:=${VALUE})?)*`;
const COMPONENT = STRING + PARAMETERS;
const INPUT = String.raw`${LABEL}\(( *(?:${COMPONENT}(?: +${COMPONENT})*)? *)\)(${PARAMETERS})`;
const SIGNATURE = LABEL + BYTES + PARAMETERS;
/** onceguard reads no longer field. */
const MOST = 8192;

/** Whether no request with these lines can pass. Both fields have the same labels, each once. */
export function areMalformed(inputs: readonly string[], signatures: readonly string[]): boolean {
  const [stated, signed] = [labels(inputs, INPUT), labels(signatures, SIGNATURE)];
  if (stated === undefined || signed === undefined) return true;
  return stated.sort().join() !== signed.sort().join();
}

/** A string, `true` where no value is written, or null for a value of another kind. */
type Value = string | true | null;

/** A signature that is asked for. */
export interface Asked {
  readonly label: string;
  /** What it must cover, as it is written. */
  readonly identifiers: readonly string[];
  readonly parameters: ReadonlyMap<string, Value>;
}

/** What an `Accept-Signature` field asks for; undefined if it is malformed. */
export function readAsked(text: string): Asked[] | undefined {
  return members([text], INPUT)?.map(([, label = "", list = "", parameters = ""]) => ({
    label,
    identifiers: Array.from(list.matchAll(new RegExp(COMPONENT, "g")), ([found]) => found),
    parameters: new Map(
      Array.from(
        parameters.matchAll(new RegExp(`; *(${NAME})(?:=(${VALUE}))?`, "g")),
        ([, name = "", value]) => [name, readValue(value)],
      ),
    ),
  }));
}

/** A string as a structured field (RFC 8941, section 4.1.6). */
export function quoted(text: string): string {
  return `"${text.replace(/["\\]/g, "\\$&")}"`;
}

function readValue(text: string | undefined): Value {
  if (text === undefined || text === "?1") return true;
  return text.startsWith('"') ? text.slice(1, -1).replace(/\\(["\\])/g, "$1") : null;
}

function labels(lines: readonly string[], member: string): string[] | undefined {
  return members(lines, member)?.map(([, label = ""]) => label);
}

/** The members of a dictionary of such members; undefined if it is none, or has a label twice. */
function members(lines: readonly string[], member: string): RegExpExecArray[] | undefined {
  const trimmed = lines.map((line) => line.replace(/^[ \t]+|[ \t]+$/g, ""));
  const text = trimmed.filter((line) => line !== "").join(", ");
  if (text === "") return [];
  if (text.length > MOST) return undefined;
  const [one, comma] = [new RegExp(member, "y"), /[ \t]*,[ \t]*/y];
  const found: RegExpExecArray[] = [];
  for (;;) {
    const each = one.exec(text);
    if (each === null || found.some(([, label]) => label === each[1])) return undefined;
    found.push(each);
    if (one.lastIndex === text.length) return found;
    comma.lastIndex = one.lastIndex;
    if (!comma.test(text)) return undefined;
    one.lastIndex = comma.lastIndex;
  }
}
