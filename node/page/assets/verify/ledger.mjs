/** What a ledger took down: notes, inclusion, entries. ledger.md C1 and T2, settlement.md L2, receipt.md R3, R4 and R10. */
"use strict";

import { ACTIONS } from "./messages.mjs";
import { JOB_SLACK, SKEW_S, checkSpent } from "./agreement.mjs";
import {
  bytesOf, checkEd25519, decode, fromBase64, hex, isPlain, joined, recoverTyped, require, same, sha256, structHash, textOf,
} from "./wire.mjs";

const NOT_IN_NAMES = /[+\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]/, MOST_SIGNATURES = 100;
const isName = (name) => name !== "" && !NOT_IN_NAMES.test(name);
const node = (left, right) => sha256(joined(Uint8Array.of(1), left, right));

/** A C2SP verifier key. */
export function parseVerifier(text) {
  const [name, id, ...rest] = text.split("+"), typed = fromBase64(rest.join("+"));
  require(typed.length === 33 && typed[0] === 1 && isName(name) && isPlain(name), "not an Ed25519 verifier key");
  const keyId = sha256(joined(bytesOf(`${name}\n`), typed)).subarray(0, 4);
  require(hex(keyId) === id, "the verifier key does not match its key id");
  return { name, keyId, key: typed.subarray(1), text };
}

/** C1: the checkpoint in a note that the ledger's key has signed. */
function openCheckpoint(note, verifier) {
  const whole = textOf(note), at = whole.lastIndexOf("\n\n");
  require(!/[\u0000-\u0009\u000b-\u001f]/.test(whole) && at >= 0 && whole.endsWith("\n") && at + 2 < whole.length, "not a signed note");
  const text = whole.slice(0, at + 1), lines = whole.slice(at + 2, -1).split("\n");
  require(lines.length <= MOST_SIGNATURES, "a note with too many signatures");
  let signed = false;
  for (const [name, payload] of lines.map(parseLine)) {
    if (signed || name !== verifier.name || !same(payload.subarray(0, 4), verifier.keyId)) continue;
    checkEd25519(verifier.key, bytesOf(text), payload.subarray(4), name);
    signed = true;
  }
  require(signed, "the checkpoint is not signed by the ledger's key");
  return parseCheckpoint(text, verifier);
}

function parseLine(line) {
  const found = /^— ([^ ]+) (.+)$/.exec(line);
  require(found !== null && isName(found[1]), "a note with a line that is no signature");
  const payload = fromBase64(found[2]);
  require(payload.length >= 5, "a note with a signature that is too short");
  return [found[1], payload];
}

function parseCheckpoint(text, verifier) {
  const lines = text.split("\n");
  require(lines.length >= 4 && lines.pop() === "" && lines.every((each) => each), "not a checkpoint");
  const [origin, size, root] = lines;
  require(/^(0|[1-9][0-9]{0,18})$/.test(size) && BigInt(size) < 1n << 63n && isPlain(origin), "not a checkpoint");
  require(origin === verifier.name, "a checkpoint of another log");
  const found = { origin, size: BigInt(size), root: fromBase64(root) };
  require(found.root.length === 32 && found.size > 0n, "a checkpoint of nothing");
  return found;
}

/** T2. */
function checkInclusion({ index, proof }, { size, root }, leaf) {
  require(index < size, "no such entry in a tree of that size");
  let [position, last, found] = [index, size - 1n, leaf];
  for (const sibling of proof) {
    require(last !== 0n, "the inclusion proof is too long");
    if (position & 1n || position === last) {
      found = node(sibling, found);
      while (!(position & 1n) && position) [position, last] = [position >> 1n, last >> 1n];
    } else {
      found = node(found, sibling);
    }
    [position, last] = [position >> 1n, last >> 1n];
  }
  require(last === 0n, "the inclusion proof is too short");
  require(same(found, root), "an entry is not in the tree that the checkpoint commits to");
}

/** R3: the entries that pieces of evidence hold, and the newest checkpoint. */
export function readEvidence(pieces, verifier, domain, session) {
  const id = structHash(session), roots = new Map();
  const found = pieces.map((piece) => {
    const proof = decode(piece, "LogProof"), checkpoint = openCheckpoint(proof.checkpoint, verifier);
    checkInclusion(proof, checkpoint, sha256(joined(Uint8Array.of(0), proof.entry)));
    const entry = decode(proof.entry, "LogEntry"), action = decode(entry.op.action, ...ACTIONS);
    require(same(recoverTyped(domain, action, entry.op.signature), action.actor), "an entry is not signed by its actor");
    return { proof, checkpoint, action, time: entry.time, effects: entry.sessions };
  });
  for (const { checkpoint } of found) {
    const root = hex(checkpoint.root), known = roots.get(checkpoint.size) ?? root;
    require(known === root, `the ledger signed two different logs of ${checkpoint.size} entries: this receipt is the proof`);
    roots.set(checkpoint.size, known);
  }
  found.slice(1).forEach((later, at) => {
    const one = found[at];
    require(one.proof.index <= later.proof.index && one.time <= later.time, "the ledger's entries are out of order");
    require(one.proof.index !== later.proof.index || same(one.proof.entry, later.proof.entry), "the ledger shows two entries in one place");
  });
  for (const each of found) {
    each.effect = each.effects.find((effect) => same(effect.session, id));
    require(each.effect, "a ledger entry is about another session");
    const counts = [each.effect.settled.length, each.effect.ceilings.length];
    require(counts.every((count) => count === session.legs.length), "an entry counts another number of legs");
  }
  const newest = found.map((each) => each.checkpoint).reduce((one, other) => (other.size > one.size ? other : one));
  return { entries: found, newest };
}

/** R4. */
export function checkOpening({ action, effect, time }, session, offers) {
  require(action.is === "Open" && same(structHash(action.session), structHash(session)), "the session that was opened is another one");
  const reserved = effect.ceilings.every((each, leg) => each === session.legs[leg].cap) && effect.settled.every((each) => each === 0n);
  require(reserved, "the opening entry did not reserve the caps");
  require(time < session.expiry, "the session had expired when it was opened");
  const inForce = offers.every((offer) => offer.issued_at - SKEW_S <= time && time < offer.expires_at + SKEW_S);
  require(inForce, "an offer in the terms was not in force when the session was opened");
}

/** V1 to V3. */
export function checkVoucher(domain, session, { voucher, signature }) {
  require(same(voucher.session, structHash(session)), "the voucher is for another session");
  require(same(recoverTyped(domain, voucher, signature), session.client), "the voucher is not signed by the session's client");
  require(voucher.amounts.length === session.legs.length, "amounts for another number of legs");
  voucher.amounts.forEach((each, leg) => require(each <= session.legs[leg].cap, `the voucher goes beyond the cap of leg ${leg}`));
}

function requirePaid(amounts, effect) {
  amounts.forEach((promised, leg) => {
    const ceiling = effect.ceilings[leg], least = promised < ceiling ? promised : ceiling;
    require(effect.settled[leg] >= least, `the ledger did not settle the voucher for leg ${leg}`);
  });
}

/** R10: what the session came to; its effect in the last entry. */
export function checkSettlement(entries, session, voucher, domain) {
  let before = entries[0].effect;
  for (const entry of entries.slice(1)) {
    const after = entry.effect;
    session.legs.forEach((_, leg) => {
      require(after.settled[leg] <= after.ceilings[leg], `the ledger paid leg ${leg} more than its cap holds`);
      const fell = after.settled[leg] < before.settled[leg] || after.ceilings[leg] > before.ceilings[leg];
      require(!fell, `the ledger took back what leg ${leg} was paid, or keeps what it had released`);
    });
    checkAction(entry, session, domain);
    before = after;
  }
  requirePaid(voucher.amounts, entries[1].effect);
  return before;
}

function checkAction({ action, time, effect }, session, domain) {
  const id = structHash(session);
  if (action.is === "Settle") {
    for (const pay of action.vouchers.filter((each) => same(each.voucher.session, id))) {
      checkVoucher(domain, session, pay);
      requirePaid(pay.voucher.amounts, effect);
    }
  } else if (action.is === "Release") {
    for (const { discharge, signature } of action.discharges.filter((each) => same(each.discharge.session, id))) {
      const { leg, amount } = discharge;
      require(leg < session.legs.length && same(recoverTyped(domain, discharge, signature), session.legs[leg].provider), "a discharge that is not its leg's");
      const most = amount > effect.settled[leg] ? amount : effect.settled[leg];
      require(effect.ceilings[leg] <= most, `the ledger keeps money back that leg ${leg} has released`);
    }
  } else if (action.is === "Close") {
    require(time > session.expiry, "the session was closed before its time");
    require(effect.ceilings.every((each, leg) => each === effect.settled[leg]), "the closing entry keeps money back");
  }
}

/** R10: no leg says more energy than its machine can draw between the entries. */
export function checkEnergy(windows, offers, entries) {
  const us = BigInt(entries[1].time - entries[0].time) * 1_000_000n + 2n * JOB_SLACK;
  for (const { signed } of windows.flat()) checkSpent(signed.receipt, offers[signed.receipt.leg].hardware, us);
}
