// The frame around the pages of one space.

import * as api from "./api.js";
import { bytes, complaint, h, plural } from "./dom.js";

const pages = [["memories", "Memories"], ["recall", "Recall"], ["events", "Events"], ["forget", "Forget"], ["figures", "Figures"]];

export const spaceAddress = (space, page = "memories") => `#/space/${encodeURIComponent(space)}/${page}`;

export const stateBadge = (state) => h("span", { class: `badge ${state}` }, state);

// frameSpace returns what renders a page of the space below what the space is.
export function frameSpace(space, current, page) {
  return (signal) => {
    const facts = h("p", { class: "subtitle" }, " ");
    const problems = complaint();
    const refresh = async () => {
      try {
        const info = await api.describeSpace(space, signal);
        facts.replaceChildren(stateBadge(info.state), ` ${plural(info.memories, "memory", "memories")}, ${bytes(info.bytes)}, ${plural(info.seq, "operation")}`);
        problems.clear();
      } catch (error) {
        if (error.name !== "AbortError") problems.show(error);
      }
    };
    refresh();
    return [
      h("p", { class: "trail" }, h("a", { href: "#/" }, "Spaces"), " / "),
      h("h1", null, space), facts, problems.node,
      h("nav", { class: "tabs", "aria-label": `Space ${space}` }, h("ul", null, pages.map(([name, title]) =>
        h("li", null, h("a", { href: spaceAddress(space, name), "aria-current": name === current && "page" }, title))))),
      ...page({ space, signal, refresh }),
    ];
  };
}
