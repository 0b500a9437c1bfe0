// How a memory looks wherever it is shown.

import { h, passage, user, when } from "./dom.js";

// memoryBody shows a memory's content and what is known of it.
export function memoryBody(memory) {
  const facts = [
    h("li", { class: "id" }, user(memory.id)),
    memory.episode && h("li", null, "episode ", user(memory.episode)),
    ...Object.entries(memory.attributes ?? {}).map(([name, value]) => h("li", { class: "attribute" }, user(name), ": ", user(value))),
    memory.kind === "semantic" && h("li", null, "semantic"),
    memory.confidence !== undefined && memory.confidence < 1 && h("li", null, `confidence ${memory.confidence}`),
    memory.embedding && h("li", null, `${memory.embedding.length} dimensions`),
    memory.time && h("li", null, when(memory.time)),
  ];
  return [
    memory.content ? passage(memory.content) : h("p", { class: "content faint" }, "(an embedding without text)"),
    h("ul", { class: "facts" }, facts.filter(Boolean)),
  ];
}
