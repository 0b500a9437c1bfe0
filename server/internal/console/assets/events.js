// The operations of a space as they are committed.

import * as api from "./api.js";
import { clip, complaint, count, h, plural, user, when } from "./dom.js";

const history = 20;    // events from before the page was opened
const keptEvents = 300;
const longestPause = 30000; // milliseconds between two tries

export function eventsPage({ space, signal, refresh }) {
  const problems = complaint();
  const log = h("ol", { class: "events", role: "log", "aria-label": "Events, newest first" });
  const state = h("p", { class: "subtitle", role: "status" }, "Connecting");
  const empty = h("p", { class: "empty" }, "Nothing has happened yet. What is written to the space appears here.");
  let seen = 0, pausing = false, held = [];

  const add = (event) => {
    empty.remove();
    log.prepend(eventItem(event));
    while (log.children.length > keptEvents) log.lastElementChild.remove();
  };
  const pause = h("button", { type: "button", "aria-pressed": "false", on: { click: () => {
    pausing = !pausing;
    pause.setAttribute("aria-pressed", String(pausing));
    if (!pausing) held.splice(0).forEach(add);
    say();
  } } }, "Pause");
  const say = () => {
    const waiting = held.length > 0 ? `, ${count(held.length)} held back` : "";
    state.textContent = `Live: ${plural(seen, "event")} so far${waiting}`;
  };

  async function follow() {
    let after = null, incarnation = null, failures = 0;
    const opened = (of) => {
      incarnation = of;
      failures = 0;
      problems.clear();
      say();
    };
    while (!signal.aborted) {
      try {
        if (after === null) after = Math.max(0, (await api.contentStats(space, signal)).seq - history);
        let refreshing = false;
        for await (const event of api.events(space, after, incarnation, signal, opened)) {
          if (event.name === "end") throw Object.assign(new Error(event.data.problem.detail), event.data.problem);
          after = event.data.seq;
          seen++;
          if (pausing) held = [...held, event.data].slice(-keptEvents);
          else add(event.data);
          say();
          if (!refreshing) { // many events at once ask for the space's figures once
            refreshing = true;
            setTimeout(() => { refreshing = false; if (!signal.aborted) refresh(); }, 500);
          }
        }
      } catch (error) {
        if (signal.aborted) return;
        if (error.floor) {
          after = error.floor; // what is older is no longer kept
          continue;
        }
        problems.show(error);
        if (error.kind === "position-unknown") { // the space is another one of that id: what is shown was not in it
          after = incarnation = null;
          seen = 0;
          held = [];
          log.replaceChildren();
        }
        if (error.status === 401 || error.status === 403 || error.status === 404) {
          state.textContent = "Not connected";
          return;
        }
      }
      const pauseFor = Math.min(longestPause, 1000 * 2 ** failures++);
      state.textContent = `The stream has ended. Going on in ${Math.round(pauseFor / 1000)} s.`;
      await new Promise((resolve) => { setTimeout(resolve, pauseFor); });
    }
  }

  follow();
  return [state, problems.node, h("p", { class: "actions" }, pause), empty, log];
}

function eventItem(event) {
  const what = [];
  if (event.association) {
    const { from, to, kind, weight } = event.association;
    what.push(user(from), ` ${kind ?? "related"} `, user(to), weight ? ` ${weight.toFixed(2)}` : "");
  } else if (event.filter) {
    what.push("where ", user(JSON.stringify(event.filter)));
  } else if (event.ids) {
    const named = event.ids.slice(0, 5);
    what.push(named.map((id, i) => [i > 0 && ", ", user(id)]).flat(), event.ids.length > named.length && ` and ${plural(event.ids.length - named.length, "more", "more")}`);
  } else if (event.config) {
    what.push(user(JSON.stringify(event.config)));
  } else if (event.embedder) {
    what.push(user(event.embedder));
  }
  return h("li", { "data-seq": event.seq }, h("span", { class: "seq" }, `#${event.seq}`), h("span", { class: `badge ${event.kind}` }, event.kind.replace("_", " ")),
    h("span", { class: "what" }, what.flat(), event.memory?.content && h("span", { class: "excerpt" }, user(clip(event.memory.content, 160)))), when(event.time));
}
