/** What was agreed: terms, offers, acceptances, and the policy that admits each leg. session.md N1 to N8, market.md M1 to M78. */
"use strict";

import { BLOCS, COUNTRIES, DEVICE_W, DISCS, EVIDENCE, POWER, TIME_PER_TOKEN_US } from "./messages.mjs";
import {
  Fault, HOLDS, addressOfKey, bytesOf, ceilDiv, hex, keccak, openEnvelope, peerId, require, same, structHash,
} from "./wire.mjs";

const [MACHINE_W, MOST_DEVICES, TOKEN_TIMES, TOKEN_SLACK_US, JOB_SLACK_US] = POWER;
export const SKEW_S = 60, JOB_SLACK = BigInt(JOB_SLACK_US);
const MOST_TTL_S = 900, UNDECLARED = "ZZ", ONE_PUE = 1000;
const countries = new Set(COUNTRIES);

// Places

const isPart = (code) => /^[A-Z]{2}-[A-Z0-9]{1,3}$/.test(code) && countries.has(code.slice(0, 2));
const isPlace = (code) => countries.has(code) || isPart(code);
const countryOf = (code) => code.slice(0, 2);
const isKnown = (code, blocs) => isPlace(code) || (Object.hasOwn(BLOCS, blocs) && Object.hasOwn(BLOCS[blocs], code));
const named = (codes, blocs) => new Set(codes.flatMap((code) => (Object.hasOwn(BLOCS[blocs], code) ? BLOCS[blocs][code] : [code])));

function standsIn(codes, place, blocs) {
  const all = named(codes, blocs);
  return all.has(countryOf(place)) || (isPart(place) && all.has(place));
}

const mayStandIn = (codes, place, blocs) =>
  standsIn(codes, place, blocs) || (!isPart(place) && codes.some((code) => code.startsWith(`${countryOf(place)}-`)));
const isIn = (place, area, blocs) => standsIn([area], place, blocs);
const placesOf = (offer) => [offer.region || offer.jurisdiction, ...offer.places];
const NEWEST = Object.keys(BLOCS).sort().at(-1);

HOLDS.Policy = (it) => {
  require(Object.hasOwn(BLOCS, it.blocs), "a table of blocs that is not known here");
  const areas = areasOf(it);
  require(areas.every((code) => isKnown(code, it.blocs)), "an area that is neither a place nor a bloc");
  require(!it.origin || isPlace(it.origin), "data that come from no place");
  require(!it.corridors.length || it.origin, "corridors, and no origin");
};
HOLDS.Anchor = (it) => require(isPlace(it.place), "an anchor at no place");
HOLDS.Trust = (it) => {
  for (const keys of [it.anchors.map((each) => hex(each.signer)), it.attestors.map(hex)]) require(new Set(keys).size === keys.length, "somebody is trusted twice");
};
HOLDS.Denial = (it) => {
  const means = {
    operator: () => /^0x[0-9a-f]{40}$/.test(it.value),
    place: () => isKnown(it.value, NEWEST),
    hardware: () => it.value !== "",
    statement: () => /^[0-9a-f]{64}$/.test(it.value),
  };
  require(means[it.what](), "a denial that denies nothing");
};

const areasOf = (policy) => [...policy.allow, ...policy.deny, ...policy.corridors.flatMap((each) => [each.source, each.to])];

// Rates

const SHARED = ["opening", "price_in", "price_out", "price_cached", "price_rejected"];

/** M7: rates for some of the blocks of an offer. */
export function share(rates, used, held) {
  const found = { ...rates };
  for (const each of SHARED) found[each] = Number(ceilDiv(BigInt(rates[each]) * BigInt(used), BigInt(held)));
  return found;
}

export const lengthOf = (span) => span.end - span.start;
const within = (inner, outer) => outer.start <= inner.start && inner.end <= outer.end;
const checkRates = (rates) => require(rates.price_cached <= rates.price_in, "a held position costs more than a computed one");

// Terms

export const legsOf = (terms) => [...terms.route, ...terms.standbys];

function checkCover(spans, blocks) {
  let at = 0;
  for (const span of spans) {
    require(span.start === at, `the route leaves a gap or overlaps at block ${at}`);
    at = span.end;
  }
  require(at === blocks, `the route ends at block ${at} of ${blocks}`);
}

/** N1 to N5, N8. `hash` is that of the terms' bytes. */
export function checkTerms(terms, hash, session, blocks) {
  require(same(session.terms, hash), "the terms are not those that the session names");
  const providers = legsOf(terms).map((leg) => hex(addressOfKey(leg.public_key)));
  require(providers.join() === session.legs.map((leg) => hex(leg.provider)).join(), "the session's legs are not those of the terms");
  require(new Set(providers).size === providers.length, "a provider is in the session twice");
  checkCover(terms.route.map((leg) => leg.span), blocks);
  require(terms.standbys.every((leg) => leg.span.end <= blocks), "a standby for blocks that the model does not have");
  const { plan, speculation, continues } = terms;
  require(Math.min(plan.prompt, plan.most, plan.chunk, plan.window, plan.ahead) >= 1, "a plan with a count of 0");
  require(terms.credit <= plan.window, "credit is at most one window");
  require(!speculation.depth === !speculation.flights, "drafts have a depth and flights, or neither");
  require(continues === null || (continues.positions >= 1 && continues.positions < plan.prompt), "a session that continues nothing");
  if (terms.sampling.shaping !== null) checkShaping(terms.sampling.shaping, plan.prompt);
  legsOf(terms).forEach((leg) => checkRates(leg.rates));
}

/** Token ids, 32 bits each. */
export function idBytes(ids) {
  const bytes = new Uint8Array(4 * ids.length), view = new DataView(bytes.buffer);
  ids.forEach((each, at) => view.setUint32(4 * at, each, true));
  return bytes;
}

const repeats = (shaping) => shaping.repetition_milli !== 1000;

function checkShaping(shaping, prompt) {
  const { biases, answered, told, grammar } = shaping, held = grammar !== null;
  const counts = held || shaping.frequency !== 2000 || shaping.presence !== 2000;
  require(shaping.repetition_milli >= 100, "a repetition penalty below 100 thousandths");
  require(biases.every(({ token }, at) => !at || biases[at - 1].token < token), "the tokens that have a bias do not rise");
  require(biases.every(({ lift }) => lift !== 100000), "a bias of nothing");
  require(repeats(shaping) || counts || biases.length, "what is said to change the logits changes nothing");
  require(answered < prompt && (!answered || counts), "more of the prompt counts as answer than can");
  require((told !== null) === (repeats(shaping) || answered > 0 || held), "the last leg is told of the prompt where it has to know, and nowhere else");
  require(!held || (grammar.size && grammar.masks), "a grammar without text, or masks of nobody");
}

/** Whether this is the text of the grammar that an answer is held to (N10); null where it is held to nothing. */
export function names(shaping, text) {
  const grammar = shaping === null ? null : shaping.grammar;
  if (grammar === null || text === null) return grammar === null && text === null;
  return text.length === grammar.size && same(keccak(text), grammar.text);
}

/** The hash of what the last leg is told of a prompt, and of a grammar (N8); null for nothing. */
export function toldOf(shaping, prompt, grammar) {
  if (shaping === null) return null;
  const different = repeats(shaping) ? [...new Set(prompt)].sort((one, other) => one - other) : [];
  const ids = [...different, ...prompt.slice(prompt.length - shaping.answered)];
  const bytes = new Uint8Array([...idBytes(ids), ...(grammar ?? [])]);
  return bytes.length ? keccak(bytes) : null;
}

/** Who serves a position. */
export function routeAt(terms, reroutes, position) {
  const last = reroutes.findLast((each) => each.position <= position);
  return last ? last.route : terms.route.map((each, leg) => ({ leg, span: each.span }));
}

/** N6: the reroutes of a session, in order. */
export function openReroutes(sealed, terms, session, blocks) {
  const reroutes = [], gone = new Set();
  let before = routeAt(terms, [], 0);
  sealed.forEach((data, at) => {
    const [reroute, signer] = openEnvelope(data, "Reroute");
    require(same(signer, session.client), "a reroute is not signed by the session's client");
    require(same(reroute.session, structHash(session)) && reroute.number === at + 1, "a reroute is for another session, or out of order");
    require(!at || reroute.position >= reroutes[at - 1].position, "a reroute goes back behind the one before");
    checkAssignments(reroute, before, gone, terms, blocks);
    const stays = new Set(reroute.route.map((each) => each.leg));
    for (const each of before) if (!stays.has(each.leg)) gone.add(each.leg);
    before = reroute.route;
    reroutes.push(reroute);
  });
  return reroutes;
}

function checkAssignments({ route }, before, gone, terms, blocks) {
  checkCover(route.map((each) => each.span), blocks);
  const legs = route.map((each) => each.leg), all = legsOf(terms);
  require(new Set(legs).size === legs.length && Math.max(...legs) < all.length, "a reroute names a leg twice, or one that there is not");
  require(!legs.some((leg) => gone.has(leg)), "a leg that was left does not come back");
  for (const { leg, span } of route) {
    require(within(span, all[leg].span), `leg ${leg} agreed to other blocks`);
    const held = before.find((each) => each.leg === leg)?.span ?? span;
    require(held.start === span.start && held.end === span.end, `leg ${leg} goes on, so it keeps its blocks`);
  }
}

// Offers

const mostMillijoules = (hardware, us) =>
  (BigInt(MACHINE_W + DEVICE_W[hardware.device] * Math.min(hardware.count, MOST_DEVICES)) * us) / 1000n;

/** M14: that a receipt's energy can have been drawn in so many microseconds. */
export function checkSpent(receipt, hardware, us) {
  const most = mostMillijoules(hardware, us);
  require(receipt.source === "unknown" || receipt.millijoules <= most, `leg ${receipt.leg} says more energy than its hardware can draw`);
}

function checkAddress(address, rest) {
  const found = /^\/(ip4|ip6|dns|dns4|dns6)\/([^/\s]{1,96})\/tcp\/([1-9][0-9]{0,4})(\/.*)$/s.exec(address);
  require(found !== null && Number(found[3]) < 65536 && rest(found[4]), "an address that cannot be dialled");
  const [, kind, host] = found;
  if (kind === "ip4") return require(isMachineV4(v4(host)), "an address of no machine");
  if (kind === "ip6") return require(isMachineV6(v6(host)), "an address of no machine");
  const label = "[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?", isV4 = v4(host);
  require(new RegExp(`^${label}(?:\\.${label})*$`).test(host) && (isV4 === null || isMachineV4(isV4)), "an address that cannot be dialled");
}

function v4(host) {
  const parts = /^(0|[1-9][0-9]{0,2})\.(0|[1-9][0-9]{0,2})\.(0|[1-9][0-9]{0,2})\.(0|[1-9][0-9]{0,2})$/.exec(host)?.slice(1).map(Number);
  return parts?.every((each) => each < 256) ? parts : null;
}

const isMachineV4 = (ip) => ip !== null && (ip[0] === 127 || !(ip.every((each) => each === 0) || ip[0] >= 224 || (ip[0] === 169 && ip[1] === 254)));

/** Sixteen-bit groups of an IPv6 address. */
function v6(host) {
  let text = host.replace(/%[^%]+$/, "");
  const tail = v4(text.slice(text.lastIndexOf(":") + 1));
  if (tail) text = text.slice(0, text.lastIndexOf(":") + 1) + `${((tail[0] << 8) | tail[1]).toString(16)}:${((tail[2] << 8) | tail[3]).toString(16)}`;
  const halves = text.split("::");
  if (halves.length > 2) return null;
  const groups = halves.map((half) => (half === "" ? [] : half.split(":")));
  if (groups.flat().some((each) => !/^[0-9a-fA-F]{1,4}$/.test(each))) return null;
  const missing = 8 - groups.flat().length;
  if (halves.length === 1 ? missing !== 0 : missing < 1) return null;
  const all = halves.length === 1 ? groups[0] : [...groups[0], ...Array(missing).fill("0"), ...groups[1]];
  return all.map((each) => parseInt(each, 16));
}

function isMachineV6(ip) {
  if (ip === null) return false;
  if (ip.slice(0, 5).every((each) => each === 0) && ip[5] === 0xffff) return isMachineV4([ip[6] >> 8, ip[6] & 255, ip[7] >> 8, ip[7] & 255]);
  if (ip.slice(0, 7).every((each) => each === 0) && ip[7] === 1) return true;
  const isSite = ip[0] >> 9 === 0x7e; // fc00::/7
  return isSite || ip[0] >> 6 === 0x3fb || ip[0] >> 13 === 1; // fec0::/10, 2000::/3; the rest is reserved, multicast, or of its own link
}

/** O6 for a receipt: M1 to M4 as of when it was issued, and that the leg's terms come from it. */
export function checkOffer(leg, sealed, terms) {
  require(same(keccak(sealed), leg.offer), "the terms name another offer");
  const [offer, signer] = openEnvelope(sealed, "Offer");
  require(same(offer.public_key, leg.public_key) && offer.expires_at === leg.offer_expires_at, "the offer is another provider's, or ends at another time");
  require(offer.issued_at < offer.expires_at && offer.expires_at <= offer.issued_at + MOST_TTL_S, "an offer that lasts too long, or not at all");
  checkExists(offer);
  checkFigures(offer);
  for (const each of offer.statements) require(same(openEnvelope(each, "Statement")[0].subject, offer.public_key), "a statement about another node");
  require(same(addressOfKey(offer.public_key), signer), "the offer is not signed by the node that it names");
  const fits = same(offer.venue, terms.venue) && same(offer.model, terms.model) && offer.activations.includes(terms.activations);
  require(fits, "the offer is for another ledger, model or number format");
  require(within(leg.span, offer.span), "the offer is for other blocks");
  const grammar = terms.sampling.shaping === null ? null : terms.sampling.shaping.grammar;
  const mayDraw = leg.span.end === terms.route.at(-1).span.end;
  require(grammar === null || !mayDraw || offer.masks === grammar.masks, "the offer is not for answers that are held to a grammar by these masks");
  const rates = share(offer.rates, lengthOf(leg.span), lengthOf(offer.span));
  require([...SHARED, "late_discount_ppm"].every((each) => rates[each] === leg.rates[each]), "the rates are not those of the offer");
  return offer;
}

function checkExists(offer) {
  require(offer.span.end <= offer.blocks, "blocks that the model does not have");
  require(countries.has(offer.jurisdiction) || offer.jurisdiction === UNDECLARED, "no country");
  require(!offer.region || (isPart(offer.region) && offer.region.startsWith(`${offer.jurisdiction}-`)), "no part of that country");
  require(offer.places.every(isPlace), "a place that is none");
  const places = placesOf(offer), trips = offer.round_trips.map((each) => hex(each.address));
  require(new Set(places).size === places.length, "a place named twice");
  require(!offer.places.length || offer.jurisdiction !== UNDECLARED, "further places, and the first is not declared");
  require(!offer.trains || offer.retention_s, "what is not kept trains no model");
  require(new Set(trips).size === trips.length, "two round trips to one node");
  const own = `/p2p/${peerId(offer.public_key)}`;
  offer.addresses.forEach((each) => checkAddress(each, (rest) => rest === own));
  offer.data_addresses.forEach((each) => checkAddress(each, (rest) => /^\/[a-z0-9-]{1,16}(?:\/[^/\s]{1,64}){0,2}$/.test(rest)));
  require(new Set(offer.activations).size === offer.activations.length && offer.hardware.count, "a number format twice, or no device");
}

function checkFigures(offer) {
  const { energy, limits } = offer;
  checkRates(offer.rates);
  require(offer.late_us >= offer.position_us, "an offer that is late by its own figures");
  require(offer.prompt_us && offer.position_us && limits.window && limits.chunk, "no computation takes no time");
  require(limits.credit <= limits.window, "credit is at most one window");
  if (energy === null) return;
  require(energy.millijoules_in && energy.millijoules_out && energy.batch && energy.pue_milli >= ONE_PUE, "an energy claim of nothing");
  require(energy.source !== "unknown", "an energy claim from nowhere");
  for (const [said, us] of [[energy.millijoules_in, offer.prompt_us], [energy.millijoules_out, offer.position_us]]) {
    const most = mostMillijoules(offer.hardware, BigInt(TOKEN_TIMES * us + TOKEN_SLACK_US));
    require(BigInt(said) <= most, "more energy for a token than its hardware can draw");
  }
}

/** O9. */
export function checkAcceptance(sealed, session, terms, leg) {
  const [acceptance, signer] = openEnvelope(sealed, "Acceptance");
  require(same(signer, session.legs[leg].provider), `the acceptance of leg ${leg} is not sealed by its provider`);
  const ours = same(acceptance.session, structHash(session)) && acceptance.leg === leg && same(acceptance.terms, session.terms);
  require(ours, `the acceptance of leg ${leg} is for another session, leg or terms`);
  require(acceptance.cached <= (terms.continues?.positions ?? 0), `leg ${leg} holds more positions than the session continues`);
  return acceptance;
}

// The law: what the hashes in a policy stand for

/** Trust, lists and round trips as the bundle shows them. */
export function lawBehind(terms, session, { trust, trustHash, lists, measured }) {
  const opened = lists.map((sealed) => {
    const [denials, issuer] = openEnvelope(sealed, "Denials");
    return { denials, issuer };
  });
  const { policy } = terms;
  require(policy.trust === null ? trust === null : trust !== null && same(policy.trust, trustHash), "the policy believes somebody else");
  const hashes = lists.map((each) => hex(keccak(each)));
  require(policy.lists.map(hex).join() === hashes.join(), "the policy names other lists");
  const active = opened.filter(({ denials }) => denials.effective_from <= session.expiry);
  const of = (what) => active.flatMap(({ denials, issuer }) => denials.entries.filter((each) => each.what === what).map((each) => ({ value: each.value, issuer })));
  return {
    trust,
    opened,
    until: session.expiry,
    operators: new Set(of("operator").map((each) => each.value)),
    places: of("place").map((each) => each.value),
    hardware: new Set(of("hardware").map((each) => each.value)),
    revoked: new Set(of("statement").map((each) => `${hex(each.issuer)} ${each.value}`)),
    trips: openTrips(measured, session),
  };
}

function openTrips(sealed, session) {
  if (sealed === null) return session.legs.map(() => null);
  const [found, signer] = openEnvelope(sealed, "RoundTrips");
  require(same(signer, session.client), "the round trips are not sealed by the session's client");
  require(same(found.session, structHash(session)) && found.us.length === session.legs.length, "the round trips are of another session");
  return found.us.map((us) => us || null);
}

/** M74: whether data may go from machines in all of these places to machines in all of those. */
function letsPass(policy, source, to, until) {
  if (!policy.origin) return true;
  const open = policy.corridors.filter((each) => each.purpose === policy.purpose && each.expires_at >= until);
  const may = (one, other) => {
    if (one === UNDECLARED || other === UNDECLARED) return false;
    if ([countryOf(one), countryOf(policy.origin)].includes(countryOf(other))) return true;
    return open.some((each) => isIn(one, each.source, policy.blocs) && isIn(other, each.to, policy.blocs));
  };
  return source.every((one) => to.every((other) => may(one, other)));
}

/** M74: each hop of the first route and of each reroute. */
export function checkHops(terms, session, offers, reroutes) {
  for (const route of [routeAt(terms, [], 0), ...reroutes.map((each) => each.route)]) {
    const legs = route.map((each) => each.leg);
    legs.forEach((leg, at) => {
      const next = legs[(at + 1) % legs.length];
      const lawful = legs.length < 2 || letsPass(terms.policy, placesOf(offers[leg]), placesOf(offers[next]), session.expiry);
      require(lawful, `the policy does not let data go from leg ${leg} to leg ${next}`);
    });
  }
}

/** M5: that the policy admits a leg, as of when its offer was issued. */
export function checkAdmitted(leg, offer, terms, law) {
  const { policy, plan } = terms, now = offer.issued_at, until = Math.max(now, law.until);
  const admits = (holds, why) => require(holds, `the policy does not admit leg ${leg}: ${why}`);
  admits(Object.hasOwn(TIME_PER_TOKEN_US, policy.latency_class), "jobs of that class are never sent over a network");
  checkPlaces(policy, offer, until, admits);
  checkLists(policy, offer, law, until, admits);
  const denies = policy.allow.length || policy.deny.length || policy.origin || policy.min_evidence !== "claimed";
  if (denies || law.places.length) {
    const backing = backingOf(policy, offer, law, now, law.trips[leg]);
    admits(!backing.disproved, "light contradicts its place");
    admits(EVIDENCE.indexOf(backing.evidence) >= EVIDENCE.indexOf(policy.min_evidence), `its place is only ${backing.evidence}`);
  }
  const { hardware, energy, limits } = offer, category = hardware.category;
  admits(!policy.deny_hardware.length || (category && !policy.deny_hardware.includes(category)), "its hardware is denied");
  admits(policy.max_retention_s === null || offer.retention_s <= policy.max_retention_s, "it may keep prompts for too long");
  admits(!policy.no_training || !offer.trains, "it may train models on prompts");
  const carbon = energy?.carbon_g_per_kwh ?? null;
  admits(policy.max_carbon_g_per_kwh === null || (carbon !== null && carbon <= policy.max_carbon_g_per_kwh), "its supply emits too much");
  admits(!policy.licenses.length || policy.licenses.includes(offer.license), "the model's licence is not wanted");
  admits(offer.precision === policy.precision, "it computes in another precision");
  admits(limits.context >= plan.prompt + plan.most - 1, "it has no room for so many positions");
  admits(limits.window >= plan.window && limits.chunk >= plan.chunk, "it serves smaller windows");
  const blocks = lengthOf(offer.span);
  for (const word of ["in", "out"]) {
    const cap = policy[`max_price_${word}`];
    admits(cap === null || ceilDiv(BigInt(offer.rates[`price_${word}`]), BigInt(blocks)) <= cap, "one block of it costs more than the route may");
  }
  admits(Math.floor(offer.position_us / blocks) <= TIME_PER_TOKEN_US[policy.latency_class], "one block of it is too slow");
}

function checkPlaces(policy, offer, until, admits) {
  admits(offer.jurisdiction !== UNDECLARED || !(policy.deny.length || policy.allow.length || policy.origin), "it does not say where it stands");
  for (const place of placesOf(offer)) {
    admits(!mayStandIn(policy.deny, place, policy.blocs), `${place} is denied`);
    admits(!policy.allow.length || standsIn(policy.allow, place, policy.blocs), `${place} is not allowed`);
    admits(letsPass(policy, [policy.origin], [place], until), `no corridor leads to ${place}`);
  }
}

function checkLists(policy, offer, law, until, admits) {
  if (!policy.lists.length) return;
  admits(law.opened.every(({ denials }) => denials.expires_at >= until), "a list has expired, or will before the job ends");
  admits(!law.places.length || offer.jurisdiction !== UNDECLARED, "it does not say where it stands");
  admits(!law.hardware.size || (offer.hardware.category && offer.hardware.name), "it does not say what hardware it is");
  admits(!law.operators.has(`0x${hex(addressOfKey(offer.public_key))}`), "it is on a list");
  admits(!placesOf(offer).some((place) => mayStandIn(law.places, place, policy.blocs)), "its place is on a list");
  admits(![offer.hardware.category, offer.hardware.name].some((each) => law.hardware.has(each)), "its hardware is on a list");
}

// How far a place is backed: M70 to M73

const OWN_SLACK_M = 25_000, EARTH_M = 6_371_009, LIGHT = 299_792_458;

function distance([north, east], [north2, east2]) {
  const [a, b, c, d] = [north, east, north2, east2].map((each) => (each * Math.PI) / 180);
  const half = Math.sin((c - a) / 2) ** 2 + Math.cos(a) * Math.cos(c) * Math.sin((d - b) / 2) ** 2;
  return Math.round(2 * EARTH_M * Math.asin(Math.min(1, Math.sqrt(half))));
}

function leastM(place, point) {
  const at = [(point.north - 90_000_000) / 1e6, (point.east - 180_000_000) / 1e6];
  const nearest = Math.min(...DISCS[countryOf(place)].map(([north, east, km]) => distance(at, [north, east]) - 1000 * km));
  return Math.max(0, nearest - Math.floor((nearest * 6000) / 1_000_000));
}

const reachM = (us) => Math.floor((us * LIGHT) / 3_000_000);

function backingOf(policy, offer, law, now, ownUs) {
  const { trust } = law;
  if (policy.trust === null || trust === null) return { evidence: "claimed" };
  const areas = [...areasOf(policy), ...law.places];
  const coarse = (place) => (areas.some((each) => each.startsWith(`${countryOf(place)}-`)) ? place : countryOf(place));
  const places = placesOf(offer).map(coarse), until = Math.max(now, law.until);
  const said = statementsOf(offer).filter(({ statement, signer, hash }) =>
    statement.issued_at <= now + SKEW_S && statement.expires_at >= until && !law.revoked.has(`${hex(signer)} ${hash}`));
  const timed = timings(said, trust, ownUs);
  if (places.every((place) => liesAbout(place, timed))) return { evidence: "claimed", disproved: true };
  const attested = (place) => said.some(({ statement, signer }) => statement.claim === "place" && isPlace(statement.value)
    && trust.attestors.some((each) => same(each, signer)) && isIn(statement.value, place, NEWEST));
  if (places.every(attested)) return { evidence: "attested" };
  return places.length === 1 ? timedBacking(places[0], timed) : { evidence: "claimed" };
}

function statementsOf(offer) {
  return offer.statements.flatMap((sealed) => {
    const [statement, signer] = openEnvelope(sealed, "Statement");
    return same(statement.subject, offer.public_key) ? [{ statement, signer, hash: hex(keccak(sealed)) }] : [];
  });
}

function timings(said, trust, ownUs) {
  const shortest = new Map();
  for (const { statement, signer } of said) {
    if (statement.claim !== "rtt" || !/^[1-9][0-9]{0,9}$/.test(statement.value)) continue;
    const who = hex(signer), us = Number(statement.value);
    shortest.set(who, Math.min(us, shortest.get(who) ?? us));
  }
  const anchors = trust.anchors.filter((each) => shortest.has(hex(each.signer))).map((each) => [each, shortest.get(hex(each.signer))]);
  return { anchors, trust, ownUs: trust.stands === null ? null : ownUs };
}

function liesAbout(place, { anchors, trust, ownUs }) {
  if (ownUs !== null && Math.max(0, leastM(place, trust.stands) - OWN_SLACK_M) > reachM(ownUs)) return true;
  return anchors.filter(([each, us]) => leastM(place, each.at) > reachM(us)).length > trust.lying;
}

function timedBacking(place, { anchors, trust, ownUs }) {
  const inside = anchors.filter(([each, us]) => isIn(each.place, place, NEWEST) && reachM(us) <= each.inside_m);
  if (inside.length > trust.lying) return { evidence: "rtt_proven" };
  const heard = anchors.filter(([each, us]) => leastM(place, each.at) <= reachM(us));
  return { evidence: heard.length > trust.lying || ownUs !== null ? "rtt_consistent" : "claimed" };
}
