// OpenAI's own JavaScript package against a gateway: `node with_openai.mjs URL`. Every claim that fails is an error.
import assert from "node:assert";
import { createRequire } from "node:module";

const require = createRequire(process.argv[3] + "/");
const OpenAI = require("openai").OpenAI ?? require("openai").default;
const client = new OpenAI({ baseURL: process.argv[2], apiKey: "any" });
const say = (content) => ({ model: "tales", messages: [{ role: "user", content }] });

const answer = await client.chat.completions.create({ ...say("go on"), max_tokens: 9, seed: 1 });
assert.equal(answer.choices[0].message.content, "Once upon a time");

let said = "", usage = null;
const stream = await client.chat.completions.create({
  ...say("go on"), stream: true, stream_options: { include_usage: true },
});
for await (const chunk of stream) {
  usage = chunk.usage ?? usage;
  said += chunk.choices[0]?.delta?.content ?? "";
}
assert.equal(said, "Once upon a time");
assert.equal(usage.completion_tokens, 4);

const tools = [{ type: "function", function: { name: "weather", parameters: { type: "object", properties: {} } } }];
const called = await client.chat.completions.create({ ...say("weather"), tools });
assert.deepEqual(JSON.parse(called.choices[0].message.tool_calls[0].function.arguments), { place: "Lyon" });

await assert.rejects(
  () => client.chat.completions.create({ ...say("go on"), top_logprobs: 3 }),
  (error) => error instanceof OpenAI.BadRequestError && error.param === "top_logprobs",
);
await assert.rejects(async () => {
  for await (const _ of await client.chat.completions.create({ ...say("break"), stream: true }));
});
assert.ok((await client.chat.completions.create(say("later"))).choices[0].message.content);

const endless = await client.chat.completions.create({ ...say("for ever"), stream: true });
for await (const _ of endless) break; // and leave

const body = JSON.stringify({ custom_id: "a", method: "POST", url: "/v1/chat/completions", body: say("go on") });
const file = await client.files.create({ file: new File([body], "in.jsonl"), purpose: "batch" });
let batch = await client.batches.create({
  input_file_id: file.id, endpoint: "/v1/chat/completions", completion_window: "24h",
});
while (batch.status === "in_progress") batch = await client.batches.retrieve(batch.id);
assert.equal(batch.status, "completed");
assert.ok((await (await client.files.content(batch.output_file_id)).text()).includes("Once upon a time"));
console.log("well");
