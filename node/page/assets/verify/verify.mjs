/** A receipt held against docs/spec/receipt.md, clause by clause: what holds, what does not, what was not looked at. */
"use strict";

import {
  checkAcceptance, checkAdmitted, checkHops, checkOffer, checkTerms, lawBehind, legsOf, openReroutes,
} from "./agreement.mjs";
import { parseContract, readChain } from "./contract.mjs";
import { checkEnergy, checkOpening, checkSettlement, checkVoucher, parseVerifier, readEvidence } from "./ledger.mjs";
import { Fault, bytesOf, decode, exactKeys, fromBase64, hex, keccak, ledgerDomain, openEnvelope, parseJson, require, same, sha256, structHash } from "./wire.mjs";
import { checkPayment, checkWindows, saidBytes } from "./windows.mjs";

const FORMAT = "joulemesh-receipt/3", MOST_BYTES = 64 * 1024 * 1024, DEPTH = 5, MOST_SEALED = 64 * 1024, MOST_EVIDENCE = 40 * 1024;
const KEYS = ["format", "about", "text", "transcript", "verifier_key", "manifest", "terms", "session", "offers", "acceptances",
  "reroutes", "tokens", "logprobs", "windows", "nonce", "voucher", "evidence", "law"];
const MOST = { legs: 16, reroutes: 64, lists: 8 };

/** Each clause in the order in which it is looked at, for people. */
export const CLAUSES = {
  R12: "The file is a receipt, and each value is in its one spelling",
  R1: "The terms are the session's, for this ledger and this model",
  R2: "Each leg's rates come from its own signed offer, which the policy admits, and each leg agreed",
  R3: "The ledger's entries stand in its signed log; a contract's are transactions that it was sent",
  R4: "The session was opened with these caps, while all offers held",
  R5: "Each window has a receipt of each leg, signed for this session",
  R6: "What receipts count is what was served, and no figure falls",
  R7: "Neighbours signed for the same bytes, and the tokens are those",
  R8: "Nonces were fixed before the job, and neighbours' sketches meet",
  R9: "The client's voucher names these receipts and pays just what they show",
  R10: "The ledger paid it, and keeps nothing back",
  R11: "The text is the one that the client sealed",
};
const TOGETHER = ["R5", "R6", "R7", "R8"];

// R12

const text = (value) => { require(typeof value === "string", "something else than text"); return value; };
const list = (value, most) => { require(Array.isArray(value) && value.length <= most, "something else than a list, or a longer one"); return value; };
const maybe = (value, read) => (value === null ? null : read(value));

function raw(value, least = 1, most = MOST_SEALED) {
  const found = fromBase64(text(value));
  require(least <= found.length && found.length <= most, "a value of another length");
  return found;
}

function loadWindow(row) {
  return list(row, MOST.legs).map((each) => {
    const { receipt, sketches } = exactKeys(each, "receipt", "sketches"), bytes = raw(receipt);
    return { signed: decode(bytes, "SignedReceipt"), bytes, sketches: raw(sketches, 0) };
  });
}

/** Log probabilities, where the terms ask for them. */
function loadSaid(value, size) {
  require((value === null) === (size === 0), "log probabilities that the terms do not ask for, or none where they do");
  const found = value === null ? new Uint8Array() : raw(value, 0, MOST_BYTES);
  require(!size || found.length % size === 0, "log probabilities of a part of a token");
  return found;
}

function load(bytes) {
  const value = parseJson(bytes, { limit: MOST_BYTES, depth: DEPTH });
  require(value.format === FORMAT, `this is no ${FORMAT} file`);
  exactKeys(value, ...KEYS);
  text(value.about);
  const evidence = exactKeys(value.evidence, "opened", "settled", "released"), law = exactKeys(value.law, "trust", "lists", "round_trips");
  const sealed = (items, most) => list(items, most).map((each) => raw(each, 0));
  const piece = (each) => raw(each, 1, MOST_EVIDENCE);
  const manifest = raw(value.manifest), terms = raw(value.terms), agreed = decode(terms, "Terms"), trust = maybe(law.trust, raw);
  return {
    verifierKey: text(value.verifier_key),
    manifest: decode(manifest, "ModelManifest"),
    root: keccak(manifest),
    terms: agreed,
    termsHash: keccak(terms),
    session: decode(raw(value.session), "Session"),
    offers: sealed(value.offers, MOST.legs),
    acceptances: sealed(value.acceptances, MOST.legs),
    reroutes: sealed(value.reroutes, MOST.reroutes),
    tokens: maybe(value.tokens, (ids) => list(ids, MOST_BYTES).map((each) => {
      require(Number.isInteger(each) && each >= 0 && each < 2 ** 32, "a token id that is none");
      return each;
    })),
    said: loadSaid(value.logprobs, value.tokens === null ? 0 : saidBytes(agreed.sampling)),
    windows: list(value.windows, MOST_BYTES).map(loadWindow),
    nonce: maybe(value.nonce, (each) => raw(each, 32, 32)),
    pay: decode(raw(value.voucher), "SignedVoucher"),
    evidence: [piece(evidence.opened), piece(evidence.settled), ...(evidence.released === null ? [] : [piece(evidence.released)])],
    transcript: maybe(value.transcript, raw),
    text: maybe(value.text, (each) => {
      const { prompt, answer } = exactKeys(each, "prompt", "answer");
      return [text(prompt), text(answer)];
    }),
    trust: maybe(trust, (each) => decode(each, "Trust")),
    trustHash: maybe(trust, keccak),
    lists: sealed(law.lists, MOST.lists),
    measured: maybe(law.round_trips, raw),
  };
}

// R1 to R11, in order; each adds to what is known

const STEPS = {
  R1(it) {
    const { bundle } = it, { terms, manifest } = bundle;
    if (bundle.verifierKey.startsWith("evm:")) it.contract = parseContract(bundle.verifierKey);
    else it.verifier = parseVerifier(bundle.verifierKey);
    it.domain = it.contract ? it.contract.domain : ledgerDomain(it.verifier.text);
    require(same(terms.venue, it.domain), "the terms are for another ledger");
    require(same(terms.model, bundle.root), "the manifest is not that of the model in the terms");
    require(terms.policy.precision === manifest.precision, "the model is in another precision than was asked");
    checkTerms(terms, bundle.termsHash, bundle.session, manifest.blocks);
    require(terms.plan.prompt + terms.plan.most <= manifest.max_context, "the plan does not fit the model's context");
  },
  R2(it) {
    const { bundle } = it, { terms, session, manifest } = bundle, legs = legsOf(terms), { policy } = terms;
    require(bundle.offers.length === legs.length, "an offer is missing");
    it.offers = legs.map((leg, at) => checkOffer(leg, bundle.offers[at], terms));
    require(it.offers.every((offer) => offer.blocks === manifest.blocks), "an offer is for another number of blocks");
    require(it.offers.every((offer) => terms.speculation.depth <= offer.limits.draft_depth), "a leg was asked for more than it offered");
    for (const word of ["price_in", "price_out"]) {
      const price = terms.route.reduce((sum, leg) => sum + BigInt(leg.rates[word]), 0n), cap = policy[`max_${word}`];
      require(cap === null || price <= cap, "the route costs more than the policy allows");
    }
    const law = lawBehind(terms, session, bundle);
    require(!policy.licenses.length || policy.licenses.includes(manifest.license), "the policy does not admit the model's licence");
    it.offers.forEach((offer, leg) => checkAdmitted(leg, offer, terms, law));
    require(bundle.acceptances.length === legs.length, "an acceptance is missing");
    it.acceptances = new Map();
    bundle.acceptances.forEach((sealed, leg) => {
      if (sealed.length || leg < terms.route.length) it.acceptances.set(leg, checkAcceptance(sealed, session, terms, leg));
    });
    it.reroutes = openReroutes(bundle.reroutes, terms, session, manifest.blocks);
    checkHops(terms, session, it.offers, it.reroutes);
  },
  R3(it) {
    const { evidence, session } = it.bundle;
    Object.assign(it, it.contract ? readChain(evidence, it.contract, session) : readEvidence(evidence, it.verifier, it.domain, session));
  },
  R4(it) {
    checkOpening(it.entries[0], it.bundle.session, it.offers);
  },
  R5(it) {
    [it.book, it.complete] = checkWindows(it.bundle, it.domain, it.reroutes, it.acceptances);
  },
  R9(it) {
    checkVoucher(it.domain, it.bundle.session, it.bundle.pay);
    checkPayment(it.bundle, it.book, it.reroutes, it.acceptances);
  },
  R10(it) {
    it.final = checkSettlement(it.entries, it.bundle.session, it.bundle.pay.voucher, it.domain);
    checkEnergy(it.bundle.windows, it.offers, it.entries);
  },
  R11({ bundle }) {
    require((bundle.text === null) === (bundle.transcript === null), "the text without its client's word, or the word without the text");
    if (bundle.text === null) return;
    require(bundle.tokens !== null, "the tokens are withheld, and their text is there");
    const [transcript, signer] = openEnvelope(bundle.transcript, "Transcript");
    require(same(signer, bundle.session.client), "the transcript is not sealed by the session's client");
    require(same(transcript.session, structHash(bundle.session)), "the transcript is of another session");
    const [prompt, answer] = bundle.text.map((each) => sha256(bytesOf(each)));
    require(same(transcript.prompt, prompt) && same(transcript.answer, answer), "the text is not the one that the client sealed");
  },
};

function proven({ bundle, final, newest, transactions, book, complete }) {
  const { voucher } = bundle.pay, sum = (items) => items.reduce((all, each) => all + each, 0n);
  return {
    session: hex(structHash(bundle.session)),
    client: `0x${hex(bundle.session.client)}`,
    model: bundle.manifest.name,
    verifier_key: bundle.verifierKey,
    tokens_in: voucher.tokens_in,
    tokens_out: voucher.tokens_out,
    windows: book.windows.length,
    complete,
    amounts: final.settled.map(String),
    refunded: String(sum(bundle.session.legs.map((each) => each.cap)) - sum(final.ceilings)),
    held: String(sum(final.ceilings) - sum(final.settled)),
    checkpoint_size: newest && String(newest.size),
    checkpoint_root: newest && hex(newest.root),
    transactions: transactions ?? [],
    text: bundle.text,
    withheld: bundle.tokens === null,
  };
}

/**
 * All that a file shows.
 *
 * `clauses` has for each in order whether it holds: true, false, or null where an earlier one does not. `verified` is true
 * where all hold, and then `proven` says what that means. Whether a chain has the blocks of its `transactions`, and without
 * `included` that they hold them, only a node of the chain knows.
 */
export function verify(bytes) {
  const clauses = Object.keys(CLAUSES).map((clause) => ({ clause, about: CLAUSES[clause], holds: null, why: "" }));
  const of = (name) => clauses.find((each) => each.clause === name), it = {};
  let at = "R12";
  try {
    it.bundle = load(bytes);
    of(at).holds = true;
    for (at of Object.keys(STEPS)) {
      STEPS[at](it);
      for (const each of at === "R5" ? TOGETHER : [at]) of(each).holds = true;
    }
  } catch (error) {
    const isOurs = error instanceof Fault, broken = of((isOurs && error.clause) || at);
    Object.assign(broken, { holds: false, why: isOurs ? error.message : `it cannot be read (${error.name})` });
  }
  const verified = clauses.every((each) => each.holds);
  return { verified, clauses, proven: verified ? proven(it) : null };
}
