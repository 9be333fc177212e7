/** The page's verifier over receipts: a JSON list of files' texts on standard input, a list of what it says on output. */
import { verify } from "../../node/page/assets/verify/verify.mjs";

const chunks = [];
for await (const chunk of process.stdin) chunks.push(chunk);
const encoder = new TextEncoder();
const said = JSON.parse(Buffer.concat(chunks)).map((text) => verify(encoder.encode(text)));
process.stdout.write(JSON.stringify(said));
