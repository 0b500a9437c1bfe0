// Charts. Each says in words what it draws.

import { clip, h, milliseconds, s } from "./dom.js";

// meter draws how much of a quota is used.
export function meter(label, used, quota, text) {
  if (!quota) return h("span", { class: "faint" }, "no quota");
  const share = Math.min(1, used / quota);
  const level = share >= 0.95 ? "full" : share >= 0.8 ? "high" : "low";
  return h("span", { class: "meter" },
    s("svg", { viewBox: "0 0 100 8", preserveAspectRatio: "none", role: "img", class: level, "aria-label": `${label}: ${percent(used / quota)} used` },
      s("rect", { class: "track", width: 100, height: 8, rx: 2 }),
      s("rect", { class: "used", width: (100 * share).toFixed(2), height: 8, rx: 2 })),
    h("span", null, text ?? percent(used / quota)));
}

export const percent = (share) => `${share > 0 && share < 0.01 ? "under 1" : Math.round(100 * share)} %`;

// sparkline draws the last values of a series that begins at 0.
export function sparkline(values, label) {
  const width = 96, height = 22, most = Math.max(1, ...values), step = width / Math.max(1, values.length - 1);
  const points = values.map((value, i) => `${(i * step).toFixed(1)},${(height - 2 - (height - 4) * value / most).toFixed(1)}`);
  return s("svg", { viewBox: `0 0 ${width} ${height}`, width, height, class: "sparkline", role: "img", "aria-label": label },
    s("polyline", { points: `0,${height - 2} ${points.join(" ")} ${width},${height - 2}`, class: "area" }),
    s("polyline", { points: points.join(" "), class: "line" }));
}

// latencies draws a dot for each sample, on a logarithmic scale of time.
export function latencies(samples) {
  const width = 900, height = 240, left = 56, bottom = 24, top = 8;
  const least = 0.5, most = Math.max(100, ...samples.map((sample) => sample.ms));
  const y = (ms) => top + (height - bottom - top) * (1 - Math.log(Math.max(least, ms) / least) / Math.log(most / least));
  const x = (i) => left + 8 + (width - left - 16) * (samples.length < 2 ? 0.5 : i / (samples.length - 1));
  const lines = [1, 10, 100, 1000, 10000].filter((ms) => ms <= most);
  const slowest = samples.reduce((worst, sample) => Math.max(worst, sample.ms), 0);
  return s("svg", {
    viewBox: `0 0 ${width} ${height}`, class: "latencies", role: "img",
    "aria-label": `How long each of the last ${samples.length} requests took; the slowest ${milliseconds(slowest)}. The table below has the figures.`,
  },
  lines.map((ms) => [
    s("line", { x1: left, x2: width, y1: y(ms), y2: y(ms), class: "grid" }),
    s("text", { x: left - 8, y: y(ms) + 4, "text-anchor": "end" }, ms >= 1000 ? `${ms / 1000} s` : `${ms} ms`),
  ]),
  samples.map((sample, i) => s("circle", { cx: x(i).toFixed(1), cy: y(sample.ms).toFixed(1), r: 3.2, class: sample.failed ? "failed" : "answered" },
    s("title", null, `${sample.name}: ${milliseconds(sample.ms)}`))),
  s("text", { x: left + 8, y: height - 6 }, "older"),
  s("text", { x: width - 8, y: height - 6, "text-anchor": "end" }, "now"));
}

// spreading draws how activation came from the cue over associations: each path
// is the ids of memories from one that matches the cue to the one that was
// recalled. titles are what is known of the memories' contents, by id.
export function spreading(paths, titles) {
  const { nodes, edges, columns } = layOut(paths);
  const box = { width: 168, height: 30, gapX: 52, gapY: 12 };
  const rows = Math.max(...columns.map((column) => column.length));
  const width = columns.length * box.width + (columns.length - 1) * box.gapX + 4;
  const height = rows * (box.height + box.gapY) - box.gapY + 4;
  for (const node of nodes.values()) {
    const used = columns[node.column].length * (box.height + box.gapY) - box.gapY;
    node.x = 2 + node.column * (box.width + box.gapX);
    node.y = 2 + (height - 4 - used) / 2 + node.row * (box.height + box.gapY);
  }
  const label = (id) => titles.get(id) ?? id;
  const words = paths.map((path) => path.map((id) => clip(label(id), 60)).join(", to "));
  return h("div", { class: "graph" }, s("svg", {
    viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": `Activation went over associations: ${words.join("; ")}`,
  },
  edges.map(([from, to]) => edge(nodes.get(from), nodes.get(to), box)),
  [...nodes].map(([id, node]) => s("g", { class: node.match ? "match" : "reached" },
    s("title", null, titles.has(id) ? `${id}: ${clip(titles.get(id), 200)}` : id),
    s("rect", { x: node.x, y: node.y, width: box.width, height: box.height, rx: 8 }),
    s("text", { x: node.x + 10, y: node.y + 19.5 }, clip(label(id), 21))))));
}

function edge(from, to, box) {
  const x1 = from.x + box.width, y1 = from.y + box.height / 2, x2 = to.x, y2 = to.y + box.height / 2, bend = (x2 - x1) / 2;
  return s("g", { class: "edge" },
    s("path", { d: `M${x1} ${y1}C${x1 + bend} ${y1} ${x2 - bend} ${y2} ${x2 - 5} ${y2}` }),
    s("path", { class: "head", d: `M${x2 - 8} ${y2 - 4.5}L${x2 - 1} ${y2}L${x2 - 8} ${y2 + 4.5}Z` }));
}

// layOut places each memory in the column of the longest way to it that any path
// goes.
function layOut(paths) {
  const nodes = new Map(), edges = new Map();
  for (const path of paths) {
    path.forEach((id, i) => {
      const node = nodes.get(id) ?? { column: 0, row: 0, match: false };
      node.column = Math.max(node.column, i);
      node.match ||= i === 0;
      nodes.set(id, node);
      if (i > 0) edges.set(JSON.stringify([path[i - 1], id]), [path[i - 1], id]);
    });
  }
  const columns = [];
  for (const node of nodes.values()) {
    while (columns.length <= node.column) columns.push([]);
    node.row = columns[node.column].push(node) - 1;
  }
  return { nodes, edges: [...edges.values()], columns };
}
