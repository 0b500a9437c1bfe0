package console_test

import (
	"context"
	"encoding/json"
	"testing"

	"github.com/chromedp/cdproto/accessibility"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"github.com/engramdb/engram/server"
)

// testAccessibility looks at each page as those see it who do not see it, or who
// have a keyboard only, in light and in dark.
func testAccessibility(t *testing.T, browser context.Context) {
	site := startSite(t, server.Options{})
	fillWithExamples(site)
	p := open(t, browser, site.url+"/", prefer("light"))
	for _, view := range []struct{ hash, ready string }{
		{"#/", `document.querySelectorAll("tbody .badge").length === 5`},
		{"#/server", `document.querySelectorAll(".figures, tbody tr").length > 1`},
		{"#/space/alice/memories", `document.querySelectorAll("[data-memory]").length === 8`},
		{"#/space/alice/recall", `document.querySelector("#recall")`},
		{"#/space/alice/events", `document.querySelectorAll(".events li").length > 5`},
		{"#/space/alice/forget", `document.querySelector("#forget")`},
		{"#/space/alice/figures", `document.querySelectorAll(".figures").length === 3`},
	} {
		p.goTo(view.hash)
		p.until(view.ready)
		switch view.hash {
		case "#/space/alice/recall":
			p.fill("recall", "What should come to mind?", "a window seat")
			p.click("summary")
			p.press("recall", "Recall")
			p.until(`document.querySelector(".recollection svg")`)
		case "#/space/alice/forget":
			p.fill("forget", "Episode", "call-17")
			p.press("forget", "Dry run")
			p.until(`document.querySelector("#would-forget")`)
		}
		requireAccessible(t, p, view.hash)
	}
	p.goTo("#/space/alice/memories")
	p.until(`document.querySelectorAll("[data-memory]").length === 8`)
	requireTabOrder(t, p)

	// A dialog takes the focus, keeps it, and gives it back.
	p.click(`#key-button`)
	p.until(`document.activeElement.id === "key-input"`)
	requireAccessible(t, p, "the dialog")
	p.do(chromedp.KeyEvent("\x1b"))
	p.until(`!document.querySelector("#key-dialog").open && document.activeElement.id === "key-button"`)
	p.do(chromedp.KeyEvent("\r"))
	p.until(`document.querySelector("#key-dialog").open`)
}

// requireAccessible checks the page that is shown.
func requireAccessible(t *testing.T, p *page, what string) {
	t.Helper()
	tree, err := chromedp.Call(p.ctx, accessibility.GetFullAXTree, accessibility.GetFullAXTreeParams{})
	p.require(err)
	named := map[string]bool{
		"button": true, "link": true, "textbox": true, "combobox": true, "checkbox": true, "spinbutton": true, "Date": true, "DateTime": true,
		"InputTime": true, "image": true, "img": true, "dialog": true, "form": true, "navigation": true, "region": true, "table": true, "log": true,
		"rowheader": true, "columnheader": true, "group": true, "heading": true,
	}
	seen := map[string]int{}
	for _, node := range tree.Nodes {
		role, name := textOf(t, node.Role), textOf(t, node.Name)
		if node.Ignored || role == "group" && name == "" { // of a fieldset; a <details> is one too
			continue
		}
		seen[role]++
		if named[role] {
			require.NotEmpty(t, name, "%s: a %s without a name", what, role)
		}
	}
	require.Equal(t, 1, seen["main"]+seen["dialog"], "%s: a modal dialog hides the page", what)
	if seen["main"] == 1 {
		require.Equal(t, 1, seen["banner"], what)
		require.GreaterOrEqual(t, seen["navigation"], 1, what)
	}
	require.Equal(t, 1, ask[int](p, `document.querySelectorAll("h1").length`), what)
	require.Empty(t, ask[[]string](p, `(() => {
		const ids = [...document.querySelectorAll("[id]")].map((e) => e.id);
		const wrong = ids.filter((id, i) => ids.indexOf(id) !== i);
		for (const input of document.querySelectorAll("input, select, textarea")) if (input.labels.length === 0) wrong.push(input.outerHTML);
		for (const cell of document.querySelectorAll("th")) if (!cell.scope) wrong.push(cell.outerHTML);
		for (const e of document.querySelectorAll("[aria-describedby], [aria-labelledby]"))
			for (const id of [e.getAttribute("aria-describedby"), e.getAttribute("aria-labelledby")])
				if (id && !document.getElementById(id)) wrong.push(id);
		return wrong;
	})()`), what)
	for _, scheme := range []string{"dark", "light"} {
		p.do(prefer(scheme))
		require.Empty(t, ask[[]string](p, lowContrast), "%s, %s", what, scheme)
	}
	require.LessOrEqual(t, ask[int](p, `document.documentElement.scrollWidth - innerWidth`), 0, "%s scrolls sideways", what)
}

// textOf returns a value of the accessibility tree that is a text.
func textOf(t *testing.T, value *accessibility.Value) string {
	t.Helper()
	var text string
	if value != nil {
		require.NoError(t, json.Unmarshal(value.Value, &text))
	}
	return text
}

// lowContrast lists the texts with less than 4.5:1 against what they stand on, 3:1
// for large ones: level AA of WCAG 2.2. A background that is not opaque is laid
// over the one below it.
const lowContrast = `(() => {
	const parse = (color) => {
		const srgb = color.startsWith("color(srgb");
		const [r, g, b, a = 1] = color.match(/[\d.]+(e-?\d+)?/g).map(Number);
		return srgb ? [255 * r, 255 * g, 255 * b, a] : [r, g, b, a];
	};
	const over = (top, below) => [0, 1, 2].map((i) => top[i] * top[3] + below[i] * (1 - top[3])).concat(1);
	const backdrop = (element) => {
		if (!element) return [255, 255, 255, 1];
		const own = parse(getComputedStyle(element).backgroundColor);
		return own[3] === 1 ? own : over(own, backdrop(element.parentElement));
	};
	const luminance = (color) => color.slice(0, 3).map((c) => c / 255).map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
		.reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
	const ratio = (a, b) => (Math.max(luminance(a), luminance(b)) + 0.05) / (Math.min(luminance(a), luminance(b)) + 0.05);
	const wrong = [];
	const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
	while (texts.nextNode()) {
		const element = texts.currentNode.parentElement, style = getComputedStyle(element);
		if (!texts.currentNode.data.trim() || !element.checkVisibility({ visibilityProperty: true })) continue;
		const inDrawing = element.namespaceURI.endsWith("svg");
		if (inDrawing && element.localName !== "text") continue;
		const shape = element.parentElement.querySelector(":scope > rect");
		const ground = inDrawing && shape ? parse(getComputedStyle(shape).fill) : backdrop(element);
		const large = parseFloat(style.fontSize) >= 24 || parseFloat(style.fontSize) >= 18.66 && style.fontWeight >= 700;
		const got = ratio(over(parse(inDrawing ? style.fill : style.color), ground), ground);
		if (got < (large ? 3 : 4.5)) wrong.push(got.toFixed(2) + ": " + texts.currentNode.data.trim());
	}
	return wrong;
})()`

// requireTabOrder goes through the page with the tab key: everything that can be
// used is reached, in the order in which it stands, and the focus is seen.
func requireTabOrder(t *testing.T, p *page) {
	t.Helper()
	expected := ask[int](p, `(() => {
		window.tabbable = [...document.querySelectorAll("a[href], button, input, select, textarea, summary, [tabindex='0']")]
			.filter((e) => !e.disabled && e.checkVisibility({ visibilityProperty: true }));
		document.body.tabIndex = -1;
		document.body.focus();
		document.body.removeAttribute("tabindex");
		window.scrollTo(0, 0);
		return tabbable.length;
	})()`)
	require.Greater(t, expected, 20)
	for i := 0; i < expected; {
		p.do(chromedp.KeyEvent("\t"))
		at := ask[int](p, `tabbable.indexOf(document.activeElement)`)
		if at == i-1 {
			continue // a field for a date has several parts
		}
		require.Equal(t, i, at, "%s", ask[string](p, `document.activeElement.outerHTML.slice(0, 200)`))
		require.Equal(t, "seen", ask[string](p, `(() => {
			const style = getComputedStyle(document.activeElement);
			return style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2 ? "seen" : document.activeElement.outerHTML.slice(0, 200);
		})()`))
		i++
	}
}
