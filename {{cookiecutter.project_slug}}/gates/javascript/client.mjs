// A product in JavaScript on the official `openai` package, unchanged but for address and key: what it sees, as JSON.
import OpenAI from "openai";

const { address, key, tasks } = JSON.parse(process.argv[2]);
const client = new OpenAI({ baseURL: address, apiKey: key });
const asked = (name, more = {}) => ({ model: "gpt-4o", messages: [{ role: "user", content: tasks[name] }], ...more });
const tools = [
  {
    type: "function",
    function: { name: "find_order", parameters: { type: "object", properties: { number: { type: "string" } } } },
  },
];

const steps = {
  async plain() {
    const answer = await client.chat.completions.create(asked("plain"));
    return { text: answer.choices[0].message.content, tokens: answer.usage.total_tokens };
  },
  async stream() {
    const pieces = await client.chat.completions.create(
      asked("stream", { stream: true, stream_options: { include_usage: true } }),
    );
    let text = "";
    let tokens = 0;
    for await (const piece of pieces) {
      text += piece.choices[0]?.delta?.content ?? "";
      tokens = piece.usage?.total_tokens ?? tokens;
    }
    return { text, tokens };
  },
  async helper() {
    const answer = await client.chat.completions.stream(asked("helper")).finalChatCompletion();
    return { text: answer.choices[0].message.content };
  },
  async tools() {
    const request = asked("tools", { tools });
    const { message } = (await client.chat.completions.create(request)).choices[0];
    const [call] = message.tool_calls;
    request.messages.push(message, { role: "tool", tool_call_id: call.id, content: "sent on Monday" });
    const last = await client.chat.completions.create(request);
    return { called: call.function, text: last.choices[0].message.content };
  },
  async left() {
    const pieces = await client.chat.completions.create(asked("left", { stream: true }));
    for await (const _ of pieces) break; // the package ends the request where its reader stops
    return { left: true };
  },
  async names() {
    const names = [];
    for await (const model of client.models.list()) names.push(model.id);
    return { names };
  },
  async unknown() {
    return client.chat.completions.create({ ...asked("plain"), model: "gpt-9" });
  },
  async stranger() {
    const other = new OpenAI({ baseURL: address, apiKey: `${key.slice(0, -4)}AAAA` });
    return other.chat.completions.create(asked("plain"));
  },
  async broken() {
    return client.chat.completions.create(asked("broken"), { maxRetries: 0 });
  },
  async spent() {
    return client.chat.completions.create(asked("spent")); // with the retries that the package does by itself
  },
};

const step = process.argv[3];
try {
  console.log(JSON.stringify(await steps[step]()));
} catch (error) {
  const { status, code, type, message } = error;
  console.log(JSON.stringify({ error: error.constructor.name, status, code, type, message }));
}
