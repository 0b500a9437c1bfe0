// The spaces that the key lets see: size, state and activity.

import * as api from "./api.js";
import { meter, percent, sparkline } from "./charts.js";
import { announce, bytes, complaint, count, field, h, plural, submits, table } from "./dom.js";
import { spaceAddress, stateBadge } from "./space.js";

const pageSpaces = 20;
const refreshEvery = 5000; // milliseconds
const keptActivity = 40;   // samples of a space
const atOnce = 4;          // requests

export function spacesPage(signal) {
  const problems = complaint();
  const body = h("tbody");
  const empty = h("p", { class: "empty", hidden: true }, "There is no space yet that you may see. Create one below.");
  const forward = h("button", { type: "button", hidden: true }, "Next page");
  const first = h("button", { type: "button", hidden: true }, "First page");
  const rows = new Map(); // of the page, by id
  let after = "", next = "";

  // load lists the page and describes its spaces, a few at a time.
  async function load() {
    const page = await api.listSpaces(after, pageSpaces, signal);
    const ids = page.spaces.map((item) => item.id);
    if (ids.length === 0 && after !== "") { // all of them are gone
      after = "";
      return load();
    }
    for (const id of rows.keys()) if (!ids.includes(id)) rows.delete(id);
    for (const id of ids) if (!rows.has(id)) rows.set(id, spaceRow(id));
    const nodes = ids.map((id) => rows.get(id).node);
    if (nodes.length !== body.children.length || nodes.some((node, i) => node !== body.children[i])) body.replaceChildren(...nodes);
    next = page.next ?? "";
    forward.hidden = next === "";
    first.hidden = after === "";
    empty.hidden = ids.length > 0;
    const waiting = [...ids];
    await Promise.all(Array.from({ length: atOnce }, async () => {
      for (let id = waiting.shift(); id !== undefined; id = waiting.shift()) {
        try {
          rows.get(id)?.show(await api.describeSpace(id, signal));
        } catch (error) {
          if (error.kind !== "space-not-found" && error.kind !== "forbidden") throw error; // gone meanwhile, or seen by its name only
        }
      }
    }));
    problems.clear();
  }

  // One load runs at a time; what asks for one meanwhile gets another one after it.
  let loading = false, again = false;
  async function refresh() {
    again = true;
    if (loading) return;
    loading = true;
    while (again && !signal.aborted) {
      again = false;
      try {
        await load();
      } catch (error) {
        if (error.name !== "AbortError") problems.show(error);
      }
    }
    loading = false;
  }

  forward.addEventListener("click", () => { after = next; refresh(); });
  first.addEventListener("click", () => { after = ""; refresh(); });
  const timer = setInterval(() => { if (!document.hidden && api.mayAsk()) refresh(); }, refreshEvery);
  signal.addEventListener("abort", () => clearInterval(timer));
  refresh();
  follow(signal, refresh);

  return [
    h("h1", null, "Spaces"),
    h("p", { class: "subtitle" }, "Each tenant's own memory. The figures follow along; activity is what was written while you watch."),
    problems.node,
    table("Spaces", [["Space"], ["State"], ["Memories", "number"], ["Size", "number"], ["Quota"], ["Activity"]], body),
    empty,
    h("p", { class: "actions" }, first, forward),
    h("div", { class: "columns" }, createForm(refresh), openForm()),
  ];
}

// follow refreshes at once when spaces come and go, where the key lets know that.
async function follow(signal, refresh) {
  try {
    for await (const event of api.spaceEvents(signal)) if (event.name !== "end") refresh();
  } catch {
    // Without the stream the listing is as old as its last refresh.
  }
}

function spaceRow(id) {
  const state = h("td"), memories = h("td", { class: "number" }), size = h("td", { class: "number" }), quota = h("td"), activity = h("td");
  const node = h("tr", { "data-space": id }, h("th", { scope: "row" }, h("a", { href: spaceAddress(id) }, id)), state, memories, size, quota, activity);
  const writes = []; // in each interval
  let seq;
  const show = (info) => {
    if (seq !== undefined) writes.push(Math.max(0, info.seq - seq));
    if (writes.length > keptActivity) writes.shift();
    seq = info.seq;
    const { max_memories: most, max_bytes: mostBytes } = info.config;
    const usedMost = Math.max(most ? info.memories / most : 0, mostBytes ? info.bytes / mostBytes : 0);
    const seen = writes.reduce((sum, n) => sum + n, 0);
    state.replaceChildren(stateBadge(info.state));
    memories.replaceChildren(count(info.memories));
    size.replaceChildren(bytes(info.bytes));
    quota.replaceChildren(meter(`Quota of ${id}`, usedMost, most || mostBytes ? 1 : 0, percent(usedMost)));
    activity.replaceChildren(sparkline(writes.length > 1 ? writes : [0, ...writes, 0], `${plural(seen, "operation")} while you watch`),
      h("span", { class: "faint small" }, seen > 0 ? ` +${count(seen)}` : ""));
  };
  return { node, show };
}

function createForm(refresh) {
  const problems = complaint();
  const [id, idInput] = field("Id of the new space", { required: true, maxlength: 64, spellcheck: "false" }, "3 to 64 of a-z, 0-9, _ and -");
  const [memories, memoriesInput] = field("Most memories", { type: "number", min: 0 }, "empty: no quota");
  const [size, sizeInput] = field("Most bytes", { type: "number", min: 0 }, "empty: no quota");
  const form = submits({ class: "card", id: "create-space", "aria-label": "Create a space" }, async () => {
    const made = await api.createSpace(idInput.value.trim(), { max_memories: Number(memoriesInput.value), max_bytes: Number(sizeInput.value) });
    form.reset();
    announce(`Space ${made.id} is created.`);
    refresh();
  }, problems, h("h2", null, "Create a space"), id, h("div", { class: "row" }, memories, size), problems.node,
  h("p", { class: "actions" }, h("button", { type: "submit", class: "primary" }, "Create")));
  return form;
}

function openForm() {
  const problems = complaint();
  const [id, idInput] = field("Id", { required: true, maxlength: 64, spellcheck: "false" });
  return submits({ class: "card", id: "open-space", "aria-label": "Open a space" }, async () => {
    await api.describeSpace(idInput.value.trim());
    location.hash = spaceAddress(idInput.value.trim());
  }, problems, h("h2", null, "Open a space"), h("p", { class: "hint" }, "Where there are too many to leaf through."), id, problems.node,
  h("p", { class: "actions" }, h("button", { type: "submit" }, "Open")));
}
