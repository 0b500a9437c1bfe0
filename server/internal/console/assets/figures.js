// The figures of a space: quotas, what it holds and, for its host, its files.

import * as api from "./api.js";
import { meter } from "./charts.js";
import { bytes, complaint, count, figures, h } from "./dom.js";

export function figuresPage({ space, signal }) {
  const problems = complaint();
  const quotas = h("div"), content = h("div"), operator = h("div");

  async function load() {
    const [info, stats] = await Promise.all([api.describeSpace(space, signal), api.contentStats(space, signal)]);
    const { max_memories: most, max_bytes: mostBytes } = info.config;
    quotas.replaceChildren(figures([
      ["Memories", meter("Memories", stats.memories, most, most && `${count(stats.memories)} of ${count(most)}`)],
      ["Bytes", meter("Bytes", stats.bytes, mostBytes, mostBytes && `${bytes(stats.bytes)} of ${bytes(mostBytes)}`)],
    ]));
    content.replaceChildren(figures([
      ["Memories", count(stats.memories)], ["Size", bytes(stats.bytes)], ["Episodes", count(stats.episodes)],
      ["Associations", count(stats.associations)], ["Operations", count(stats.seq)],
      ["Dimensions", stats.dimension ? count(stats.dimension) : "no embedding"],
      stats.embedder && ["Embedder", stats.embedder], stats.unembedded && ["Without a vector yet", count(stats.unembedded)],
      ["Incarnation", h("code", null, info.incarnation)],
    ]));
    try {
      const files = await api.operatorStats(space, signal);
      operator.replaceChildren(h("h2", null, "Files"), figures([
        ["State", files.state], ["Segments", count(files.segments)], ["Log", bytes(files.log_bytes)], ["Settled up to", count(files.mark_seq)],
        ["Checkpoint at", count(files.checkpoint_seq)], ["Last recovery", files.recovery.verdict || "none"],
        files.stopped && ["Writes stopped", files.stopped],
      ]));
    } catch (error) {
      if (error.kind !== "forbidden") throw error; // they are for the host of the space
    }
  }

  load().catch((error) => { if (error.name !== "AbortError") problems.show(error); });
  return [
    problems.node,
    h("div", { class: "card" }, h("h2", null, "Quotas"), quotas),
    h("div", { class: "card" }, h("h2", null, "Content"), content),
    h("div", { class: "card" }, operator),
  ];
}
