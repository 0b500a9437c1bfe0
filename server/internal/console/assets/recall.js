// A place to try cues. Each recollection shows why it came: its activation split
// into shares, and the path of associations over which the most of one came.

import * as api from "./api.js";
import { spreading } from "./charts.js";
import { clip, complaint, field, h, milliseconds, plural, submits, user } from "./dom.js";
import { filterFields } from "./filter.js";
import { memoryBody } from "./memory.js";

// The shares in the order in which they are drawn, and what each means.
const shares = [
  ["cued", "the cue names this memory"],
  ["text", "its own words match"],
  ["vector", "its embedding is near"],
  ["contiguity", "its neighbours in the episode match"],
  ["episode", "its episode as a whole matches"],
  ["label", "the cue names who or what it is labelled with"],
  ["time", "it is near a date that the cue names, or tells when, where or who as the cue asks"],
  ["feedback", "it shares words with the best matches"],
  ["association", "others that came have associations to it"],
  ["filter", "it satisfies the filter, which is all of the cue"],
];

export function recallPage({ space, signal }) {
  const problems = complaint();
  const results = h("section", { "aria-label": "Recollections", class: "results" });
  const [text, textInput] = field("What should come to mind?", { tag: "textarea", rows: 2, maxlength: 65536 });
  const [ids, idsInput] = field("Ids of memories", { tag: "textarea", rows: 1 }, "one on each line: what these bring to mind");
  const [limit, limitInput] = field("At most", { type: "number", min: 1, max: 1000, value: 10 });
  const [least, leastInput] = field("Least activation", { type: "number", min: 0, max: 1, step: "any", value: 0 });
  const [spread, spreadInput] = field("Spread over associations", { type: "checkbox", checked: true });
  const filter = filterFields();
  const form = submits({ class: "card", id: "recall", "aria-label": "Cue" }, async () => {
    const cue = { text: textInput.value, filter: filter.read(), limit: Number(limitInput.value), min_activation: Number(leastInput.value) };
    const named = idsInput.value.split("\n").filter((line) => line !== "");
    if (named.length > 0) cue.ids = named;
    if (!spreadInput.checked) cue.spread = { off: true };
    const began = performance.now();
    const recall = await api.recall(space, cue, signal);
    results.replaceChildren(...showRecall(recall, performance.now() - began));
  }, problems, text,
  h("details", null, h("summary", null, "More of the cue"),
    h("div", { class: "row" }, ids, limit, least, spread), filter.node),
  problems.node, h("p", { class: "actions" }, h("button", { type: "submit", class: "primary" }, "Recall")));
  textInput.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  });
  return [form, results];
}

function showRecall({ recollections, plan }, took) {
  const titles = new Map(recollections.map(({ memory }) => [memory.id, memory.content || memory.id]));
  const paths = recollections.map(({ why }) => why.path).filter((path) => path?.length > 1);
  return [
    h("h2", null, plural(recollections.length, "recollection")),
    h("p", { class: "subtitle", role: "status" }, planInWords(plan, took)),
    plan.terms && h("p", { class: "small" }, "Terms of the cue: ", plan.terms.map((term) => [h("span", { class: "chip" }, user(term)), " "])),
    recollections.length > 0 && legend(recollections),
    paths.length > 1 && h("div", { class: "card" }, h("h3", null, "How activation spread"), spreading(paths, titles)),
    h("ol", { class: "recollections" }, recollections.map((recollection) => showRecollection(recollection, titles, recollections[0].activation))),
  ].flat(2).filter(Boolean);
}

function planInWords(plan, took) {
  const words = [`Answered in ${milliseconds(took)}`, `${plural(plan.scanned, "match", "matches")} looked at`];
  if (plan.spread?.seeds) {
    words.push(`activation passed over ${plural(plan.spread.edges, "association")} from ${plural(plan.spread.seeds, "match", "matches")}`);
    if (plan.spread.cut) words.push("a bound ended that");
  }
  if (plan.degraded) words.push(`meaning was not fully compared: ${plan.degraded}`);
  return words.join("; ") + ".";
}

// legend explains the shares that occur.
function legend(recollections) {
  const occurring = shares.filter(([name]) => recollections.some(({ why }) => why[name] > 0));
  return h("ul", { class: "legend", "aria-label": "Shares of an activation" }, occurring.map(([name, meaning]) =>
    h("li", null, h("span", { class: `swatch share-${name}`, "aria-hidden": "true" }), h("strong", null, name), ` ${meaning}`)),
  h("li", null, "The longest bar is the strongest activation."));
}

// strongest is the activation that has a bar over the full width.
function showRecollection({ memory, activation, confidence, why }, titles, strongest) {
  const present = shares.filter(([name]) => why[name] > 0);
  const bar = h("div", { class: "bar", "aria-hidden": "true" }, present.map(([name]) => {
    const part = h("span", { class: `part share-${name}`, title: `${name} ${why[name].toFixed(3)}` });
    part.style.width = `${(100 * why[name] / strongest).toFixed(2)}%`;
    return part;
  }));
  return h("li", { class: "card recollection", "data-memory": memory.id },
    h("div", { class: "head" }, h("div", null, memoryBody(memory)),
      h("dl", { class: "scores" },
        h("div", null, h("dt", null, "activation"), h("dd", null, activation.toFixed(3))),
        h("div", null, h("dt", null, "confidence"), h("dd", null, confidence.toFixed(3))))),
    bar,
    h("ul", { class: "shares", "aria-label": "Why it came" }, present.map(([name]) =>
      h("li", null, h("span", { class: `swatch share-${name}`, "aria-hidden": "true" }), `${name} `, h("b", null, why[name].toFixed(3))))),
    why.path?.length > 1 && [
      h("p", { class: "path" }, "Over ", why.path.map((id, i) => [i > 0 && " → ", user(clip(id, 48))])),
      spreading([why.path], titles),
    ]);
}
