// What the console asks the server: the public HTTP API, with the key that the
// user has given, and nothing else.

const stored = "engram-key";
const keptSamples = 240;

let key = sessionStorage.getItem(stored) ?? "";

let quietUntil = 0; // when a page may ask again by itself: the server has refused the key, or said that there is too much

export const hasKey = () => key !== "";

// mayAsk reports whether a page should ask again without the user's doing.
export const mayAsk = () => Date.now() >= quietUntil;

// useKey takes a key, or none, for the requests from now on. It returns what takes the
// one before again.
export function useKey(value, keep) {
  const former = key, kept = sessionStorage.getItem(stored) !== null;
  key = value;
  quietUntil = 0;
  if (keep && value) sessionStorage.setItem(stored, value);
  else sessionStorage.removeItem(stored);
  return () => useKey(former, kept);
}

// signals tells of "sample", a request that was answered, and "unauthenticated".
export const signals = new EventTarget();

// samples are the last requests of this page, with how long each took.
export const samples = [];

// Problem is an error that the server has answered with.
export class Problem extends Error {
  constructor(status, body, retryAfter) {
    super(body.detail ?? `the server answered with status ${status}`);
    Object.assign(this, { name: "Problem", status, title: body.title, detail: body.detail, hint: body.hint, floor: body.floor });
    this.kind = (body.type ?? "").split(":").pop();
    if (retryAfter) this.hint = `Try again in ${retryAfter} s.`;
  }
}

// segment spells a part of a path. A browser takes "." and ".." for steps in the
// path however they are spelt, so a request would mean something else.
function segment(text) {
  if (text === "" || text === "." || text === "..") throw new Error("this id cannot be part of an address");
  return encodeURIComponent(text);
}

async function send(method, path, { body, query, headers, signal } = {}) {
  const url = new URL("v1/" + path.map(segment).join("/"), document.baseURI);
  for (const [name, value] of query ?? []) url.searchParams.append(name, value);
  const header = new Headers(headers);
  if (key) header.set("Authorization", "Bearer " + key);
  if (body !== undefined) header.set("Content-Type", "application/json");
  let response;
  try {
    response = await fetch(url, {
      method, headers: header, signal, cache: "no-store", credentials: "omit", redirect: "error",
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw Object.assign(new Error("the server cannot be reached"), { title: "No answer", hint: "Is it running?" });
  }
  if (response.ok) return response;
  let problem = {};
  if ((response.headers.get("Content-Type") ?? "").includes("json")) problem = await response.json();
  const error = new Problem(response.status, problem, response.headers.get("Retry-After"));
  if (error.status === 429) quietUntil = Date.now() + 1000 * Number(response.headers.get("Retry-After") ?? 1);
  if (error.status === 401) {
    quietUntil = Infinity;
    signals.dispatchEvent(new CustomEvent("unauthenticated", { detail: error }));
  }
  throw error;
}

// ask sends a request and reads its answer; name is what its latency counts for.
async function ask(name, method, path, options) {
  const began = performance.now();
  let failed = true;
  try {
    const response = await send(method, path, options);
    const body = response.status === 204 ? null : await response.json();
    failed = false;
    return { body, tag: response.headers.get("ETag") };
  } catch (error) {
    if (error.name === "AbortError") failed = null;
    throw error;
  } finally {
    if (failed !== null) {
      samples.push({ name, at: Date.now(), ms: performance.now() - began, failed });
      if (samples.length > keptSamples) samples.shift();
      signals.dispatchEvent(new Event("sample"));
    }
  }
}

const answer = async (...request) => (await ask(...request)).body;

export const listSpaces = (after, limit, signal) =>
  answer("list spaces", "GET", ["spaces"], { signal, query: [["limit", limit], ...(after ? [["after", after]] : [])] });
export const describeSpace = (space, signal) => answer("describe", "GET", ["spaces", space], { signal });
export const createSpace = (id, config) => answer("create space", "POST", ["spaces"], { body: { id, config } });
export const contentStats = (space, signal) => answer("stats", "GET", ["spaces", space, "stats"], { signal });
export const operatorStats = (space, signal) => answer("operator stats", "GET", ["spaces", space, "stats", "operator"], { signal });
export const registryStats = (signal) => answer("registry stats", "GET", ["stats"], { signal });
export const remember = (space, memory) => answer("remember", "POST", ["spaces", space, "memories"], { body: memory });
export const recall = (space, cue, signal) => answer("recall", "POST", ["spaces", space, "recall"], { body: cue, signal });
export const associations = (space, id, signal) =>
  answer("associations", "GET", ["spaces", space, "memories", id, "associations"], { signal });

export function listMemories(space, filter, cursor, limit, signal) {
  const query = [["limit", limit]];
  for (const [name, value] of Object.entries(filter)) {
    if (name !== "attributes") query.push([name, value]);
  }
  for (const [name, value] of Object.entries(filter.attributes ?? {})) {
    if (name.includes(":")) throw new Error("an attribute with a colon in its name cannot be listed by");
    query.push(["attribute", `${name}:${value}`]);
  }
  if (cursor) query.push(["cursor", cursor]);
  return answer("list memories", "GET", ["spaces", space, "memories"], { query, signal });
}

// forget names the memory in the body: as part of a path, some ids would name
// something else.
export const forget = (space, id) => answer("forget", "POST", ["spaces", space, "forget"], { body: { ids: [id] } });

// countWhere counts what forgetWhere would forget. With the tag of its answer
// exactly that is forgotten, or nothing.
export const countWhere = (space, filter) =>
  ask("count", "POST", ["spaces", space, "forget-where"], { body: { filter, dry_run: true } });
export const forgetWhere = (space, filter, tag) =>
  answer("forget where", "POST", ["spaces", space, "forget-where"], { body: { filter }, headers: { "If-Match": tag } });

// spaceEvents and events yield what a stream sends: {id, name, data}; opened is
// called once it has begun, with the incarnation whose events they are. after is a
// position of the one that is given, if one is. The browser's own EventSource cannot
// send a key.
export const spaceEvents = (signal) => stream(["space-events"], { signal });
export const events = (space, after, incarnation, signal, opened) => stream(["spaces", space, "events"],
  { signal, query: [["after", after], ...(incarnation ? [["incarnation", incarnation]] : [])] }, opened);

async function* stream(path, options, opened = () => {}) {
  const response = await send("GET", path, options);
  opened(response.headers.get("Engram-Incarnation"));
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const blocks = (rest + value).split("\n\n");
      rest = blocks.pop();
      for (const block of blocks) {
        const event = parseEvent(block);
        if (event.data !== "") yield { ...event, data: JSON.parse(event.data) };
      }
    }
  } finally {
    await reader.cancel().catch(() => {}); // the stream has failed already, which the reader of events is told
  }
}

function parseEvent(block) {
  const event = { id: "", name: "message", data: "" };
  for (const line of block.split("\n")) {
    if (line.startsWith("id: ")) event.id = line.slice(4);
    else if (line.startsWith("event: ")) event.name = line.slice(7);
    else if (line.startsWith("data: ")) event.data += line.slice(6);
  }
  return event;
}
