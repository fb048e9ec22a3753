// The chat box: a conversation with the current policy, streamed.

import { ask, byId, element } from "./dom.js";

let messages = [];
let going = null;

function turn(role, words) {
  const text = element("pre", { textContent: words });
  const row = element("li", { className: role }, text);
  byId("turns").append(row);
  row.scrollIntoView({ block: "nearest" });
  return { row, text };
}

async function* chunks(answer) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n\n");
    rest = lines.pop();
    for (const line of lines) if (line !== "data: [DONE]") yield JSON.parse(line.slice("data: ".length));
  }
}

async function send() {
  const asked = byId("message").value.trim();
  if (!asked || going) return;
  going = messages = [...messages, { role: "user", content: asked }];
  const conversation = going;
  byId("message").value = "";
  turn("user", asked);
  const { row, text } = turn("assistant", "…");
  let words = "";
  try {
    const answer = await ask("/v1/chat/completions", { model: byId("model").value, messages: conversation, stream: true });
    for await (const chunk of chunks(answer)) {
      if (chunk.error) throw new Error(chunk.detail);
      words += chunk.choices[0].delta.content;
      if (going === conversation) text.textContent = words;
    }
    if (going === conversation) messages = [...conversation, { role: "assistant", content: words }];
  } catch (error) {
    row.className = "failed";
    text.textContent = `${words}${words ? "\n" : ""}${error.message}`;
    if (going === conversation) messages = conversation.slice(0, -1);
  }
  row.scrollIntoView({ block: "nearest" });
  if (going === conversation) going = null;
}

byId("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  send();
});
byId("forget").addEventListener("click", () => {
  messages = [];
  going = null;
  byId("turns").replaceChildren();
  byId("message").focus();
});
