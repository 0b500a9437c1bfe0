// The frame of the console: which page the address names, and the key.

import * as api from "./api.js";
import { announce, h } from "./dom.js";
import { eventsPage } from "./events.js";
import { figuresPage } from "./figures.js";
import { forgetPage } from "./forget.js";
import { memoriesPage } from "./memories.js";
import { recallPage } from "./recall.js";
import { serverPage } from "./server.js";
import { frameSpace } from "./space.js";
import { spacesPage } from "./spaces.js";

const main = document.getElementById("main");
const pagesOfSpace = new Map([
  ["memories", memoriesPage], ["recall", recallPage], ["events", eventsPage], ["forget", forgetPage], ["figures", figuresPage],
]);

let leaving = new AbortController();

// pageOf reads the address: "#/", "#/server" or "#/space/{id}/{page}".
function pageOf(hash) {
  const [first = "", id, page = "memories"] = hash.replace(/^#?\/?/, "").split("/");
  if (first === "") return { name: "spaces", title: "Spaces", render: spacesPage };
  if (first === "server") return { name: "server", title: "Server", render: serverPage };
  if (first === "space" && id && pagesOfSpace.has(page)) {
    const space = decode(id);
    if (space) return { name: "spaces", title: `${page} of ${space}`, render: frameSpace(space, page, pagesOfSpace.get(page)) };
  }
  return { name: "", title: "Not found", render: () => [h("h1", null, "There is no such page"), h("p", null, h("a", { href: "#/" }, "To the spaces"))] };
}

function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return ""; // half a character: no space has such an id
  }
}

// show renders the page of the address. What the one before it still waits for
// is aborted.
function show() {
  leaving.abort();
  leaving = new AbortController();
  const page = pageOf(location.hash);
  document.title = `${page.title} - Engram console`;
  for (const link of document.querySelectorAll("[data-page]")) {
    if (link.dataset.page === page.name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  main.replaceChildren(...[page.render(leaving.signal)].flat());
}

window.addEventListener("hashchange", () => {
  show();
  main.focus({ preventScroll: true });
  window.scrollTo(0, 0);
});

// The skip link is no page.
document.getElementById("skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});

const dialog = document.getElementById("key-dialog");
const keyInput = document.getElementById("key-input");
const keyKeep = document.getElementById("key-keep");
const keyError = document.getElementById("key-error");
const keyButton = document.getElementById("key-button");
const keyDrop = document.getElementById("key-drop");

function openKeyDialog(why) {
  if (dialog.open) return;
  keyInput.value = "";
  keyDrop.hidden = !api.hasKey();
  dialog.showModal();
  keyError.textContent = why;
}

function showKeyState() {
  keyButton.textContent = api.hasKey() ? "Key: in use" : "Key: none";
}

api.signals.addEventListener("unauthenticated", (event) => openKeyDialog(event.detail.detail ?? "The server asks for a key."));
keyButton.addEventListener("click", () => openKeyDialog(""));
document.getElementById("key-cancel").addEventListener("click", () => dialog.close());

document.getElementById("key-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  keyError.textContent = "";
  const takeFormer = api.useKey(keyInput.value.trim(), keyKeep.checked);
  try {
    await api.listSpaces("", 1);
  } catch (error) {
    takeFormer();
    keyError.textContent = `${error.title ?? "Failed"}: ${error.detail ?? error.message}`;
    keyInput.select();
    return;
  }
  keyInput.value = "";
  dialog.close();
  showKeyState();
  announce("The key is in use.");
  show();
});

keyDrop.addEventListener("click", () => {
  api.useKey("", false);
  dialog.close();
  showKeyState();
  announce("The key is dropped.");
  show();
});

showKeyState();
show();
