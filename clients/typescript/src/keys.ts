// An agent's key, by WebCrypto; secp256k1, which WebCrypto lacks, by the optional peer
// `@noble/curves`. The secret never reaches a text or an error.

import { CannotSignError } from "./errors.js";
import type { Algorithm, KeyType } from "./types.js";
import { fromBase64, toBase64 } from "./wire.js";

type Bytes = Uint8Array<ArrayBuffer>;

interface Secret {
  readonly publicKey: Bytes;
  sign(message: Bytes): Promise<Bytes>;
  toPkcs8(): Promise<Bytes>;
}

interface KeyOptions {
  /**
   * The DID URL of the key in its DID's document, such as `did:web:alice.example#key-1`. Left out,
   * the DID is the did:key of the key.
   */
  readonly keyid?: string;
}

/** Multicodec prefixes (did:key), as varints. */
const PREFIXES = { Ed25519: [0xed, 0x01], Secp256k1: [0xe7, 0x01], P256: [0x80, 0x24] } as const;
const ALGORITHMS = {
  Ed25519: "ed25519",
  Secp256k1: "ES256K",
  P256: "ecdsa-p256-sha256",
} as const satisfies Record<KeyType, Algorithm>;

/** Object identifiers in DER: how PKCS#8 says the type of a key. */
const IDENTIFIERS: readonly (readonly [KeyType, string])[] = [
  ["Ed25519", "06032b6570"],
  ["P256", "06082a8648ce3d030107"],
  ["Secp256k1", "06052b8104000a"],
];

const ED25519 = { name: "Ed25519" };
const P256 = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };

/**
 * A secret key and the DID that it belongs to.
 *
 * ```ts
 * const key = await Key.fromPem(await readFile("agent.key", "utf8")); // by `onceguard key new`
 * key.did; // "did:key:z6Mk…"
 * ```
 */
export class Key {
  readonly keyType: KeyType;
  /** Who signs. */
  readonly did: string;
  /** How a verifier finds the key. */
  readonly keyid: string;
  /** The public key, raw: 32 bytes for Ed25519, 33 (compressed) for the others. */
  readonly publicKey: Uint8Array;
  readonly #secret: Secret;

  private constructor(keyType: KeyType, secret: Secret, { keyid }: KeyOptions) {
    this.keyType = keyType;
    this.#secret = secret;
    this.publicKey = secret.publicKey;
    const multikey = `z${base58([...PREFIXES[keyType], ...secret.publicKey])}`;
    this.keyid = keyid ?? `did:key:${multikey}#${multikey}`;
    this.did = this.keyid.replace(/#.*/, "");
  }

  /** A new random key. */
  static async generate(keyType: KeyType = "Ed25519", options: KeyOptions = {}): Promise<Key> {
    switch (keyType) {
      case "Ed25519": {
        const pair = await crypto.subtle.generateKey(ED25519, true, ["sign", "verify"]);
        return new Key(
          keyType,
          await webCrypto((pair as CryptoKeyPair).privateKey, ED25519),
          options,
        );
      }
      case "P256": {
        const pair = await crypto.subtle.generateKey(P256, true, ["sign", "verify"]);
        return new Key(keyType, await webCrypto(pair.privateKey, P256), options);
      }
      case "Secp256k1": {
        const { secp256k1 } = await noble();
        return new Key(keyType, await ofScalar(secp256k1.utils.randomSecretKey()), options);
      }
      default:
        throw new CannotSignError(
          `${String(keyType)} is no type of key: use one of ${Object.keys(PREFIXES).join(", ")}.`,
        );
    }
  }

  /**
   * A key from PKCS#8 (`-----BEGIN PRIVATE KEY-----`), as `onceguard key new` and OpenSSL write it.
   */
  static async fromPem(pem: string, options: KeyOptions = {}): Promise<Key> {
    const der = pkcs8(pem);
    const hex = toHex(der);
    // The identifier is near the beginning, before the secret.
    const keyType = IDENTIFIERS.find(([, identifier]) =>
      hex.slice(0, 64).includes(identifier),
    )?.[0];
    try {
      switch (keyType) {
        case "Ed25519":
          return new Key(keyType, await imported(der, ED25519), options);
        case "P256":
          return new Key(keyType, await imported(der, P256), options);
        case "Secp256k1":
          return new Key(keyType, await ofScalar(scalarOf(der, hex)), options);
      }
    } catch (error) {
      if (error instanceof CannotSignError) throw error;
      // Its cause may quote the key.
      throw new CannotSignError("The private key is damaged. Make one with `onceguard key new`.");
    }
    throw new CannotSignError(
      `The key is not of a type that signs here: ${Object.keys(PREFIXES).join(", ")}.`,
    );
  }

  /** The secret key as PKCS#8. Keep it where only its owner can read it. */
  async toPem(): Promise<string> {
    const lines = toBase64(await this.#secret.toPkcs8()).match(/.{1,64}/g) ?? [];
    return `-----BEGIN PRIVATE KEY-----\n${lines.join("\n")}\n-----END PRIVATE KEY-----\n`;
  }

  /** The algorithm that the key signs with. */
  get alg(): Algorithm {
    return ALGORITHMS[this.keyType];
  }

  /** The signature of a message: 64 bytes. */
  async sign(message: Uint8Array): Promise<Uint8Array> {
    return this.#secret.sign(new Uint8Array(message));
  }
}

async function imported(der: Bytes, algorithm: typeof ED25519 | typeof P256): Promise<Secret> {
  const key = await crypto.subtle.importKey("pkcs8", der, algorithm, true, ["sign"]);
  return webCrypto(key, algorithm);
}

async function webCrypto(key: CryptoKey, algorithm: typeof ED25519 | typeof P256): Promise<Secret> {
  const { x = "", y } = await crypto.subtle.exportKey("jwk", key);
  const publicKey =
    y === undefined ? fromBase64Url(x) : compressed(fromBase64Url(x), fromBase64Url(y));
  return {
    publicKey,
    sign: async (message) => new Uint8Array(await crypto.subtle.sign(algorithm, key, message)),
    toPkcs8: async () => new Uint8Array(await crypto.subtle.exportKey("pkcs8", key)),
  };
}

async function ofScalar(scalar: Uint8Array): Promise<Secret> {
  const { secp256k1 } = await noble();
  const publicKey = new Uint8Array(secp256k1.getPublicKey(scalar, true));
  return {
    publicKey,
    // Over SHA-256, with low S: the other half of the range would give each message a second one.
    sign: async (message) => new Uint8Array(secp256k1.sign(message, scalar, { lowS: true })),
    toPkcs8: async () => {
      const point = toHex(secp256k1.getPublicKey(scalar, false));
      const algorithm = "301006072a8648ce3d020106052b8104000a";
      const key = `306b0201010420${toHex(scalar)}a144034200${point}`;
      return fromHex(`308184020100${algorithm}046d${key}`);
    },
  };
}

/** The secret number of an EC key in PKCS#8: version 1, and 32 bytes (RFC 5915). */
function scalarOf(der: Bytes, hex: string): Uint8Array {
  const at = hex.indexOf("0201010420");
  if (at < 0 || at % 2 !== 0) throw new Error("no scalar");
  return der.slice(at / 2 + 5, at / 2 + 37);
}

async function noble() {
  try {
    return await import("@noble/curves/secp256k1.js");
  } catch {
    throw new CannotSignError(
      "WebCrypto has no secp256k1. Install the package that has it: npm install @noble/curves",
    );
  }
}

function pkcs8(pem: string): Bytes {
  const body = /^-----BEGIN PRIVATE KEY-----([\sA-Za-z0-9+/=]+)-----END PRIVATE KEY-----$/.exec(
    pem.trim(),
  )?.[1];
  try {
    if (body !== undefined) return fromBase64(body.replace(/\s/g, ""));
  } catch {
    // Not base64.
  }
  throw new CannotSignError(
    "This is no unencrypted private key in PEM (-----BEGIN PRIVATE KEY-----). Make one with " +
      "`onceguard key new`, or convert one with `openssl pkcs8 -topk8 -nocrypt -in FILE`.",
  );
}

function compressed(x: Bytes, y: Bytes): Bytes {
  return new Uint8Array([(y.at(-1) ?? 0) % 2 === 0 ? 2 : 3, ...x]);
}

function fromBase64Url(text: string): Bytes {
  return fromBase64(text.replace(/-/g, "+").replace(/_/g, "/"));
}

function toHex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function fromHex(hex: string): Bytes {
  return Uint8Array.from(hex.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16));
}

/** Of a multicodec key, which does not begin with a zero byte. */
function base58(bytes: number[]): string {
  const alphabet = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
  let text = "";
  for (let number = BigInt(`0x${toHex(Uint8Array.from(bytes))}`); number > 0n; number /= 58n) {
    text = alphabet.charAt(Number(number % 58n)) + text;
  }
  return text;
}
