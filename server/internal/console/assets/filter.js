// The fields of a filter, as listing, recall and forgetting share them.

import { choice, field, h } from "./dom.js";

// filterFields returns the fields and a function that reads them: the filter as
// the API spells it, without what does not narrow.
export function filterFields(legend = "Filter") {
  const [episode, episodeInput] = field("Episode");
  const [kind, kindInput] = choice("Kind", [["", "any"], ["episodic", "episodic"], ["semantic", "semantic"]]);
  const [after, afterInput] = field("From", { type: "datetime-local" });
  const [before, beforeInput] = field("Before", { type: "datetime-local" });
  const [name, nameInput] = field("Attribute");
  const [value, valueInput] = field("has the value");
  const node = h("fieldset", { class: "filter" }, h("legend", null, legend),
    h("div", { class: "row" }, episode, kind, after, before, name, value));
  const read = () => {
    const filter = {};
    if (episodeInput.value) filter.episode = episodeInput.value;
    if (kindInput.value) filter.kind = kindInput.value;
    if (afterInput.value) filter.after = new Date(afterInput.value).toISOString();
    if (beforeInput.value) filter.before = new Date(beforeInput.value).toISOString();
    if (nameInput.value || valueInput.value) filter.attributes = Object.fromEntries([[nameInput.value, valueInput.value]]);
    return filter;
  };
  return { node, read };
}
