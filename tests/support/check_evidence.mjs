/** The page's verifier over evidence from a contract: `{contract, pieces}` on standard input, what it says on output. */
import { checkChainProof, parseContract } from "../../node/page/assets/verify/contract.mjs";
import { Fault, hex } from "../../node/page/assets/verify/wire.mjs";

const chunks = [];
for await (const chunk of process.stdin) chunks.push(chunk);
const given = JSON.parse(Buffer.concat(chunks)), contract = parseContract(given.contract);
const said = given.pieces.map((piece) => {
  try {
    const { action, effects } = checkChainProof(Uint8Array.from(Buffer.from(piece, "hex")), contract);
    const actor = hex(action.actor), marks = ({ settled, ceilings }) => ({ settled: settled.map(String), ceilings: ceilings.map(String) });
    return { action: action.is, actor, sessions: effects.map((each) => ({ session: hex(each.session), ...marks(each) })) };
  } catch (error) {
    if (!(error instanceof Fault)) throw error;
    return { refused: error.message };
  }
});
process.stdout.write(JSON.stringify(said));
