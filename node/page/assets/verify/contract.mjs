/** What a contract on a chain took down: docs/spec/contract.md, clauses K1, K3, K7 and K8; receipt.md R3. */
"use strict";

import { Fault, build, bytesOf, decode, domainOf, hex, joined, keccak, recover, require, same, structHash, word } from "./wire.mjs";

const WORD = 32, MARK = 16, DISCHARGE = 9 + 64, DEPTH = 8, HIGH_BIT = 1n << 255n, AMOUNT = (1n << 64n) - 1n;
const numberOf = (bytes) => bytes.reduce((sum, each) => (sum << 8n) | BigInt(each), 0n);
const least = (one, other) => (one < other ? one : other), most = (one, other) => (one > other ? one : other);

/** K1: a contract by its name, ``evm:CHAIN_ID:ADDRESS``. */
export function parseContract(text) {
  const found = /^evm:(0|[1-9][0-9]{0,17}):(?:0x)?([0-9a-fA-F]{40})$/.exec(text);
  require(found !== null, "the verifier key names no settlement contract");
  const [, chain, digits] = found, address = Uint8Array.from(digits.match(/../g), (each) => parseInt(each, 16));
  const isPlain = digits === digits.toLowerCase() || digits === digits.toUpperCase();
  require(isPlain || checksummed(digits.toLowerCase()) === digits, "the contract's address has a wrong checksum");
  return { chainId: BigInt(chain), address, domain: domainOf(BigInt(chain), address) };
}

function checksummed(digits) {
  const hashed = hex(keccak(bytesOf(digits)));
  return [...digits].map((each, at) => (parseInt(hashed[at], 16) >= 8 ? each.toUpperCase() : each)).join("");
}

// RLP: leaves are bytes, and there is one spelling

function prefix(length, base) {
  if (length < 56) return Uint8Array.of(base + length);
  const size = [];
  for (let rest = length; rest; rest >>>= 8) size.unshift(rest & 255);
  return Uint8Array.of(base + 55 + size.length, ...size);
}

function rlp(item) {
  if (item instanceof Uint8Array) return item.length === 1 && item[0] < 0x80 ? item : joined(prefix(item.length, 0x80), item);
  const inner = joined(...item.map(rlp));
  return joined(prefix(inner.length, 0xc0), inner);
}

const rlpNumber = (number) => {
  const bytes = word(number), first = bytes.findIndex((each) => each !== 0);
  return rlp(first < 0 ? new Uint8Array() : bytes.subarray(first));
};

function readRlp(data) {
  const [item, end] = readItem(data, 0, DEPTH);
  require(end === data.length && same(rlp(item), data), "bytes that are no RLP, or not in its one spelling");
  return item;
}

function readItem(data, at, depth) {
  require(at < data.length && depth > 0, "RLP that ends too soon, or is too deep");
  const first = data[at];
  if (first < 0x80) return [data.subarray(at, at + 1), at + 1];
  const base = first >= 0xc0 ? 0xc0 : 0x80;
  let start = at + 1, length = first - base;
  if (length > 55) {
    start += length - 55;
    require(length - 55 <= 4 && start <= data.length, "RLP that ends too soon");
    length = Number(numberOf(data.subarray(at + 1, start)));
  }
  const end = start + length, items = [];
  require(end <= data.length, "RLP that ends too soon");
  if (base === 0x80) return [data.subarray(start, end), end];
  while (start < end) {
    const [item, next] = readItem(data, start, depth - 1);
    items.push(item);
    start = next;
  }
  require(start === end, "RLP with an item that is longer than its list");
  return [items, end];
}

function leafNumber(item, bits = 256) {
  require(item instanceof Uint8Array && item[0] !== 0 && item.length * 8 <= bits, "RLP with something else than a number");
  return numberOf(item);
}

// The contract's ABI, as far as calls about sessions need it

const plain = (name) => ({ name, width: WORD, dynamic: false });
const bytes = { name: "bytes", width: WORD, dynamic: true };
const array = (inner) => ({ name: `${inner.name}[]`, width: WORD, dynamic: true, inner });
function tuple(...parts) {
  const dynamic = parts.some((each) => each.dynamic), width = dynamic ? WORD : parts.reduce((sum, each) => sum + each.width, 0);
  return { name: `(${parts.map((each) => each.name).join(",")})`, width, dynamic, parts };
}

const [ADDRESS, U40, U64, U224, B32] = ["address", "uint40", "uint64", "uint224", "bytes32"].map(plain);
const SESSION = tuple(ADDRESS, U40, B32, B32, array(U224));
const CALLS = {
  open: [SESSION],
  openFor: [SESSION, tuple(B32, B32)],
  settle: [array(tuple(SESSION, bytes, array(U64), U64, U64, B32, B32, B32))],
  release: [SESSION, bytes],
  close: [SESSION, bytes],
};
const SELECTORS = new Map(Object.entries(CALLS).map(([name, types]) => [hex(selectorOf(name, types)), name]));

function selectorOf(name, types) {
  return keccak(bytesOf(`${name}(${types.map((each) => each.name).join(",")})`)).subarray(0, 4);
}

/** Bytes that values are read from, and how many values there may still be: each takes a word or two. */
class Data {
  constructor(data) {
    this.data = data;
    this.left = 2 * Math.floor(data.length / WORD) + 1;
  }

  take(at, length) {
    this.left -= 1;
    require(at + length <= this.data.length && this.left >= 0, "a call that ends too soon");
    return this.data.subarray(at, at + length);
  }

  /** A number that counts or points: beyond what it could is no call. */
  place(at) {
    return Number(least(numberOf(this.take(at, WORD)), BigInt(this.data.length) + 1n));
  }

  count(at) {
    const found = this.place(at);
    require(found <= this.left, "an array that is longer than what holds it");
    return found;
  }
}

function readAll(types, data, start) {
  let at = start;
  return types.map((each) => {
    const value = readOne(each, data, each.dynamic ? start + data.place(at) : at);
    at += each.width;
    return value;
  });
}

function readOne(type, data, at) {
  if (type.inner) return readAll(Array(data.count(at)).fill(type.inner), data, at + WORD);
  if (type.parts) return readAll(type.parts, data, at);
  if (type.dynamic) return data.take(at + WORD, data.place(at));
  const found = data.take(at, WORD);
  return type === ADDRESS ? found.subarray(12) : type === B32 ? found : numberOf(found);
}

function encodeOne(type, value) {
  if (type.inner) return joined(word(value.length), encodeAll(value.map(() => type.inner), value));
  if (type.parts) return encodeAll(type.parts, value);
  if (type.dynamic) return joined(word(value.length), value, new Uint8Array((WORD - (value.length % WORD)) % WORD));
  return typeof value === "bigint" ? word(value) : joined(new Uint8Array(WORD - value.length), value);
}

function encodeAll(types, values) {
  const heads = [], tails = [];
  let at = types.reduce((sum, each) => sum + each.width, 0);
  types.forEach((each, number) => {
    const encoded = encodeOne(each, values[number]);
    heads.push(each.dynamic ? word(at) : encoded);
    if (!each.dynamic) return;
    tails.push(encoded);
    at += encoded.length;
  });
  return joined(...heads, ...tails);
}

// K7: a signed transaction, and what it asks for

const TYPE = Uint8Array.of(2), FIELDS = 12;

function readTransaction(signed) {
  require(signed[0] === TYPE[0], "no transaction of type 2");
  const items = readRlp(signed.subarray(1));
  require(Array.isArray(items) && items.length === FIELDS, "no transaction of type 2");
  const [chainId, nonce, tip, maxFee, gas, to, value, data, accesses, parity, r, s] = items;
  const isCall = to instanceof Uint8Array && to.length === 20 && data instanceof Uint8Array;
  require(isCall && value instanceof Uint8Array && !value.length && Array.isArray(accesses) && !accesses.length, "a transaction that does more than call a contract");
  for (const each of [tip, maxFee]) leafNumber(each);
  leafNumber(gas, 64);
  const y = leafNumber(parity, 8), low = leafNumber(s);
  require(y <= 1n && low < HIGH_BIT, "a transaction with a signature that no chain takes");
  const digest = keccak(joined(TYPE, rlp(items.slice(0, 9)))), signature = joined(word(leafNumber(r)), word((y << 255n) | low));
  return { chainId: leafNumber(chainId, 64), nonce: leafNumber(nonce, 64), to, data, sender: recover(digest, signature) };
}

function readCall(data, actor, nonce) {
  const name = SELECTORS.get(hex(data.subarray(0, 4)));
  require(name !== undefined, "a transaction that calls nothing about sessions");
  const values = readAll(CALLS[name], new Data(data.subarray(4)), 0);
  require(same(joined(data.subarray(0, 4), encodeAll(CALLS[name], values)), data), "a call that is not in its one spelling");
  return READERS[name](actor, nonce, ...values);
}

/** K3: each leg is a word, of its provider and its cap. */
function readSession([client, expiry, terms, salt, legs]) {
  const leg = (said) => {
    require(said < 1n << 224n, "a leg with more than a provider and a cap");
    return [word(said >> 64n).subarray(12), said & AMOUNT];
  };
  return [client, expiry, terms, salt, legs.map(leg)];
}

/** K3: what each leg was paid, and its ceiling. */
function readMarks(said, marks) {
  const session = build(readSession(said), "Session");
  require(marks.length === MARK * session.legs.length, "marks of another number of legs than the session has");
  const at = (place) => numberOf(marks.subarray(place, place + MARK / 2));
  const settled = session.legs.map((_, leg) => at(leg * MARK)), ceilings = session.legs.map((_, leg) => at(leg * MARK + MARK / 2));
  require(settled.every((each, leg) => each <= ceilings[leg]), "marks that no session has");
  return { session: structHash(session), settled, ceilings };
}

const READERS = {
  open: (actor, nonce, said) => opened(actor, nonce, said, new Uint8Array()),
  openFor: (actor, nonce, said, halves) => opened(actor, nonce, said, joined(...halves)),
  settle(actor, nonce, claims) {
    const effects = new Map(), vouchers = claims.map(([said, marks, amounts, tokensIn, tokensOut, receipts, r, vs]) => {
      const before = readMarks(said, marks);
      require(amounts.length === before.settled.length, "a claim for another number of legs");
      const settled = amounts.map((each, leg) => most(before.settled[leg], least(before.ceilings[leg], each)));
      effects.set(hex(before.session), { ...before, settled });
      return [[before.session, amounts, tokensIn, tokensOut, receipts], joined(r, vs)];
    });
    return { action: build([actor, nonce, vouchers], "Settle"), effects: [...effects.values()] };
  },
  release(actor, nonce, said, marksAndWords) {
    const width = MARK * said[4].length, words = marksAndWords.subarray(width);
    const before = readMarks(said, marksAndWords.subarray(0, width)), ceilings = [...before.ceilings], discharges = [];
    require(words.length % DISCHARGE === 0, "discharges that have not all their bytes");
    for (let at = 0; at < words.length; at += DISCHARGE) {
      const leg = words[at], amount = numberOf(words.subarray(at + 1, at + 9));
      require(leg < ceilings.length, "a discharge of a leg that the session does not have");
      ceilings[leg] = least(ceilings[leg], most(before.settled[leg], amount));
      discharges.push([[before.session, BigInt(leg), amount], words.slice(at + 9, at + DISCHARGE)]);
    }
    return { action: build([actor, nonce, discharges], "Release"), effects: [{ ...before, ceilings }] };
  },
  close(actor, nonce, said, marks) {
    const before = readMarks(said, marks);
    return { action: build([actor, nonce, before.session], "Close"), effects: [{ ...before, ceilings: before.settled }] };
  },
};

function opened(actor, nonce, said, signature) {
  const action = build([actor, nonce, readSession(said), signature], "Open"), { session } = action;
  const effect = { session: structHash(session), settled: session.legs.map(() => 0n), ceilings: session.legs.map((each) => each.cap) };
  return { action, effects: [effect] };
}

// K8: that a block holds it, and has not refused it

const LEAST_FIELDS = 15, RECEIPT_FIELDS = 4;

function checkIncluded(proof) {
  const shown = proof.inclusion, header = readRlp(shown.header);
  require(same(keccak(shown.header), proof.block_hash), "the header is not that of the block that is said to hold the transaction");
  require(Array.isArray(header) && header.length >= LEAST_FIELDS, "a block's header with too few fields");
  const said = [leafNumber(header[8], 64), leafNumber(header[11], 64)];
  require(said[0] === BigInt(proof.block) && said[1] === BigInt(proof.time), "the block has another number or time than is said");
  const held = trieValue(header[4], shown.number, shown.transactions);
  require(same(held, proof.transaction), "the block holds another transaction at this place");
  const receipt = trieValue(header[5], shown.number, shown.receipts);
  require(receipt[0] === TYPE[0], "a transaction's receipt in another form");
  const fields = readRlp(receipt.subarray(1));
  require(Array.isArray(fields) && fields.length === RECEIPT_FIELDS, "a transaction's receipt in another form");
  require(fields[0] instanceof Uint8Array && same(fields[0], Uint8Array.of(1)), "the chain has refused the transaction");
}

const digitsOf = (data) => Array.from(data).flatMap((each) => [each >> 4, each & 15]);

function trieValue(root, number, proof) {
  require(root instanceof Uint8Array && root.length === WORD, "a block's header without the root of a trie");
  let used = 0;
  const named = (name) => {
    const node = proof[used++];
    require(node !== undefined && same(keccak(node), name), "a trie's proof that does not begin at the root, or breaks off");
    return readRlp(node);
  };
  const found = walk(named, named(root), digitsOf(rlpNumber(number)));
  require(used === proof.length, "a trie's proof with nodes that lead nowhere");
  require(found instanceof Uint8Array && found.length > 0, "a trie that has nothing at this number");
  return found;
}

function walk(named, node, path) {
  require(Array.isArray(node) && [2, 17].includes(node.length), "a trie with a node that is none");
  let below;
  if (node.length === 17) {
    if (!path.length) return node[16];
    [below, path] = [node[path[0]], path.slice(1)];
  } else {
    const [part, isLeaf] = shortPath(node[0]);
    const leads = part.every((each, at) => each === path[at]) && (!isLeaf || part.length === path.length);
    require(leads, "a trie that has nothing at this number");
    if (isLeaf) return node[1];
    [below, path] = [node[1], path.slice(part.length)];
  }
  if (Array.isArray(below)) return walk(named, below, path); // less than 32 bytes stand in the node above
  require(below.length === WORD, "a trie that has nothing at this number");
  return walk(named, named(below), path);
}

/** The digits of a short node, and whether it is the last one. */
function shortPath(said) {
  const digits = said instanceof Uint8Array ? digitsOf(said) : [], isOdd = digits[0] & 1;
  require(digits.length > 0 && digits[0] <= 3 && (isOdd || digits[1] === 0), "a trie with a path that is none");
  return [digits.slice(isOdd ? 1 : 2), (digits[0] & 2) !== 0];
}

/** The call that a transaction makes of this contract, and what it leaves of each session in it. */
export function checkChainProof(piece, contract) {
  const proof = decode(piece, "ChainProof"), said = readTransaction(proof.transaction);
  require(said.chainId === contract.chainId && same(said.to, contract.address), "the transaction is for another chain, or another contract");
  const call = readCall(said.data, said.sender, said.nonce);
  if (proof.inclusion !== null) checkIncluded(proof);
  return { ...call, proof, time: proof.time };
}

/** R3, of a contract: what its transactions stand for. */
export function readChain(pieces, contract, session) {
  const id = structHash(session), hashes = new Map(), found = pieces.map((piece) => checkChainProof(piece, contract));
  for (const { proof } of found) {
    const number = String(proof.block), said = hashes.get(number) ?? proof.block_hash;
    require(same(said, proof.block_hash), `two blocks are said to be number ${number}`);
    hashes.set(number, said);
  }
  found.slice(1).forEach(({ proof: after }, at) => {
    const { proof: before } = found[at];
    require(before.block <= after.block && before.time <= after.time, "the transactions are out of order");
  });
  for (const each of found) {
    each.effect = each.effects.find((effect) => same(effect.session, id));
    if (!each.effect) throw new Fault("a transaction is about another session");
  }
  const transactions = found.map(({ proof }) => ({
    hash: hex(keccak(proof.transaction)), block: String(proof.block), block_hash: hex(proof.block_hash), included: proof.inclusion !== null,
  }));
  return { entries: found, newest: null, transactions };
}
