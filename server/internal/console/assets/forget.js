// Forgetting by filter. What is counted first is forgotten, or nothing: the real
// request carries the tag of the count.

import * as api from "./api.js";
import { announce, complaint, h, plural, submits } from "./dom.js";
import { filterFields } from "./filter.js";
import { memoryBody } from "./memory.js";

const shownMemories = 5;

export function forgetPage({ space, signal, refresh }) {
  const problems = complaint();
  const filter = filterFields("What to forget");
  const outcome = h("section", { "aria-label": "What would be forgotten", "aria-live": "polite" });

  async function tryIt() {
    outcome.replaceChildren();
    const wanted = filter.read();
    const { body: counted, tag } = await api.countWhere(space, wanted);
    if (counted.forgotten === 0) {
      outcome.replaceChildren(h("p", { class: "empty" }, "Nothing satisfies the filter, so nothing would be forgotten."));
      return;
    }
    const { memories } = await api.listMemories(space, wanted, "", shownMemories, signal);
    const failed = complaint();
    const amount = plural(counted.forgotten, "memory", "memories");
    const rest = counted.forgotten - memories.length;
    outcome.replaceChildren(submits({ class: "card warning", id: "forget-really", "aria-label": "Forget" }, async () => {
      const receipt = await api.forgetWhere(space, wanted, tag);
      form.reset();
      outcome.replaceChildren(h("p", { class: "notice", id: "forgotten" }, `${plural(receipt.forgotten, "memory is", "memories are")} forgotten.`));
      announce(`${plural(receipt.forgotten, "memory is", "memories are")} forgotten.`);
      refresh();
    }, failed, h("h2", { id: "would-forget" }, `${amount} would be forgotten`),
    h("p", { class: "hint" }, `Nothing has been forgotten yet. If the space is written to before you go on, nothing will be, and you count again.`),
    h("ul", { class: "plain" }, memories.map((memory) => h("li", null, memoryBody(memory)))),
    rest > 0 && h("p", { class: "faint" }, `and ${plural(rest, "more", "more")}`), failed.node,
    h("p", { class: "actions" }, h("button", { type: "submit", class: "danger" }, `Forget ${amount}`),
      h("button", { type: "button", class: "quiet", on: { click: () => outcome.replaceChildren() } }, "Keep them"))));
  }

  const form = submits({ class: "card", id: "forget", "aria-label": "Count first" }, tryIt, problems, filter.node,
    h("p", { class: "hint" }, "A filter is needed. The dry run counts; nothing is forgotten by it."), problems.node,
    h("p", { class: "actions" }, h("button", { type: "submit", class: "primary" }, "Dry run")));
  // A count belongs to the filter that was counted.
  form.addEventListener("input", () => outcome.replaceChildren());
  return [form, outcome];
}
