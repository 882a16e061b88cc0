import { createOpenAI, openai } from "@ai-sdk/openai";
import { generateText, jsonSchema, stepCountIs, streamText, tool, Output } from "ai";
import { expect, plays } from "./scenario.mjs";

const QUESTION = "What is the capital of Portugal?";
const city = jsonSchema({
  type: "object",
  properties: { name: { type: "string" }, people: { type: "integer" } },
  required: ["name", "people"],
  additionalProperties: false,
});
const find_order = tool({
  description: "Where an order is.",
  inputSchema: jsonSchema({ type: "object", properties: { number: { type: "string" } }, required: ["number"] }),
  execute: async ({ number }) => `${number} was sent`,
});

const scenarios = {};
for (const [name, model] of [
  ["default", openai("gpt-4o")], // the Responses interface
  ["chat", createOpenAI().chat("gpt-4o")],
]) {
  scenarios[`${name} text`] = async () => {
    const { text } = await generateText({ model, prompt: QUESTION, maxRetries: 0 });
    expect(text.includes("Lisbon"), text);
  };
  scenarios[`${name} stream`] = async () => {
    let text = "";
    for await (const piece of streamText({ model, prompt: QUESTION, maxRetries: 0 }).textStream) text += piece;
    expect(text.includes("Lisbon"), text);
  };
  scenarios[`${name} tools`] = async () => {
    const options = { model, prompt: QUESTION, tools: { find_order }, stopWhen: stepCountIs(3), maxRetries: 0 };
    const { text } = await generateText(options);
    expect(text.includes("Lisbon"), text);
  };
  scenarios[`${name} structured`] = async () => {
    const made = await generateText({ model, prompt: QUESTION, output: Output.object({ schema: city }), maxRetries: 0 });
    expect(made.output.people === 7, made.output);
  };
}

// Without this it refers to its earlier answers by their ids.
scenarios["default turns"] = async () => {
  const messages = [];
  for (const content of [QUESTION, "And again?"]) {
    messages.push({ role: "user", content });
    const providerOptions = { openai: { store: false } };
    const { response, text } = await generateText({ model: openai("gpt-4o"), messages, providerOptions, maxRetries: 0 });
    messages.push(...response.messages);
    expect(text.includes("Lisbon"), text);
  }
};

await plays(scenarios);
