/** Bytes to messages and signatures to names: docs/spec/wire.md, clauses W1 to W9 and W13. */
"use strict";

import { keccak_256 } from "../vendor/noble-hashes-sha3.mjs";
import { sha256, sha512 } from "../vendor/noble-hashes-sha2.mjs";
import * as ed25519 from "../vendor/noble-ed25519.mjs";
import { Point, Signature } from "../vendor/noble-secp256k1.mjs";
import { MESSAGES, REFUSED } from "./messages.mjs";

ed25519.etc.sha512Sync = (...parts) => sha512(ed25519.etc.concatBytes(...parts));

export { keccak_256 as keccak, sha256 };

const MOST_BYTES = 64 * 1024, EXACT = 1n << 53n;
const PLAIN = new RegExp("[" + REFUSED.map(([low, high]) => `\\u{${low.toString(16)}}-\\u{${high.toString(16)}}`).join("") + "]", "u");
const utf8 = new TextEncoder(), strict = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** What does not hold, and by which clause. */
export class Fault extends Error {
  constructor(message, clause = "") {
    super(message);
    this.clause = clause;
  }
}

/** Throws a Fault unless it holds. */
export function require(holds, otherwise) {
  if (!holds) throw new Fault(otherwise);
}

export const bytesOf = (text) => utf8.encode(text);
export const textOf = (bytes) => { try { return strict.decode(bytes); } catch { throw new Fault("text that is not UTF-8"); } };
export const hex = (bytes) => Array.from(bytes, (each) => each.toString(16).padStart(2, "0")).join("");
export const same = (one, other) => one.length === other.length && one.every((each, at) => each === other[at]);
export const isPlain = (text) => !PLAIN.test(text);
export const isZero = (bytes) => bytes.every((each) => each === 0);
export const ceilDiv = (one, other) => (one + other - 1n) / other;

export function joined(...parts) {
  const all = new Uint8Array(parts.reduce((sum, each) => sum + each.length, 0));
  let at = 0;
  for (const each of parts) {
    all.set(each, at);
    at += each.length;
  }
  return all;
}

/** Standard base64 in its one spelling. */
export function fromBase64(text) {
  require(typeof text === "string" && /^[A-Za-z0-9+/]*={0,2}$/.test(text) && text.length % 4 === 0, "a value that is not base64");
  const found = Uint8Array.from(atob(text), (each) => each.charCodeAt(0));
  require(toBase64(found) === text, "base64 that is not in its one spelling");
  return found;
}

export function toBase64(bytes) {
  let text = "";
  for (const each of bytes) text += String.fromCharCode(each);
  return btoa(text);
}

// W1 to W4: one MessagePack value in its shortest form

class Reader {
  constructor(bytes) {
    this.bytes = bytes;
    this.at = 0;
  }

  take(count) {
    require(count <= this.bytes.length - this.at, "a message that ends too soon");
    this.at += count;
    return this.bytes.subarray(this.at - count, this.at);
  }

  /** A number of so many bytes; `least` is the smallest that needs them. */
  number(size, least) {
    const found = this.take(size).reduce((sum, each) => (sum << 8n) | BigInt(each), 0n);
    require(found >= least, "a message that is not in its shortest form");
    return found;
  }

  value(depth) {
    require(depth < 32, "a message that is nested too deep");
    const first = this.take(1)[0];
    if (first < 0x80) return BigInt(first);
    if (first >= 0x90 && first < 0xa0) return this.list(first & 15, depth);
    if (first >= 0xa0 && first < 0xc0) return textOf(this.take(first & 31));
    switch (first) {
      case 0xc0: return null;
      case 0xc2: return false;
      case 0xc3: return true;
      case 0xc4: return this.take(Number(this.number(1, 0n)));
      case 0xc5: return this.take(Number(this.number(2, 256n)));
      case 0xc6: return this.take(Number(this.number(4, 65536n)));
      case 0xcc: return this.number(1, 128n);
      case 0xcd: return this.number(2, 256n);
      case 0xce: return this.number(4, 65536n);
      case 0xcf: return this.number(8, 1n << 32n);
      case 0xd9: return textOf(this.take(Number(this.number(1, 32n))));
      case 0xda: return textOf(this.take(Number(this.number(2, 256n))));
      case 0xdb: return textOf(this.take(Number(this.number(4, 65536n))));
      case 0xdc: return this.list(Number(this.number(2, 16n)), depth);
      default: throw new Fault("a message with something that no message has");
    }
  }

  list(count, depth) {
    require(count <= this.bytes.length - this.at, "a message that ends too soon");
    return Array.from({ length: count }, () => this.value(depth + 1));
  }
}

const CHECKS = {
  uint(raw, [, , limit], where) {
    require(typeof raw === "bigint" && raw < BigInt(limit), `${where} is no number that it may be`);
    return BigInt(limit) <= EXACT ? Number(raw) : raw;
  },
  bytes(raw, [, low, high], where) {
    require(raw instanceof Uint8Array && low <= raw.length && raw.length <= high, `${where} has another number of bytes`);
    return raw;
  },
  text(raw, [, high], where) {
    require(typeof raw === "string" && bytesOf(raw).length <= high && isPlain(raw), `${where} is no text that it may be`);
    return raw;
  },
  bool(raw, _layout, where) {
    require(typeof raw === "boolean", `${where} is neither true nor false`);
    return raw;
  },
  enum(raw, layout, where) {
    require(typeof raw === "string" && layout.indexOf(raw, 1) > 0, `${where} is none of its values`);
    return raw;
  },
  maybe(raw, [, inner], where) {
    return raw === null ? null : built(raw, inner, where);
  },
  list(raw, [, inner, low, high], where) {
    require(Array.isArray(raw) && low <= raw.length && raw.length <= high, `${where} has another number of items`);
    return raw.map((each) => built(each, inner, where));
  },
  message(raw, [, name]) {
    return build(raw, name);
  },
};

function built(raw, layout, where) {
  return CHECKS[layout[0]](raw, layout, where);
}

/** A message of its fields in order, as they stand in its bytes, held to their bounds. */
export function build(raw, name) {
  const { fields } = MESSAGES[name];
  require(Array.isArray(raw) && raw.length === fields.length, `${name} has other fields`);
  const made = { is: name };
  fields.forEach(([field, layout], at) => { made[field] = built(raw[at], layout, `${name}.${field}`); });
  HOLDS[name]?.(made);
  return made;
}

/** What messages say of their fields together; `agreement.mjs` adds those of policies and places. */
export const HOLDS = {
  BlockSpan: (it) => require(it.start < it.end, "a span without blocks"),
  ModelFile: (it) => require(!["", ".", ".."].includes(it.name) && !/[/\\]/.test(it.name), "a file with a folder in its name"),
  ModelManifest: (it) => require(it.files.every((each, at) => !at || before(it.files[at - 1].name, each.name)), "files out of order"),
};

/** Order of code points, not of UTF-16. */
function before(one, other) {
  const [left, right] = [[...one], [...other]].map((each) => each.map((letter) => letter.codePointAt(0)));
  for (let at = 0; at < Math.min(left.length, right.length); at++) if (left[at] !== right[at]) return left[at] < right[at];
  return left.length < right.length;
}

/** The one message of one of these classes that the bytes are. */
export function decode(bytes, ...names) {
  require(bytes.length <= MOST_BYTES, "a message that is too long");
  const reader = new Reader(bytes), raw = reader.value(0);
  require(reader.at === bytes.length, "a message with something after it");
  require(Array.isArray(raw) && typeof raw[0] === "string", "not a message");
  const name = names.find((each) => MESSAGES[each].kind === raw[0]);
  require(name !== undefined, `a message of another kind: ${raw[0].slice(0, 40)}`);
  return build(raw.slice(1), name);
}

// W6 to W8: signatures

const signers = new Map(), MOST_SIGNERS = 20_000;

/** The address that signed a digest; what was found is remembered, for a receipt shows some signatures twice. */
export function recover(digest, signature) {
  const name = hex(digest) + hex(signature);
  if (!signers.has(name)) {
    if (signers.size >= MOST_SIGNERS) signers.clear();
    signers.set(name, recovered(digest, signature));
  }
  return signers.get(name);
}

function recovered(digest, signature) {
  const s = signature.slice(32), parity = s[0] >> 7;
  s[0] &= 0x7f;
  try {
    return addressOf(Signature.fromBytes(joined(signature.subarray(0, 32), s)).addRecoveryBit(parity).recoverPublicKey(digest));
  } catch {
    throw new Fault("not a valid signature");
  }
}

const addressOf = (point) => keccak_256(point.toBytes(false).subarray(1)).subarray(12);
const addresses = new Map();

/** The address of a compressed public key; it is asked for often. */
export function addressOfKey(key) {
  const name = hex(key);
  if (!addresses.has(name)) {
    let point;
    try {
      point = Point.fromBytes(key);
    } catch {
      throw new Fault("not a public key");
    }
    addresses.set(name, addressOf(point));
  }
  return addresses.get(name);
}

const ENVELOPE = bytesOf("\x19joulemesh envelope\n");

/** The message in an envelope, and who sealed it. */
export function openEnvelope(sealed, name) {
  const envelope = decode(sealed, "Envelope");
  const signer = recover(keccak_256(joined(ENVELOPE, envelope.body)), envelope.signature);
  return [decode(envelope.body, name), signer];
}

/** A number as 32 bytes. */
export const word = (number) => {
  const found = new Uint8Array(32);
  for (let at = 31, rest = BigInt(number); rest; at--, rest >>= 8n) found[at] = Number(rest & 255n);
  return found;
};
const padded = (bytes) => joined(new Uint8Array(32 - bytes.length), bytes);

function encodedField(layout, value) {
  switch (layout[0]) {
    case "uint": return word(value);
    case "bool": return word(value ? 1 : 0);
    case "bytes": return layout[1] === layout[2] && [20, 32].includes(layout[1]) ? padded(value) : keccak_256(value);
    case "text": case "enum": return keccak_256(bytesOf(value));
    case "message": return structHash(value);
    case "list": return keccak_256(joined(...value.map((each) => encodedField(layout[1], each))));
    default: throw new Error("what may be nil is no typed data");
  }
}

/** EIP-712 hashStruct. */
export function structHash(value) {
  const { typed, fields } = MESSAGES[value.is];
  return keccak_256(joined(keccak_256(bytesOf(typed)), ...fields.map(([name, layout]) => encodedField(layout, value[name]))));
}

/** The domain separator of an embedded ledger: settlement.md, L2. */
export function ledgerDomain(verifierKey) {
  return domainOf(0x6a6f756c65, keccak_256(bytesOf(`tlog:${verifierKey}`)).subarray(12));
}

/** The domain separator of a contract on a chain: contract.md, K1. */
export function domainOf(chainId, contract) {
  return keccak_256(joined(
    keccak_256(bytesOf("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)")),
    keccak_256(bytesOf("joulemesh")), keccak_256(bytesOf("2")), word(chainId), padded(contract)));
}

/** Who signed typed data for a venue. */
export function recoverTyped(separator, value, signature) {
  return recover(keccak_256(joined(Uint8Array.of(0x19, 1), separator, structHash(value))), signature);
}

/** Throws a Fault unless an Ed25519 key signed the bytes. */
export function checkEd25519(key, bytes, signature, whose) {
  let holds = false;
  try {
    holds = ed25519.verify(signature, bytes, key, { zip215: false });
  } catch {
    // a signature of another form is one that does not hold
  }
  require(holds, `the signature of ${whose} does not verify`);
}

// W9: peer ids

const BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";

/** The libp2p peer id of a public key. */
export function peerId(key) {
  let number = BigInt(`0x${hex(joined(Uint8Array.of(0, 0x25, 8, 2, 0x12, 0x21), key))}`), text = "";
  for (; number; number /= 58n) text = BASE58[Number(number % 58n)] + text;
  return `1${text}`;
}

// W13: JSON that two readers cannot understand differently

const SPACE = /[ \t\n\r]*/y, RUN = /[^"\\\u0000-\u001f]*/y, ESCAPE = /\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})/y;
const NUMBER = /(?:0|[1-9][0-9]{0,15})(?![0-9.eE])/y, WORD = /true|false|null/y, WORDS = { true: true, false: false, null: null };
const NOT_JSON = "this is not JSON, or not whole";

class JsonReader {
  constructor(text) {
    this.text = text;
    this.at = 0;
  }

  /** What a sticky pattern finds here. */
  match(pattern) {
    pattern.lastIndex = this.at;
    const found = pattern.exec(this.text);
    require(found !== null, NOT_JSON);
    this.at = pattern.lastIndex;
    return found[0];
  }

  /** The next sign, which is passed over where it is one of these. */
  sign(wanted = "") {
    this.match(SPACE);
    const found = this.text[this.at] ?? "";
    if (found && wanted.includes(found)) this.at++;
    return found;
  }

  value(left) {
    const sign = this.sign("[{");
    if (sign === '"') return this.string();
    if (sign >= "0" && sign <= "9") {
      const number = Number(this.match(NUMBER));
      require(number <= Number.MAX_SAFE_INTEGER, "a number that is not exact");
      return number;
    }
    if (sign !== "[" && sign !== "{") return WORDS[this.match(WORD)];
    require(left > 0, "JSON that is nested too deep");
    return sign === "[" ? this.list(left - 1) : this.object(left - 1);
  }

  string() {
    require(this.sign('"') === '"', NOT_JSON);
    let found = "";
    for (;;) {
      found += this.match(RUN);
      if (this.text[this.at] === '"') break;
      found += JSON.parse(`"${this.match(ESCAPE)}"`);
    }
    this.at++;
    require(!/[\ud800-\udfff]/u.test(found), "half of a surrogate pair");
    return found;
  }

  /** Whether another item comes before the end. */
  more(end) {
    const sign = this.sign(`,${end}`);
    require(sign === "," || sign === end, NOT_JSON);
    return sign === ",";
  }

  list(left) {
    const items = [];
    if (this.sign("]") === "]") return items;
    do items.push(this.value(left)); while (this.more("]"));
    return items;
  }

  object(left) {
    const made = Object.create(null);
    if (this.sign("}") === "}") return made;
    do {
      const key = this.string();
      require(!(key in made), "a JSON object with one key twice");
      require(this.sign(":") === ":", NOT_JSON);
      made[key] = this.value(left);
    } while (this.more("}"));
    return made;
  }
}

/** The object that JSON spells: no key twice, whole numbers that are exact, at most so deep. */
export function parseJson(bytes, { limit, depth }) {
  require(bytes.length <= limit, "a file that is too long");
  const reader = new JsonReader(textOf(bytes)), found = reader.value(depth);
  require(reader.sign() === "", "a file with something after it");
  require(found !== null && typeof found === "object" && !Array.isArray(found), "not a JSON object");
  return found;
}

/** An object with these keys and no others. */
export function exactKeys(value, ...names) {
  const isObject = value !== null && typeof value === "object" && !Array.isArray(value);
  require(isObject && names.length === Object.keys(value).length && names.every((each) => each in value), "an object with other keys");
  return value;
}
