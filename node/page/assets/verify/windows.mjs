/** Windows, receipts and pay: session.md N9, S1 to S6, H2, H3 and V8; receipt.md R5 to R9. */
"use strict";

import { SKETCH_BYTES } from "./messages.mjs";
import { idBytes, legsOf, lengthOf, routeAt, share, toldOf } from "./agreement.mjs";
import { Fault, bytesOf, ceilDiv, isZero, joined, keccak, recoverTyped, require, same, sha256, structHash } from "./wire.mjs";

const MILLION = 1_000_000n, MOST_REROUTES = 64, ONE_PUE = 1000, UNMEASURED = (1n << 63n) - 1n;
const ZERO = new Uint8Array(32), NO_SKETCH = new Uint8Array(SKETCH_BYTES), SHOWN_BYTES = 2 * SKETCH_BYTES;
const LINK = bytesOf("joulemesh nonce\n"), SEED = bytesOf("joulemesh seed\n"), WINDOW = bytesOf("joulemesh window\n");

// Counts

export const lastPosition = (plan) => plan.prompt + plan.most - 1;
export const served = (plan, positions) => [Math.min(positions, plan.prompt), Math.max(0, positions - plan.prompt + 1)];
export const positionsOf = (plan, tokensIn, tokensOut) => (tokensIn < plan.prompt || !tokensOut ? tokensIn : plan.prompt - 1 + tokensOut);

/** S4. */
export function windowEnd(plan, positions) {
  if (positions < plan.prompt) return Math.min(plan.prompt, (Math.floor(positions / plan.chunk) + 1) * plan.chunk);
  const generated = positions - plan.prompt + 1;
  return Math.min(lastPosition(plan), plan.prompt - 1 + (Math.floor(generated / plan.window) + 1) * plan.window);
}

function paidLimit(plan, positions) {
  let found = positions;
  for (let left = plan.ahead + 1; left; left--) found = windowEnd(plan, found);
  return found;
}

const windowIndex = (plan, booked, reroutes) => booked + reroutes * (plan.ahead + 1);

function chainLength(plan) {
  const last = lastPosition(plan), chunks = Math.ceil(Math.min(last, plan.prompt) / plan.chunk);
  const count = last <= plan.prompt ? chunks : chunks + Math.ceil((last - plan.prompt + 1) / plan.window) - Math.floor(1 / plan.window);
  return windowIndex(plan, count, MOST_REROUTES);
}

/** H3: how the legs of the first route begin, by what they accepted. */
export function continued(terms, acceptances) {
  const legs = terms.route.map((_, leg) => acceptances.get(leg)), want = terms.continues?.positions ?? 0;
  const base = Math.max(0, ...legs.map((each) => Math.min(each?.cached ?? 0, want)));
  const starts = [];
  let needed = base;
  for (const each of legs.toReversed()) {
    let start = Math.min(each?.cached ?? 0, base);
    if (!each?.replays) start = Math.min(start, needed);
    starts.unshift(start);
    needed = start;
  }
  return { base, starts: base ? starts : starts.map(() => 0) };
}

// Pay

/** S6: each leg's stint, by index in the session. */
function stints(terms, reroutes, cached, base) {
  const found = legsOf(terms).map(() => null);
  [base, ...reroutes.map((each) => each.position)].forEach((position, number) => {
    for (const { leg } of routeAt(terms, reroutes.slice(0, number), position)) found[leg] ??= { joined: position, left: null, cached: cached[leg] ?? 0 };
  });
  reroutes.forEach((reroute, number) => {
    const serving = new Set(reroute.route.map((each) => each.leg));
    for (const { leg } of routeAt(terms, reroutes.slice(0, number), reroute.position)) {
      const stint = found[leg];
      if (!serving.has(leg) && stint.left === null) stint.left = reroute.position;
    }
  });
  return found;
}

function workOf(plan, stint, positions, late, rejected) {
  const nothing = { cached: 0, tokensIn: 0, tokensOut: 0, late: 0, rejected: 0 };
  if (stint === null || (stint.joined === 0 && stint.left === 0)) return nothing;
  const end = stint.left === null ? positions : Math.min(positions, stint.left);
  if (end <= stint.joined) return nothing;
  const prefill = Math.min(end, Math.max(stint.joined, plan.prompt));
  const generated = Math.max(0, end - Math.max(stint.joined, plan.prompt - 1));
  const cached = Math.min(stint.cached, prefill);
  return { cached, tokensIn: prefill - cached, tokensOut: generated, late: Math.min(late, generated), rejected };
}

/** S1: micro-units, with the opening charge. */
function owed(rates, work) {
  const big = (each) => BigInt(each);
  const discount = (big(rates.price_out) * big(rates.late_discount_ppm)) / MILLION;
  const total = big(work.tokensIn) * big(rates.price_in) + big(work.tokensOut) * big(rates.price_out) - big(work.late) * discount
    + big(work.cached) * big(rates.price_cached) + big(work.rejected) * big(rates.price_rejected);
  const least = work.tokensIn + work.tokensOut + work.cached > 0 ? 1n : 0n, rounded = ceilDiv(total, MILLION);
  return big(rates.opening) + (rounded > least ? rounded : least);
}

/** R9. */
export function checkPayment(bundle, book, reroutes, acceptances) {
  const { terms, session } = bundle, { plan } = terms, { voucher } = bundle.pay;
  require(same(voucher.receipts, book.root()), "the voucher names other receipts");
  const positions = positionsOf(plan, voucher.tokens_in, voucher.tokens_out), counts = served(plan, positions);
  require(counts[0] === voucher.tokens_in && counts[1] === voucher.tokens_out, "the voucher counts no job's tokens");
  require(book.earned <= positions, "the voucher pays for less than every leg has signed for");
  require(positions <= Math.min(paidLimit(plan, book.positions), lastPosition(plan)), "the voucher pays far beyond the receipts");
  const spans = new Map(reroutes.flatMap((each) => each.route.map(({ leg, span }) => [leg, span])));
  const { starts } = continued(terms, acceptances);
  stints(terms, reroutes, starts, book.base).forEach((stint, leg) => {
    if (!acceptances.has(leg)) return require(voucher.amounts[leg] === 0n, `leg ${leg} is paid and has accepted nothing`);
    const agreed = legsOf(terms)[leg], span = spans.get(leg);
    const rates = span ? { ...share(agreed.rates, lengthOf(span), lengthOf(agreed.span)), opening: agreed.rates.opening } : agreed.rates;
    const all = owed(rates, workOf(plan, stint, positions, book.late(leg), book.rejected(leg))), { cap } = session.legs[leg];
    const price = all < cap ? all : cap;
    require(voucher.amounts[leg] === price, `leg ${leg} is paid ${voucher.amounts[leg]} where it has earned ${price}`);
  });
}

// Receipts

const link = (nonce) => sha256(joined(LINK, nonce));
const uint32 = (number) => { const found = new Uint8Array(4); new DataView(found.buffer).setUint32(0, number); return found; };

const tokensHash = (tokens, said = new Uint8Array()) => sha256(joined(WINDOW, idBytes(tokens), said));

/** Bytes of log probabilities for each generated token (N9). */
export const saidBytes = ({ logprobs }) => (logprobs === null ? 0 : 8 * (1 + logprobs));

/** Says by which clause something does not hold. */
function by(clause, check) {
  try {
    return check();
  } catch (error) {
    if (error instanceof Fault) error.clause ||= clause;
    throw error;
  }
}

/** Takes the windows of a session in order. */
class Book {
  constructor(domain, { session, terms, tokens, said }, acceptances, nonces) {
    const { base, starts } = continued(terms, acceptances);
    Object.assign(this, { domain, session, terms, plan: terms.plan, tokens, said, base, starts, nonces });
    this.id = structHash(session);
    this.route = routeAt(terms, [], 0);
    this.windows = [];
    this.leaves = [];
    this.reroutes = 0;
    this.legs = new Map([...acceptances].map(([leg, each]) =>
      [leg, { nonce: each.nonces, window: -1, millijoules: 0n, rows: 0, late: 0, rejected: 0, unshown: [] }]));
  }

  get earned() { return this.windows.at(-1)?.end ?? 0; }
  get positions() { return this.windows.at(-1)?.end ?? this.base; }
  get nextIndex() { return windowIndex(this.plan, this.windows.length, this.reroutes); }

  late(leg) { return this.legs.get(leg)?.late ?? 0; }
  rejected(leg) { return this.legs.get(leg)?.rejected ?? 0; }

  takeReroute(route) {
    this.reroutes++;
    this.route = route;
  }

  takeWindow(end, row) {
    const { route, nextIndex: index, positions: start } = this;
    by("R5", () => require(row.length === route.length, `window ${index} lacks the receipt of a leg`));
    route.forEach(({ leg }, at) => {
      this.check(leg, index, end, row[at]);
      by("R8", () => this.checkNonce(leg, index, row[at].signed.receipt.nonce));
    });
    const window = { index, start, end, route, shown: new Map() };
    by("R7", () => this.checkBytes(window, row.map((each) => each.signed.receipt)));
    by("R8", () => this.takeSketches(row, this.plan.ahead - 1));
    this.append(row);
    const nonces = row.map((each) => each.signed.receipt.nonce);
    window.seed = keccak(joined(SEED, this.id, uint32(index), this.nonces[index], ...nonces));
    for (const { leg } of route) this.legs.get(leg).unshown.push(window);
    this.windows.push(window);
    this.countRejected(window);
  }

  takeClosing(row) {
    by("R5", () => require(this.windows.length && row.length === this.route.length, "the closing row lacks a receipt, or a window"));
    this.route.forEach(({ leg }, at) => {
      this.check(leg, this.nextIndex, this.positions, row[at]);
      const { input, output, tokens, nonce } = row[at].signed.receipt;
      by("R8", () => require([input, output, tokens, nonce].every(isZero), `the closing receipt of leg ${leg} fixes bytes of no window`));
    });
    by("R8", () => this.takeSketches(row, 0));
    this.append(row);
  }

  check(leg, index, end, { signed }) {
    const { receipt } = signed, before = this.legs.get(leg), counts = served(this.plan, end);
    by("R5", () => {
      require(receipt.leg < this.session.legs.length && same(receipt.session, this.id), "a receipt of another session");
      const signer = recoverTyped(this.domain, receipt, signed.signature);
      require(same(signer, this.session.legs[receipt.leg].provider), `the receipt of leg ${receipt.leg} is not signed by its provider`);
      require(before && receipt.leg === leg && receipt.window === index, `the receipt in the place of leg ${leg} is for another leg or window`);
    });
    by("R6", () => {
      require(receipt.tokens_in === counts[0] && receipt.tokens_out === counts[1], `leg ${leg} counts other tokens than were served`);
      const falls = receipt.millijoules < before.millijoules || receipt.rows < before.rows || receipt.late < before.late;
      require(!falls, `leg ${leg} takes back energy, rows or late tokens`);
      require((receipt.millijoules === UNMEASURED) === (receipt.source === "unknown"), `leg ${leg} gives energy without a source, or a source without energy`);
      require(receipt.late - before.late <= receipt.tokens_out - served(this.plan, this.positions)[1], `leg ${leg} says that more tokens were late than there are`);
      require(receipt.pue_milli >= ONE_PUE && receipt.p50_us <= receipt.p95_us, `leg ${leg} signs for a PUE below 1, or a median above the slowest`);
    });
    Object.assign(before, { millijoules: receipt.millijoules, rows: receipt.rows, late: receipt.late });
  }

  checkNonce(leg, index, nonce) {
    const before = this.legs.get(leg);
    let found = nonce;
    for (let steps = index - before.window; steps > 0; steps--) found = link(found);
    require(same(found, before.nonce), `leg ${leg}: a nonce that was not committed to before the job`);
    Object.assign(before, { nonce, window: index });
  }

  checkBytes(window, receipts) {
    if (this.tokens !== null) this.checkTokens(window, receipts);
    for (let at = 1; at < receipts.length; at++) {
      const [left, right] = [receipts[at - 1], receipts[at]];
      require(same(left.output, right.input), `what leg ${left.leg} says it sent is not what leg ${right.leg} says it received`);
      require(isZero(left.tokens), `leg ${left.leg} draws no tokens, and signs for some`);
    }
  }

  checkTokens({ start, end }, receipts) {
    const { tokens, plan } = this;
    require(end < tokens.length || end < plan.prompt, "the receipts count more tokens than there are");
    require(same(receipts[0].input, tokensHash(tokens.slice(start, end))), `leg ${receipts[0].leg} signed for other tokens than it was sent`);
    const drawn = tokens.slice(Math.max(start, plan.prompt - 1) + 1, end + 1), last = receipts.at(-1);
    const size = saidBytes(this.terms.sampling), [from, to] = [start, end].map((each) => size * served(plan, each)[1]);
    require(same(last.tokens, tokensHash(drawn, this.said.subarray(from, to))), `leg ${last.leg} signed for other tokens than it sent`);
  }

  takeSketches(row, unshown) {
    const shown = this.route.map(({ leg }, at) => this.readSketches(leg, row[at]));
    this.route.forEach(({ leg }, at) => {
      const owing = this.legs.get(leg).unshown;
      for (let left = shown[at]; left; left--) this.checkMeetings(owing.shift(), leg);
      require(owing.length <= unshown, `leg ${leg} does not show sketches of a window that it served`);
    });
  }

  /** Puts down what a leg shows of the windows that it owes, oldest first; of how many. */
  readSketches(leg, { signed, sketches }) {
    const owing = this.legs.get(leg).unshown, count = sketches.length / SHOWN_BYTES;
    require(Number.isInteger(count), "sketches of another length");
    require(count <= owing.length, `leg ${leg} shows sketches of a window that it did not serve`);
    const parts = owing.slice(0, count).map((window, at) => [window, sketches.subarray(at * SHOWN_BYTES, (at + 1) * SHOWN_BYTES)]);
    const hash = count ? keccak(joined(...parts.flatMap(([window, part]) => [window.seed, part]))) : ZERO;
    require(same(hash, signed.receipt.sketches), `leg ${leg} shows other sketches than it signed`);
    for (const [window, part] of parts) window.shown.set(leg, part);
    return count;
  }

  checkMeetings({ route, shown }, leg) {
    const isFirst = leg === route[0].leg;
    require(!isFirst || same(shown.get(leg).subarray(0, SKETCH_BYTES), NO_SKETCH), "the first leg shows a sketch of token ids");
    for (let at = 1; at < route.length; at++) {
      const [left, right] = [route[at - 1].leg, route[at].leg];
      if (![left, right].includes(leg) || !shown.has(left) || !shown.has(right)) continue;
      const meets = same(shown.get(left).subarray(SKETCH_BYTES), shown.get(right).subarray(0, SKETCH_BYTES));
      require(meets, `the sketches of legs ${left} and ${right} differ`);
    }
  }

  countRejected({ end, route }) {
    const { depth, flights } = this.terms.speculation, most = depth * flights;
    if (!most) return;
    const over = route.map(({ leg }) => this.legs.get(leg).rows - (end - (this.starts[leg] ?? 0)));
    const rejected = Math.max(0, Math.min(...over, most * served(this.plan, end)[1]));
    for (const { leg } of route) this.legs.get(leg).rejected = rejected;
  }

  append(row) {
    for (const each of row) this.leaves.push(sha256(joined(Uint8Array.of(0), each.bytes)));
  }

  /** RFC 6962, over all receipts. */
  root() {
    const over = (leaves) => {
      if (leaves.length === 1) return leaves[0];
      const half = 2 ** (Math.ceil(Math.log2(leaves.length)) - 1);
      return sha256(joined(Uint8Array.of(1), over(leaves.slice(0, half)), over(leaves.slice(half))));
    };
    return this.leaves.length ? over(this.leaves) : ZERO;
  }
}

/** R5 to R8: all rows of a bundle. Returns the book, and whether the closing row is there. */
export function checkWindows(bundle, domain, reroutes, acceptances) {
  const { terms, windows: rows, tokens, manifest } = bundle, { plan } = terms, toCome = [...reroutes];
  const isClosing = (row) => row.length > 0 && isZero(row[0].signed.receipt.nonce);
  const book = new Book(domain, bundle, acceptances, by("R8", () => clientNonces(bundle, rows, isClosing)));
  const takeReroutes = () => { while (toCome.length && toCome[0].position === book.positions) book.takeReroute(toCome.shift().route); };
  rows.forEach((row, number) => {
    by("R5", () => require(row.length, `window ${number} has no receipts at all`));
    takeReroutes();
    const isLast = number === rows.length - 1;
    if (isClosing(row)) {
      by("R5", () => require(isLast, "a closing row of receipts stands before the end"));
      return book.takeClosing(row);
    }
    const due = windowEnd(plan, book.positions), { receipt } = row[0].signed;
    const end = Math.min(due, positionsOf(plan, receipt.tokens_in, receipt.tokens_out));
    by("R5", () => {
      require(!toCome.length || toCome[0].position >= due, "a reroute begins inside of a window, or before the first");
      require(end > book.positions, `window ${number} is empty`);
      require(end === due || isLast || (number === rows.length - 2 && isClosing(rows[number + 1])), "a window ends before it should");
    });
    book.takeWindow(end, row);
  });
  takeReroutes();
  by("R5", () => require(!toCome.length, "a reroute begins where nobody has signed for anything"));
  by("R7", () => {
    if (tokens === null) return;
    require(tokens.length === book.earned + (book.earned >= plan.prompt ? 1 : 0), "the file has another number of tokens than the receipts cover");
    require(tokens.every((each) => each < manifest.vocabulary), "a token that the model does not have");
    checkSaid(bundle);
    const { shaping } = terms.sampling, told = toldOf(shaping, tokens.slice(0, plan.prompt));
    const asTold = shaping === null || (told === null ? shaping.told === null : shaping.told !== null && same(told, shaping.told));
    require(asTold || tokens.length < plan.prompt, "the last leg was told of another prompt");
  });
  by("R5", () => require(book.positions <= lastPosition(plan), "the receipts count more tokens than were ordered"));
  return [book, rows.length > 0 && book.windows.length < rows.length];
}

/** N9: that log probabilities are there where the terms ask for them, and can be those of the tokens. */
function checkSaid({ terms, tokens, said, manifest }) {
  const size = saidBytes(terms.sampling), drawn = tokens.slice(terms.plan.prompt), view = new DataView(said.buffer, said.byteOffset);
  require(said.length === size * drawn.length, "log probabilities of another number of tokens");
  for (let at = 0; at < said.length; at += size) {
    const entries = [];
    for (let from = at; from < at + size; from += 8) entries.push([view.getUint32(from, true), view.getUint32(from + 4, true)]);
    const [[token, millionths], ...likeliest] = entries, named = likeliest.find((each) => each[0] === token);
    require(entries.every((each) => each[0] < manifest.vocabulary), "a log probability of a token that the model does not have");
    require(token === drawn[at / size], "log probabilities of another token than the one that was drawn");
    require(new Set(likeliest.map((each) => each[0])).size === likeliest.length, "a token is named twice among the likeliest");
    require(likeliest.every((each, place) => !place || each[1] >= likeliest[place - 1][1]), "the likeliest tokens do not stand in their order");
    require(named ? named[1] === millionths : !likeliest.length || millionths >= likeliest.at(-1)[1], "the drawn token has another place than it says");
  }
}

/** The client's nonces by index of the window. */
function clientNonces({ terms, nonce }, rows, isClosing) {
  const last = rows.filter((row) => row.length && !isClosing(row)).at(-1);
  const count = last ? last[0].signed.receipt.window + 1 : 0;
  require(count <= chainLength(terms.plan), "a window that no plan has");
  require((nonce === null) === (count === 0), "the client's nonce is missing, or of no window");
  const found = Array(count);
  let at = nonce;
  for (let index = count - 1; index >= 0; index--) {
    found[index] = at;
    at = link(at);
  }
  require(count === 0 || same(at, terms.nonces), "the client's nonce was not committed to before the job");
  return found;
}
