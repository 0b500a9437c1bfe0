// What a space holds, with filters; remembering; forgetting one memory.

import * as api from "./api.js";
import { announce, choice, complaint, field, h, submits, table, user } from "./dom.js";
import { filterFields } from "./filter.js";
import { memoryBody } from "./memory.js";

const pageMemories = 25;

export function memoriesPage({ space, signal, refresh }) {
  const problems = complaint();
  const filter = filterFields();
  const body = h("tbody");
  const empty = h("p", { class: "empty", hidden: true }, "Nothing here.");
  const more = h("button", { type: "button", hidden: true }, "Show more");
  let shown = {}, cursor = "", listing = 0;

  async function list(goOn) {
    const mine = ++listing; // an answer that another listing has overtaken is not shown
    if (!goOn) {
      shown = filter.read();
      cursor = "";
    }
    const page = await api.listMemories(space, shown, cursor, pageMemories, signal);
    if (mine !== listing) return;
    const rows = page.memories.map(memoryRow);
    if (goOn) body.append(...rows);
    else body.replaceChildren(...rows);
    cursor = page.next ?? "";
    more.hidden = cursor === "";
    empty.hidden = body.children.length > 0;
    if (goOn) rows[0]?.querySelector("button").focus();
  }

  const guarded = async (work) => {
    problems.clear();
    try {
      await work();
    } catch (error) {
      if (error.name !== "AbortError") problems.show(error);
    }
  };

  function memoryRow(memory) {
    const forget = h("button", { type: "button", class: "quiet small danger", "aria-label": `Forget ${memory.id}`, on: { click: () => confirmForget(memory, row) } }, "Forget");
    const [joins, joined] = joinedMemories(memory, signal, space);
    const row = h("tr", { "data-memory": memory.id }, h("td", { class: "number faint" }, String(memory.seq)),
      h("th", { scope: "row" }, h("div", { class: "beside" }, h("div", null, memoryBody(memory), joined), h("div", { class: "actions" }, joins, forget))));
    return row;
  }

  function confirmForget(memory, row) {
    const failed = complaint();
    const done = () => {
      dialog.close();
      dialog.remove();
    };
    const dialog = h("dialog", { "aria-label": `Forget ${memory.id}`, on: { close: () => dialog.remove() } },
      submits({ "aria-label": `Forget ${memory.id}` }, async () => {
        await api.forget(space, memory.id);
        const neighbour = row.nextElementSibling ?? row.previousElementSibling;
        row.remove();
        done();
        empty.hidden = body.children.length > 0;
        (neighbour?.querySelector("button") ?? document.getElementById("main")).focus();
        announce("One memory is forgotten.");
        refresh();
      }, failed, h("h2", null, "Forget this memory?"), ...memoryBody(memory), failed.node,
      h("p", { class: "actions" }, h("button", { type: "submit", class: "danger" }, "Forget it"),
        h("button", { type: "button", class: "quiet", autofocus: true, on: { click: done } }, "Keep it"))));
    document.getElementById("main").append(dialog);
    dialog.showModal();
  }

  more.addEventListener("click", () => guarded(() => list(true)));
  guarded(() => list(false));
  return [
    submits({ class: "card", "aria-label": "Filter memories" }, () => list(false), problems, filter.node,
      h("p", { class: "actions" }, h("button", { type: "submit" }, "Show"),
        h("button", { type: "reset", class: "quiet", on: { click: () => setTimeout(() => guarded(() => list(false))) } }, "Clear"))),
    problems.node,
    table("Memories in the order of time", [["Operation", "number"], ["Memory"]], body),
    empty, h("p", { class: "actions" }, more),
    rememberForm(space, () => { guarded(() => list(false)); refresh(); }),
  ];
}

// joinedMemories is a button that shows which memories this one brings to mind,
// and the list of them.
function joinedMemories(memory, signal, space) {
  const list = h("ul", { class: "facts", hidden: true });
  const button = h("button", { type: "button", class: "quiet small", "aria-expanded": "false", "aria-label": `Associations of ${memory.id}`, on: { async click() {
    const open = button.getAttribute("aria-expanded") !== "true";
    button.setAttribute("aria-expanded", String(open));
    list.hidden = !open;
    if (!open) return;
    try {
      const { associations, next } = await api.associations(space, memory.id, signal);
      list.replaceChildren(...associations.map((a) => h("li", null, user(a.from), ` ${a.kind} `, user(a.to), ` ${a.weight.toFixed(2)}`)));
      if (next) list.append(h("li", null, "and more"));
      if (associations.length === 0) list.replaceChildren(h("li", null, "none"));
    } catch (error) {
      if (error.name !== "AbortError") list.replaceChildren(h("li", { class: "error" }, error.message));
    }
  } } }, "Associations");
  return [button, list];
}

function rememberForm(space, done) {
  const problems = complaint();
  const [content, contentInput] = field("Content", { tag: "textarea", rows: 3, required: true });
  const [id, idInput] = field("Id", { maxlength: 256 }, "empty: a new one");
  const [episode, episodeInput] = field("Episode", { maxlength: 256 });
  const [kind, kindInput] = choice("Kind", [["episodic", "episodic"], ["semantic", "semantic"]]);
  const [attributes, attributesInput] = field("Attributes", { tag: "textarea", rows: 2 }, "one on each line, name: value");
  const form = submits({ class: "card", id: "remember", "aria-label": "Remember" }, async () => {
    const memory = { content: contentInput.value, kind: kindInput.value };
    if (idInput.value) memory.id = idInput.value;
    if (episodeInput.value) memory.episode = episodeInput.value;
    const pairs = attributesInput.value.split("\n").filter((line) => line.trim() !== "").map(pairOf);
    if (pairs.length > 0) memory.attributes = Object.fromEntries(pairs);
    const receipt = await api.remember(space, memory);
    form.reset();
    announce(`Remembered as ${receipt.id}.`);
    done();
  }, problems, h("h2", null, "Remember"), content, h("div", { class: "row" }, id, episode, kind), attributes, problems.node,
  h("p", { class: "actions" }, h("button", { type: "submit", class: "primary" }, "Remember")));
  return form;
}

function pairOf(line) {
  const at = line.indexOf(":");
  if (at < 1) throw new Error(`the attribute "${line}" has no name and value with a colon between`);
  return [line.slice(0, at).trim(), line.slice(at + 1).trim()];
}
