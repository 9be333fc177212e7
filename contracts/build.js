// Compiles with the pinned solc, offline. Writes JSON with the ABI and code of each contract,
// and where in its deployed code values stand that are only known then.
//   node build.js             the contract and a token for the demo into the package, the test tokens into tests/support
//   node build.js FILE.sol ... what the files declare, to standard output (for tests that change the source)
"use strict";

const crypto = require("node:crypto");
const fs = require("node:fs");
const path = require("node:path");
const solc = require("solc");

const SETTINGS = {
  evmVersion: "cancun",
  viaIR: true,
  optimizer: { enabled: true, runs: 1000000 },
  metadata: { bytecodeHash: "none", appendCBOR: false },
  outputSelection: { "*": { "*": ["abi", "evm.bytecode.object", "evm.deployedBytecode"], "": ["ast"] } },
};
// "Transient storage can break composability": in OpenZeppelin's guard, which clears what it stores.
const KNOWN = "2394";

function imported(name) {
  const file = path.join(__dirname, "node_modules", name);
  return fs.existsSync(file) ? { contents: fs.readFileSync(file, "utf8") } : { error: "not found" };
}

function compile(file, strict) {
  const unit = path.basename(file);
  const sources = { [unit]: { content: fs.readFileSync(file, "utf8") } };
  const input = JSON.stringify({ language: "Solidity", sources, settings: SETTINGS });
  const output = JSON.parse(solc.compile(input, { import: imported }));
  const complaints = (output.errors || []).filter((each) => each.errorCode !== KNOWN);
  process.stderr.write(complaints.map((each) => each.formattedMessage).join("\n"));
  if (complaints.some((each) => strict || each.severity === "error")) process.exit(1);
  const names = variables(Object.values(output.sources).map((source) => source.ast));
  const built = {};
  for (const [name, contract] of Object.entries(output.contracts[unit])) {
    if (!contract.evm.bytecode.object) continue;
    const immutables = {};
    for (const [id, places] of Object.entries(contract.evm.deployedBytecode.immutableReferences || {})) {
      immutables[names[id]] = places.map((place) => place.start);
    }
    const { bytecode, deployedBytecode } = contract.evm;
    built[name] = { abi: contract.abi, bytecode: bytecode.object, deployed: deployedBytecode.object, immutables };
  }
  return built;
}

// Names of variables by their number in the syntax tree: what the compiler calls immutable values by.
function variables(node, names = {}) {
  if (node === null || typeof node !== "object") return names;
  if (node.nodeType === "VariableDeclaration") names[node.id] = node.name;
  for (const child of Object.values(node)) variables(child, names);
  return names;
}

function write(target, source, built) {
  const { outputSelection, ...settings } = SETTINGS;
  const sha256 = crypto.createHash("sha256").update(fs.readFileSync(source)).digest("hex");
  const document = { compiler: solc.version(), settings, sha256, contracts: built };
  fs.writeFileSync(path.join(__dirname, "..", target), JSON.stringify(document, null, 1) + "\n");
}

if (process.argv.length > 2) {
  const built = process.argv.slice(2).map((file) => compile(file, false));
  process.stdout.write(JSON.stringify(Object.assign({}, ...built)));
} else {
  const [settlement, others] = ["Settlement.sol", "Tokens.sol"].map((name) => path.join(__dirname, name));
  write("node/settlement/contract.json", settlement, compile(settlement, true));
  const tokens = compile(others, true);
  write("tests/support/tokens.json", others, tokens);
  write("node/demo/token.json", others, { PlainToken: tokens.PlainToken });
}
