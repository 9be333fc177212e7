/* The receipt verifier's part of the page. The file stays in this browser; what it says is written as text. */
"use strict";

const ENOUGH_MS = 120_000, MOST_BYTES = 64 * 1024 * 1024, SIGNS = new Map([[true, "holds"], [false, "does not hold"], [null, "not looked at"]]);
const place = document.getElementById("verify"), result = make("div", { id: "verdict", role: "status" });
const input = make("input", { type: "file", id: "receipt", accept: ".json,application/json" });
let worker = null;

function ask(file) {
  worker?.terminate();
  if (file.size > MOST_BYTES) return tell("fail", "No receipt is so long.");
  tell("empty", `looking at ${file.name} ...`);
  const mine = worker = new Worker("verify/worker.mjs", { type: "module" });
  const late = setTimeout(() => over("fail", "It takes too long: joule receipt verify is quicker."), ENOUGH_MS);
  const over = (kind, said) => {
    clearTimeout(late);
    mine.terminate();
    if (mine === worker) tell(kind, said);
  };
  mine.addEventListener("error", () => over("fail", "This browser cannot verify it: use joule receipt verify."));
  mine.addEventListener("message", ({ data }) => {
    over("", "");
    if (mine === worker) result.replaceChildren(...shown(file.name, data));
  });
  file.arrayBuffer().then((bytes) => mine.postMessage(bytes, [bytes]), () => over("fail", "The file cannot be read."));
}

function tell(kind, said) {
  result.replaceChildren(make("p", { class: kind }, said));
}

function shown(name, { verified, clauses, proven }) {
  const kind = verified ? "ok" : "fail", said = verified ? "All of it holds." : "It does not hold.";
  return [make("h3", {}, name), make("p", { class: kind, id: "said" }, said), proven ? what(proven) : null, make("ol", { class: "clauses" }, clauses.map(clause))]
    .filter((each) => each !== null);
}

function clause({ clause: name, about, holds, why }) {
  const kind = holds === true ? "ok" : holds === false ? "fail" : "empty";
  return make("li", { class: kind, "data-clause": name }, make("strong", {}, `${name}: ${SIGNS.get(holds)}`), make("span", {}, about), why ? make("em", {}, why) : null);
}

function what(proven) {
  const dollars = (micro) => money(Number(micro));
  const counts = facts([
    ["model", proven.model], ["tokens in", String(proven.tokens_in)], ["tokens out", String(proven.tokens_out)], ["windows", String(proven.windows)], ...(proven.withheld ? [["prompt and answer", "withheld; their hashes are signed for"]] : []),
    ["paid", proven.amounts.map(dollars).join(" + ")], ["went back", dollars(proven.refunded)], ["still held", dollars(proven.held)],
    ["paid by", short(proven.client)],
  ]);
  const { transactions } = proven, by = transactions.length ? "contract" : "ledger with this key";
  const ledger = make("p", {}, `It was settled by the ${by}. That it is the one you mean, only you can say: `, make("span", { class: "mono" }, proven.verifier_key));
  const left = transactions.every((each) => each.included) ? "that these blocks are the chain's" : "that the chain has these blocks, and that they hold the transactions";
  const chain = transactions.length ? make("p", { class: "note" }, `What a node of the chain has to say (joule receipt verify --rpc URL): ${left}. `,
    ...transactions.map((each) => make("span", { class: "mono" }, `${each.block} ${each.block_hash} `))) : null;
  const text = proven.text === null ? null : make("details", {}, make("summary", {}, "Prompt and answer"), make("pre", {}, proven.text.join("\n\n")));
  const open = proven.complete ? null : make("p", { class: "note" }, "It is incomplete: nothing is shown of its last windows' sketches.");
  return make("div", {}, ...[counts, open, ledger, chain, text].filter((each) => each !== null));
}

const box = wide("Verify a receipt",
  make("p", {}, "Choose a receipt, or drop it here. It is held against the specification in this browser, and goes nowhere."),
  make("label", { class: "drop", for: "receipt" }, input), result);
place.append(box);
input.addEventListener("change", () => { if (input.files.length) ask(input.files[0]); });
for (const kind of ["dragover", "drop"]) {
  place.addEventListener(kind, (event) => {
    event.preventDefault();
    if (kind === "drop" && event.dataTransfer.files.length) ask(event.dataTransfer.files[0]);
  });
}
