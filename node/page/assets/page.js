// The live page. All text in it is written as text: names and reasons are other people's words.
"use strict";

const EVERY_MS = 5000;
const GRAIN = 2; // steps of land.svg in a degree
const SVG = "http://www.w3.org/2000/svg";

/** An element with attributes and children; strings become text. */
function make(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

function draw(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, String(value));
  element.append(...children.flat().filter((each) => each !== null && each !== undefined));
  return element;
}

function card(title, ...children) {
  return make("article", { class: "card" }, make("h2", {}, title), ...children);
}

function wide(title, ...children) {
  const found = card(title, ...children);
  found.classList.add("wide");
  return found;
}

function facts(pairs) {
  return make("dl", { class: "facts" }, pairs.map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value))));
}

/** Columns are [heading, is a number]; a cell is text or an element. */
function table(columns, rows, none) {
  if (!rows.length) return make("p", { class: "empty" }, none);
  const cell = (tag, value, number) => make(tag, number ? { class: "number" } : {}, value);
  return make("div", { class: "scroll" }, make("table", {},
    make("thead", {}, make("tr", {}, columns.map(([name, number]) => cell("th", name, number)))),
    make("tbody", {}, rows.map((row) => make("tr", {}, row.map((value, at) => cell("td", value, columns[at][1])))))));
}

const money = (micro) => (micro === null ? "?" : "$" + (micro / 1e6).toLocaleString("en", { maximumFractionDigits: 6 }));
const perMillion = (micro) => "$" + (micro / 1e6).toPrecision(3).replace(/\.?0+$/, "");
const joules = (millijoules) => (millijoules === null ? "?" : (millijoules / 1000).toPrecision(3) + " J");
const short = (address) => make("span", { class: "mono", title: address }, address.slice(0, 10) + "…");
const when = (seconds) => new Date(seconds * 1000).toLocaleString();
const speed = (milli) => (milli / 1000).toPrecision(3).replace(/\.?0+$/, "") + "/s";

// Pictures

function map(places) {
  const known = places.filter((each) => each.north !== null);
  const most = Math.max(1, ...known.map((each) => each.offers));
  const spots = known.map((each) => {
    const x = (each.east + 180) * GRAIN, y = (90 - each.north) * GRAIN, r = 5 + 11 * Math.sqrt(each.offers / most);
    const said = `${each.place}: ${each.offers} offers, from ${perMillion(each.low_out)} for 1M tokens`;
    return draw("g", {}, draw("circle", { class: "spot", cx: x, cy: y, r }, draw("title", {}, said)),
      draw("text", { class: "label", x: x + r + 3, y: y + 4 }, each.place));
  });
  const size = `0 0 ${360 * GRAIN} ${180 * GRAIN}`;
  return make("div", { class: "map" }, make("img", { src: "land.svg", alt: "" }),
    draw("svg", { viewBox: size, role: "img", "aria-label": "Where offers say that they stand" }, spots));
}

function bars(values, name, best) {
  const width = 600, height = 70, step = width / Math.max(1, values.length), most = Math.max(1, ...values);
  const drawn = values.map((value, at) => {
    const tall = value > 0 ? Math.max(2, (value / most) * (height - 16)) : height - 16;
    return draw("rect", { class: value > 0 ? "bar" : "none", x: at * step, y: height - tall, width: Math.max(1, step - 1.5),
      height: tall }, draw("title", {}, best(value, at)));
  });
  return draw("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": name }, drawn);
}

/** The ask of 48 hours against what energy costs now. */
function curve(ask, cost) {
  const width = 600, height = 150, left = 62, most = Math.max(...ask, cost ?? 0, 1), hours = Math.max(1, ask.length - 1);
  const x = (hour) => left + (hour / hours) * (width - left - 8), y = (value) => height - 22 - (value / most) * (height - 36);
  const path = ask.map((value, hour) => `${hour ? "L" : "M"}${x(hour)} ${y(value)}`).join("");
  const marks = [[0, "start"], [Math.round(hours / 2), "middle"], [hours, "end"]].map(([hour, anchor]) =>
    draw("text", { x: x(hour), y: height - 6, "text-anchor": anchor }, hour ? `+${hour} h` : "now"));
  const line = cost === null ? null : draw("path", { class: "cost", d: `M${left} ${y(cost)}H${width - 8}` }, draw("title", {}, "energy now"));
  return draw("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": "Ask of the hours to come" },
    draw("path", { class: "axis", d: `M${left} ${height - 22}H${width - 8}` }), draw("path", { class: "line", d: path }), line,
    draw("text", { x: 0, y: y(ask[0]) + 4 }, perMillion(ask[0])), marks);
}

// Views

function network({ network: seen }) {
  const top = wide("Network", facts([
    ["ledger", seen.venue],
    ["offers", String(seen.heard)],
    ["operators", String(new Set(seen.offers.map((each) => each.provider)).size)],
    ["log entries", seen.checkpoint ? seen.checkpoint.size.toLocaleString("en") : "–"],
    ["trusted witnesses", String(seen.witnesses)],
  ]), seen.error ? make("p", { class: "fail" }, seen.error) : null,
  seen.checkpoint ? make("p", { class: "mono" }, `${seen.checkpoint.origin} ${seen.checkpoint.root}`) : null);
  return [top, wide("Where offers say that they stand", map(seen.places)), ...seen.models.map(model),
    wide("Book, cheapest first", table(
      [["provider"], ["model"], ["blocks"], ["place"], ["in $/1M", true], ["out $/1M", true], ["J/token", true], ["source"], ["free", true]],
      seen.offers.map((each) => [short(each.provider), each.model, each.blocks, each.place, perMillion(each.price_in),
        perMillion(each.price_out), joules(each.millijoules), each.source, String(each.free)]),
      "No offers heard. Is a node running, and is the ledger the right one?"))];
}

function model(each) {
  const share = each.concentration;
  return card(`${each.name} (${each.precision})`, facts([
    ["blocks", String(each.blocks)], ["operators", String(each.operators)], ["free places", String(each.free_places)],
    ["scarcest block", speed(each.capacity)], ["concentration (HHI)", share.hhi === null ? "–" : String(share.hhi)],
    ["hold half", String(share.hold_half)],
  ]), make("h3", {}, each.uncovered.length ? `Nobody serves blocks ${each.uncovered.join(", ")}` : "Tokens a second, block by block"),
  bars(each.supply, "Capacity by block", (value, at) => `block ${at}: ${speed(value)}`),
  make("h3", {}, "Prices by place, $ per 1M tokens of the whole model"),
  table([["place"], ["offers", true], ["in, least", true], ["out, least", true], ["out, median", true]],
    each.by_place.map((at) => [at.name, String(at.offers), perMillion(at.low_in), perMillion(at.low_out), perMillion(at.median_out)]), "–"));
}

function nodes({ nodes: running }) {
  if (!running.length) return [wide("Nodes here", make("p", { class: "empty" }, "No node runs with this data directory. Start one: joule node setup"))];
  return running.flatMap(node);
}

function node(each) {
  const energy = each.energy;
  const figures = card(each.serves || "starting", facts([
    ["address", short(each.address)], ["jobs now", String(each.jobs)],
    ["tokens/s, last hour", each.tokens_per_s === null ? "–" : String(each.tokens_per_s)],
    ["power", energy && energy.microwatts !== null ? (energy.microwatts / 1e6).toFixed(1) + " W" : "?"],
    ["J/token", energy && energy.microjoules_out !== null ? (energy.microjoules_out / 1e6).toPrecision(3) : "?"],
    ["a day's power", energy ? money(energy.day_cost) : "?"],
  ]), energy ? make("p", { class: "empty" }, `${energy.source}: ${energy.meter}`) : null,
  each.ask.length ? [make("h3", {}, "Ask for 1M tokens through its blocks (line), and their energy now (dashes)"), curve(each.ask, each.energy_cost)] : null,
  make("h3", {}, "Earned, day by day"),
  table([["day"], ["jobs", true], ["tokens", true], ["earned", true], ["power", true], ["left", true]],
    each.days.map((day) => [day.key, String(day.jobs), String(day.tokens_out), money(day.gross), money(day.power_cost), money(day.net)]),
    "No job yet."));
  const health = card("Is all well?", each.findings.length ? make("ul", { class: "findings" }, each.findings.map(finding))
    : make("p", { class: "empty" }, "Looking ..."),
  make("h3", {}, "Orders refused today"),
  table([["reason"], ["last said"], ["times", true]], each.refusals.map((why) => [why.code, why.reason, String(why.count)]), "None."));
  return [figures, health];
}

function finding(found) {
  const said = `${found.what}: ${found.detail}`;
  return make("li", { class: found.level }, make("span", {}, said), found.fix ? make("em", {}, found.fix) : null);
}

function jobs({ client }) {
  return [wide("My jobs", facts([
    ["account", client.address ? short(client.address) : "no key"], ["free", money(client.free)], ["spent, last 200 receipts", money(client.spent)],
    ["receipts", String(client.kept)],
  ])), ...markets(client.markets), wide("Receipts, newest first", table(
    [["when"], ["model"], ["in", true], ["out", true], ["paid", true], ["verified"], ["file"]],
    client.receipts.map((each) => [when(each.time), each.model ?? "?", String(each.tokens_in ?? "?"), String(each.tokens_out ?? "?"),
      money(each.paid), make("span", { class: each.verified ? "ok" : "fail" }, each.verified ? "yes" : `no: ${each.error.message}`), each.file]),
    "No receipts yet: joule run keeps them."))];
}

/** What the gateway's key has wherever it buys. */
function markets(found) {
  if (!found.length) return [];
  const sum = (what) => money(found.reduce((all, each) => all + (each[what] ?? 0), 0));
  const rows = found.map((each) => [each.market, each.venue, money(each.free), money(each.held), make("span", { class: each.error ? "fail" : "ok" }, each.error || "yes")]);
  return [wide("Markets of the gateway", table([["market"], ["ledger or contract"], ["free", true], ["held", true], ["answers"]],
    [...rows, ["all", "", sum("free"), sum("held"), ""]], ""))];
}

// Life

const views = { network, nodes, jobs, verify: null }; // the last is receipt.js's
let state = null, last = "";

function show() {
  const chosen = location.hash.slice(1) in views ? location.hash.slice(1) : "network";
  for (const button of document.querySelectorAll("nav button")) button.setAttribute("aria-pressed", String(button.dataset.view === chosen));
  for (const name of Object.keys(views)) document.getElementById(name).hidden = name !== chosen;
  if (state && views[chosen]) document.getElementById(chosen).replaceChildren(...views[chosen](state));
}

async function refresh() {
  const fresh = document.getElementById("fresh");
  try {
    const answer = await fetch("state", { cache: "no-store" });
    if (!answer.ok) throw new Error(`${answer.status} ${await answer.text()}`);
    const said = await answer.text();
    state = JSON.parse(said);
    const shown = JSON.stringify({ ...state, at: 0 });
    if (shown !== last) { last = shown; show(); } // what has not changed keeps its scroll and selection
    fresh.className = "";
    fresh.textContent = `as of ${new Date(state.at * 1000).toLocaleTimeString()}`;
  } catch (error) {
    fresh.className = "late";
    fresh.textContent = `no answer (${error.message}); shown is what was last known`;
  }
  setTimeout(refresh, document.hidden ? 6 * EVERY_MS : EVERY_MS);
}

for (const button of document.querySelectorAll("nav button")) button.addEventListener("click", () => { location.hash = button.dataset.view; });
addEventListener("hashchange", show);
show();
refresh();
