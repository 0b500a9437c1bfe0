// Everything on the page is made of nodes here. Text of users becomes text nodes
// and attribute values, never markup; the policy of the page refuses the rest.

// h makes an element. Properties are attributes, but for "on", the listeners.
// Children are nodes, and texts; what is null, undefined or false is left out.
export function h(name, properties, ...children) {
  return fill(document.createElement(name), properties, children);
}

// s is h for drawings.
export function s(name, properties, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", name), properties, children);
}

function fill(element, properties, children) {
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (name === "on") {
      for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
    } else if (value !== null && value !== undefined && value !== false) {
      element.setAttribute(name, value === true ? "" : String(value));
    }
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

// user shows text of a user. It is kept apart: characters that turn the
// direction of writing do so within it only.
export const user = (text) => h("bdi", null, text);

const numbers = new Intl.NumberFormat("en");
export const count = (n) => numbers.format(n);
export const plural = (n, one, many = one + "s") => `${count(n)} ${n === 1 ? one : many}`;

export function bytes(n) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  for (; n >= 1024 && unit < units.length - 1; unit++) n /= 1024;
  return `${unit === 0 || n >= 100 ? Math.round(n) : n.toFixed(1)} ${units[unit]}`;
}

export const milliseconds = (ms) => (ms < 10 ? ms.toFixed(1) : count(Math.round(ms))) + " ms";

const moments = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });

// when shows a moment of RFC 3339 in the reader's own time zone.
export function when(text) {
  const moment = new Date(text);
  return h("time", { datetime: text, title: text }, Number.isNaN(moment.getTime()) ? text : moments.format(moment));
}

// clip shortens a text for a label.
export function clip(text, most) {
  const characters = [...text];
  return characters.length <= most ? text : characters.slice(0, most - 1).join("") + "…";
}

// passage shows a long text shortened, with a button for the rest.
export function passage(text, most = 400) {
  const shown = user(clip(text, most));
  if (clip(text, most) === text) return h("p", { class: "content" }, shown);
  const more = h("button", { type: "button", class: "quiet small", on: { click: () => {
    shown.textContent = text;
    more.remove();
  } } }, "Show all of it");
  return h("p", { class: "content" }, shown, " ", more);
}

let fields = 0;

// field makes a labelled input, which is the second of what it returns.
export function field(label, properties = {}, hint = "") {
  const { tag = "input", children = [], ...rest } = properties;
  const id = `field-${++fields}`;
  const input = h(tag, { id, autocomplete: "off", "aria-describedby": hint && `${id}-hint` || null, ...rest }, ...children);
  if (rest.type === "checkbox") return [h("p", { class: "check" }, input, h("label", { for: id }, label)), input];
  return [h("p", { class: "field" }, h("label", { for: id }, label), input, hint && h("small", { id: `${id}-hint` }, hint)), input];
}

// choice is field for one of several values.
export function choice(label, options) {
  return field(label, { tag: "select", children: options.map(([value, text]) => h("option", { value }, text)) });
}

// table makes a table with a caption for those who do not see it. The first cell
// of each row names it.
export function table(caption, columns, body) {
  return h("div", { class: "scroll", role: "region", "aria-label": caption, tabindex: 0 },
    h("table", null, h("caption", { class: "hidden" }, caption),
      h("thead", null, h("tr", null, columns.map(([name, style]) => h("th", { scope: "col", class: style }, name)))), body));
}

// figures makes a list of names and values.
export function figures(pairs) {
  return h("dl", { class: "figures" }, pairs.filter(Boolean).map(([name, value]) => h("div", null, h("dt", null, name), h("dd", null, value))));
}

// announce says what has been done, to the eye and to screen readers.
export function announce(text) {
  const status = document.getElementById("status");
  status.textContent = text;
  clearTimeout(announce.timer);
  announce.timer = setTimeout(() => { status.textContent = ""; }, 8000);
}

// complaint shows why something failed. It is a live region: it has to be on the
// page before it is filled.
export function complaint() {
  const node = h("div", { class: "error", role: "alert" });
  return {
    node,
    clear: () => node.replaceChildren(),
    show(error) {
      node.replaceChildren(h("p", null, h("strong", null, error.title ?? "Failed"), ": ", user(error.detail ?? error.message)),
        ...(error.hint ? [h("p", { class: "hint" }, error.hint)] : []));
    },
  };
}

// submits makes a form whose button is out of use while its work is done.
export function submits(properties, work, complain, ...children) {
  const form = h("form", { ...properties, on: { async submit(event) {
    event.preventDefault();
    const buttons = [...form.querySelectorAll("button[type=submit]:not(:disabled)")];
    const focused = buttons.includes(document.activeElement) && document.activeElement;
    for (const button of buttons) button.disabled = true;
    complain.clear();
    try {
      await work(event.submitter);
    } catch (error) {
      if (error.name !== "AbortError") complain.show(error);
    }
    for (const button of buttons) button.disabled = false;
    if (focused && document.activeElement === document.body) focused.focus();
  } } }, ...children);
  return form;
}
