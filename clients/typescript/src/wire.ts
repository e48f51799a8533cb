// The API's JSON, whose names are in snake_case, and this library's objects, whose names are in
// camelCase. What an answer has beside the fields that are known stays there, unread.

import { isObject, UnexpectedAnswerError } from "./errors.js";

/** What its owner wrote, and nothing renames. */
const VERBATIM = new Set(["metadata", "kinds", "data"]);

function camelCase(name: string): string {
  return name.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase());
}

function snakeCase(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

function camel(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(camel);
  if (!isObject(value)) return value;
  return Object.fromEntries(
    Object.entries(value).map(([name, member]) => [
      camelCase(name),
      VERBATIM.has(name) ? member : camel(member),
    ]),
  );
}

/** The fields of a request that the caller gave, bytes in base64. */
export function write(fields: object): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(fields)
      .filter(([, value]) => value !== undefined)
      .map(([name, value]) => [
        snakeCase(name),
        value instanceof Uint8Array ? toBase64(value) : value,
      ]),
  );
}

/** An answer, or a part of one, which must have these members. */
export function read<T>(value: unknown, ...required: (keyof T & string)[]): T {
  const object = camel(value);
  if (!isObject(object)) throw new UnexpectedAnswerError("The answer is not a JSON object.");
  for (const name of required) {
    if (object[name] === undefined || object[name] === null) {
      throw new UnexpectedAnswerError(`The answer cannot be read: ${name} is missing.`);
    }
  }
  return object as T;
}

/** A member of an answer that is a list. */
export function list(value: unknown, name: string): unknown[] {
  const items = isObject(value) ? value[name] : undefined;
  if (!Array.isArray(items)) throw new UnexpectedAnswerError(`The answer has no list ${name}.`);
  return items;
}

export function toBase64(bytes: Uint8Array): string {
  let binary = "";
  for (const byte of bytes) binary += String.fromCharCode(byte);
  return btoa(binary);
}

export function fromBase64(text: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
}

export function toBase64Url(bytes: Uint8Array): string {
  return toBase64(bytes).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
}
