// The server: figures of the registry, and how long this page's own requests took.

import * as api from "./api.js";
import { latencies } from "./charts.js";
import { bytes, complaint, count, figures, h, milliseconds, table } from "./dom.js";

const refreshEvery = 5000; // milliseconds

export function serverPage(signal) {
  const problems = complaint();
  const registry = h("div");
  const chart = h("div"), body = h("tbody");

  async function load() {
    try {
      const stats = await api.registryStats(signal);
      registry.replaceChildren(figures([
        ["Spaces", count(stats.spaces)], ["Awake", count(stats.awake)],
        ["Memory of these", bytes(stats.awake_bytes)], ["Event streams", count(stats.streams)],
        ["Frames written", count(stats.frames)], ["Flushes", count(stats.flushes)],
        ["Frames in a flush", stats.flushes ? (stats.frames / stats.flushes).toFixed(2) : "none yet"],
        ["Journal", bytes(stats.journal_bytes)], ["Requests without a space", count(stats.fallbacks)],
        stats.stopped && ["Writes stopped", stats.stopped],
      ]));
      problems.clear();
    } catch (error) {
      if (error.name === "AbortError") return;
      if (error.kind === "forbidden") {
        registry.replaceChildren(h("p", { class: "empty" }, "The figures of the registry are for those who govern all spaces."));
        stop();
        return;
      }
      problems.show(error);
    }
  }

  const draw = () => {
    chart.replaceChildren(latencies(api.samples));
    body.replaceChildren(...summarise(api.samples).map((row) => h("tr", null, h("th", { scope: "row" }, row.name),
      ...[count(row.requests), count(row.failed), milliseconds(row.median), milliseconds(row.p95), milliseconds(row.most)]
        .map((text) => h("td", { class: "number" }, text)))));
  };

  const timer = setInterval(() => { if (!document.hidden && api.mayAsk()) load(); }, refreshEvery);
  const stop = () => clearInterval(timer);
  signal.addEventListener("abort", stop);
  api.signals.addEventListener("sample", draw, { signal });
  load();
  draw();
  return [
    h("h1", null, "Server"), problems.node,
    h("div", { class: "card" }, h("h2", null, "Registry"), registry),
    h("div", { class: "card" }, h("h2", null, "Latency of this page's requests"),
      h("p", { class: "hint" }, "Measured in this browser, with the network, since the page was loaded. Red dots are refused or failed. The server's own histograms are in its metrics."),
      h("div", { class: "graph" }, chart),
      table("Latency of this page's requests", [["Request"], ["Count", "number"], ["Failed", "number"], ["Median", "number"], ["95th percentile", "number"], ["Slowest", "number"]], body)),
  ];
}

// summarise sorts the samples by request, the most frequent first.
function summarise(samples) {
  const groups = new Map();
  for (const sample of samples) groups.set(sample.name, [...groups.get(sample.name) ?? [], sample]);
  return [...groups].map(([name, group]) => {
    const sorted = group.map((sample) => sample.ms).sort((a, b) => a - b);
    const rank = (share) => sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)];
    return { name, requests: group.length, failed: group.filter((sample) => sample.failed).length, median: rank(0.5), p95: rank(0.95), most: rank(1) };
  }).sort((a, b) => b.requests - a.requests || (a.name < b.name ? -1 : 1));
}
