import OpenAI from "openai";
import { expect, plays } from "./scenario.mjs";

const MODEL = "gpt-4o";
const QUESTION = "What is the capital of Portugal?";
const client = new OpenAI(); // OPENAI_BASE_URL, OPENAI_API_KEY
const TOOL = {
  type: "function",
  function: {
    name: "find_order",
    parameters: { type: "object", properties: { number: { type: "string" } }, required: ["number"] },
  },
};
const user = (content) => [{ role: "user", content }];

const scenarios = {
  async chat() {
    const answer = await client.chat.completions.create({ model: MODEL, messages: user(QUESTION), temperature: 0.2 });
    expect(answer.choices[0].message.content.includes("Lisbon"), answer);
  },
  async stream() {
    let text = "";
    const pieces = await client.chat.completions.create({ model: MODEL, messages: user(QUESTION), stream: true });
    for await (const piece of pieces) text += piece.choices[0]?.delta?.content ?? "";
    expect(text.includes("Lisbon"), text);
  },
  async tools() {
    const ran = client.chat.completions.runTools({
      model: MODEL,
      messages: user(QUESTION),
      tools: [{ ...TOOL, function: { ...TOOL.function, parse: JSON.parse, function: ({ number }) => `${number} sent` } }],
    });
    expect((await ran.finalContent()).includes("Lisbon"), "no answer");
  },
  async structured() {
    const schema = {
      type: "object",
      properties: { name: { type: "string" }, people: { type: "integer" } },
      required: ["name", "people"],
      additionalProperties: false,
    };
    const response_format = { type: "json_schema", json_schema: { name: "city", strict: true, schema } };
    const answer = await client.chat.completions.create({ model: MODEL, messages: user(QUESTION), response_format });
    expect(JSON.parse(answer.choices[0].message.content).people === 7, answer);
  },
  async slow() {
    let text = "";
    const messages = user(`${QUESTION} [slow]`);
    for await (const piece of await client.chat.completions.create({ model: MODEL, messages, stream: true }))
      text += piece.choices[0]?.delta?.content ?? "";
    expect(text.includes("Portugal"), text);
  },
  async responses() {
    const answer = await client.responses.create({ model: MODEL, input: QUESTION });
    expect(answer.output_text.includes("Lisbon"), answer);
  },
  async refused() {
    try {
      await client.chat.completions.create({ model: MODEL, messages: user(`${QUESTION} [refuse]`) });
    } catch (error) {
      expect(error.message.includes("could not be read"), error.message);
      return;
    }
    throw new Error("no error");
  },
};

await plays(scenarios);
