package console_test

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"github.com/engramdb/engram"
	"github.com/engramdb/engram/server"
	"github.com/engramdb/engram/server/internal/auth"
)

// TestConsole goes the ways that people go through the console, in a browser.
func TestConsole(t *testing.T) {
	browser := startBrowser(t)
	for name, test := range map[string]func(*testing.T, context.Context){
		"create, remember, recall": testRecall,
		"hostile text":             testHostileText,
		"events":                   testEvents,
		"events of another space":  testEventsOfAnotherSpace,
		"forget":                   testForget,
		"pages and filters":        testPages,
		"keys":                     testKeys,
		"policy":                   testPolicy,
		"accessibility":            testAccessibility,
	} {
		t.Run(name, func(t *testing.T) { test(t, browser) })
	}
}

func testRecall(t *testing.T, browser context.Context) {
	site := startSite(t, server.Options{})
	p := open(t, browser, site.url+"/")
	p.shows(".empty", "no space yet")
	p.fill("create-space", "Id of the new space", "No Space")
	p.press("create-space", "Create")
	p.shows("#create-space .error", "space id")
	p.fill("create-space", "Id of the new space", "alice")
	p.fill("create-space", "Most memories", "8")
	p.do(chromedp.KeyEvent("\r"))
	p.shows("#status", "Space alice is created.")
	p.shows("[data-space=alice]", "0 %")
	p.click(`[data-space=alice] a`)
	p.shows("h1", "alice")

	p.fill("remember", "Content", "Alice likes green tea.")
	p.fill("remember", "Id", "tea")
	p.fill("remember", "Episode", "chat-7")
	p.fill("remember", "Attributes", "topic: drinks\nwho: alice")
	p.press("remember", "Remember")
	p.shows("[data-memory=tea]", "topic: drinks")
	p.shows(".subtitle", "1 memory")
	kept, err := site.space("alice").Lookup(t.Context(), "tea")
	require.NoError(t, err)
	require.Equal(t, map[string]string{"topic": "drinks", "who": "alice"}, kept.Attributes)

	// What the cue reaches only over two associations shows the way to it.
	for _, id := range []string{"kettle", "monday"} {
		_, err := site.space("alice").Remember(t.Context(), engram.Memory{ID: id, Content: "About the " + id, Episode: id})
		require.NoError(t, err)
	}
	for _, a := range []engram.Association{{From: "tea", To: "kettle", Weight: 1}, {From: "kettle", To: "monday", Weight: 1}} {
		_, err := site.space("alice").Associate(t.Context(), a)
		require.NoError(t, err)
	}
	expected, err := site.space("alice").Recall(t.Context(), engram.Cue{Text: "green tea"})
	require.NoError(t, err)
	p.goTo("#/space/alice/recall")
	p.fill("recall", "What should come to mind?", "green tea")
	p.press("recall", "Recall")
	p.until(`document.querySelectorAll(".recollection").length === 3`)
	for i, recollection := range expected.Recollections {
		item := `document.querySelectorAll(".recollection")[` + quoted(i) + `]`
		require.Equal(t, recollection.Memory.ID, ask[string](p, item+`.dataset.memory`))
		shares := ask[string](p, item+`.querySelector(".shares").innerText`)
		if recollection.Why.Text > 0 {
			require.Regexp(t, `text\s+0\.\d{3}`, shares)
		}
		if recollection.Why.Association > 0 {
			require.Regexp(t, `association\s+0\.\d{3}`, shares)
			require.Contains(t, ask[string](p, item+`.querySelector(".path").innerText`), strings.Join(recollection.Why.Path, " → "))
			require.Equal(t, len(recollection.Why.Path), ask[int](p, item+`.querySelectorAll("svg rect").length`))
			require.Contains(t, ask[string](p, item+`.querySelector("svg").getAttribute("aria-label")`), "Alice likes green tea., to About the")
		}
		// The parts of the bar have the proportions of the shares.
		drawn := ask[float64](p, item+`.querySelector(".bar").lastElementChild.getBoundingClientRect().right - `+item+`.querySelector(".bar").getBoundingClientRect().left`)
		whole := ask[float64](p, item+`.querySelector(".bar").getBoundingClientRect().width`)
		require.InDelta(t, recollection.Activation/expected.Recollections[0].Activation, drawn/whole, 0.02)
	}
	p.click(`summary`)
	p.click(`//*[@id="recall"]//label[normalize-space()="Spread over associations"]`)
	p.press("recall", "Recall")
	p.until(`document.querySelectorAll(".recollection").length === 1`)
}

// testHostileText: whatever tenants write stays text.
func testHostileText(t *testing.T, browser context.Context) {
	const markup = `<img src=x onerror="document.title='hacked'">`
	site := startSite(t, server.Options{})
	memories := []engram.Memory{
		{ID: markup, Content: markup, Episode: markup, Attributes: map[string]string{markup: markup, "__proto__": "x"}},
		{ID: `"><script>document.title='hacked'</script>`, Content: `</textarea><svg onload="document.title='hacked'">`},
		{ID: "..", Content: "an id that is a step in a path"},
		{ID: "javascript:alert(1)", Content: "\u202egnp.exe", Kind: engram.Semantic},
	}
	for _, id := range []engram.SpaceID{"constructor", "img-src-x-onerror", "tostring"} {
		space := site.create(id, engram.SpaceConfig{}, memories...)
		_, err := space.Associate(t.Context(), engram.Association{From: markup, To: "..", Kind: markup, Weight: 1})
		require.NoError(t, err)
	}
	p := open(t, browser, site.url+"/")
	p.shows("[data-space=constructor]", "4")
	p.goTo("#/space/constructor/memories")
	p.until(`document.querySelectorAll("[data-memory]").length === 4`)
	for _, memory := range memories {
		p.shows("[data-memory]", memory.Content)
	}
	p.click(`//button[starts-with(@aria-label, "Associations of <img")]`)
	p.shows("[data-memory] ul", markup+" ..")
	// A browser would take this id for a step in the path of the request.
	p.click(`//button[@aria-label="Associations of .."]`)
	p.shows("[data-memory='..'] .error", "cannot be part of an address")

	p.goTo("#/space/constructor/recall")
	p.fill("recall", "What should come to mind?", "img src step path")
	p.press("recall", "Recall")
	p.shows(".recollection", markup)
	p.goTo("#/space/constructor/events")
	p.shows(".events li", markup)
	p.goTo("#/space/constructor/forget")
	p.fill("forget", "Episode", markup)
	p.press("forget", "Dry run")
	p.shows("#forget-really", markup)
	p.goTo("#/space/" + markup + "/memories") // as if a link had brought the user here
	p.shows(".error", "space id")
	p.goTo("#/space/%/memories")
	p.shows("h1", "no such page")

	p.goTo("#/space/constructor/memories")
	p.click(`//button[@aria-label="Forget .."]`)
	p.click(`//dialog//button[normalize-space()="Forget it"]`)
	p.until(`document.querySelectorAll("[data-memory]").length === 3`)
	_, err := site.space("constructor").Lookup(t.Context(), "..")
	require.ErrorIs(t, err, engram.ErrMemoryNotFound)
	require.Equal(t, int64(3), site.space("constructor").Info().Memories, "one, and nothing else")

	require.Zero(t, ask[int](p, `document.querySelectorAll("main img, main script, main [onerror], main [onload], iframe").length`))
	require.NotContains(t, ask[string](p, `document.title`), "hacked")
}

func testEvents(t *testing.T, browser context.Context) {
	site := startSite(t, server.Options{})
	space := site.create("alice", engram.SpaceConfig{}, engram.Memory{ID: "before", Content: "It was there before."})
	p := open(t, browser, site.url+"/#/space/alice/events")
	p.shows(".events li", "It was there before.")
	remember := func(id string) {
		_, err := space.Remember(t.Context(), engram.Memory{ID: id, Content: "It comes now."})
		require.NoError(t, err)
	}
	remember("live")
	p.shows(".events li:first-child", "It comes now.")
	require.Equal(t, []string{"#3", "#2", "#1"}, p.texts(".events .seq"))
	p.shows(".subtitle", "2 memories")

	p.click(`//button[normalize-space()="Pause"]`)
	remember("held")
	p.shows(".subtitle", "1 held back")
	require.Len(t, p.texts(".events li"), 3)
	p.click(`//button[normalize-space()="Pause"]`)
	p.until(`document.querySelectorAll(".events li").length === 4`)

	_, err := space.Forget(t.Context(), []string{"live"})
	require.NoError(t, err)
	p.shows(".events li:first-child .badge", "forgotten")
	require.NoError(t, site.registry.Delete(t.Context(), "alice"))
	p.shows(".error", "space")
	p.shows(".subtitle", "Not connected")
}

// testEventsOfAnotherSpace: what has the id of a space that was deleted while the server
// could not be reached is shown from its own beginning, wherever it stands.
func testEventsOfAnotherSpace(t *testing.T, browser context.Context) {
	site := startSite(t, server.Options{})
	space := site.create("alice", engram.SpaceConfig{}, engram.Memory{Content: "Of the first."}, engram.Memory{Content: "Of the first, too."})
	p := open(t, browser, site.url+"/#/space/alice/events")
	p.shows(".events li", "Of the first, too.")
	for _, seqs := range [][]string{{"#4", "#3", "#2", "#1"}, {"#2", "#1"}} {
		content := fmt.Sprintf("Of one with %d operations.", len(seqs))
		site.away.Store(true)
		site.web.CloseClientConnections()
		p.shows(".subtitle", "Going on in")
		require.NoError(t, site.registry.Delete(t.Context(), space.ID()))
		space = site.create(space.ID(), engram.SpaceConfig{})
		for range len(seqs) - 1 {
			_, err := space.Remember(t.Context(), engram.Memory{Content: content})
			require.NoError(t, err)
		}
		site.away.Store(false)
		p.shows(".events li", content)
		p.until(`document.querySelectorAll(".events li").length === ` + quoted(len(seqs)))
		require.Equal(t, seqs, p.texts(".events .seq"))
		p.shows(".subtitle", "Live")
	}
}

func testForget(t *testing.T, browser context.Context) {
	site := startSite(t, server.Options{})
	space := site.create("alice", engram.SpaceConfig{},
		engram.Memory{Content: "one", Episode: "chat"}, engram.Memory{Content: "two", Episode: "chat"}, engram.Memory{Content: "three", Episode: "mail"})
	p := open(t, browser, site.url+"/#/space/alice/forget")
	p.press("forget", "Dry run")
	p.shows("#forget .error", "is empty")
	p.fill("forget", "Episode", "nothing")
	p.press("forget", "Dry run")
	p.shows("section .empty", "Nothing satisfies the filter")
	p.fill("forget", "Episode", "chat")
	p.press("forget", "Dry run")
	p.shows("#would-forget", "2 memories would be forgotten")
	p.fill("forget", "has the value", "green") // of what attribute is not said
	p.press("forget", "Dry run")
	p.shows("#forget .error", "empty key")
	p.fill("forget", "has the value", "")
	p.press("forget", "Dry run")
	p.shows("#would-forget", "2 memories would be forgotten")
	require.Equal(t, int64(3), space.Info().Memories, "a dry run forgets nothing")

	// What was counted is forgotten or nothing: somebody writes in between.
	_, err := space.Remember(t.Context(), engram.Memory{ID: "later", Content: "four", Episode: "chat"})
	require.NoError(t, err)
	p.press("forget-really", "Forget 2 memories")
	p.shows("#forget-really .error", "has changed")
	require.Equal(t, int64(4), space.Info().Memories)

	p.press("forget", "Dry run")
	p.shows("#would-forget", "3 memories would be forgotten")
	p.fill("forget", "Episode", "mail")
	p.until(`!document.querySelector("#would-forget")`) // a count is of its filter only
	p.fill("forget", "Episode", "chat")
	p.press("forget", "Dry run")
	p.shows("#would-forget", "3 memories")
	p.press("forget-really", "Forget 3 memories")
	p.shows("#forgotten", "3 memories are forgotten.")
	p.shows(".subtitle", "1 memory,")
	require.Equal(t, int64(1), space.Info().Memories)
}

// testPages: listings that are longer than one page, and filters.
func testPages(t *testing.T, browser context.Context) {
	site := startSite(t, server.Options{})
	for _, id := range []engram.SpaceID{"aaa", "bbb", "ccc"} {
		for _, n := range "abcdefgh" {
			site.create(id+engram.SpaceID(n), engram.SpaceConfig{})
		}
	}
	var memories []engram.Memory
	for i := range 30 {
		kind := engram.Episodic
		if i%10 == 0 {
			kind = engram.Semantic
		}
		memories = append(memories, engram.Memory{Content: "memory", Kind: kind, Time: time.Date(2026, 1, 1+i, 0, 0, 0, 0, time.UTC)})
	}
	_, err := site.space("aaaa").RememberBatch(t.Context(), memories)
	require.NoError(t, err)

	p := open(t, browser, site.url+"/")
	p.until(`document.querySelectorAll("[data-space]").length === 20`)
	p.click(`//button[normalize-space()="Next page"]`)
	p.until(`document.querySelectorAll("[data-space]").length === 4`)
	p.click(`//button[normalize-space()="First page"]`)
	p.until(`document.querySelectorAll("[data-space]").length === 20`)
	site.create("aaa0", engram.SpaceConfig{}) // the stream of events tells of it
	p.until(`document.querySelector("[data-space]").dataset.space === "aaa0"`)
	p.fill("open-space", "Id", "missing")
	p.press("open-space", "Open")
	p.shows("#open-space .error", "not found")
	p.fill("open-space", "Id", "aaaa")
	p.press("open-space", "Open")

	p.until(`document.querySelectorAll("[data-memory]").length === 25`)
	p.click(`//button[normalize-space()="Show more"]`)
	p.until(`document.querySelectorAll("[data-memory]").length === 30`)
	ask[chromedp.Void](p, `document.querySelector("fieldset select").value = "semantic"`)
	p.click(`//button[normalize-space()="Show"]`)
	p.until(`document.querySelectorAll("[data-memory]").length === 3`)
	p.click(`//button[normalize-space()="Clear"]`)
	p.until(`document.querySelectorAll("[data-memory]").length === 25`)

	p.goTo("#/server")
	p.shows(".figures", "25")
	p.shows("tbody tr", "list memories")
	require.Greater(t, ask[int](p, `document.querySelectorAll(".latencies circle").length`), 10)
}

// testKeys: on a server that asks for credentials the page shows what the key
// allows, and nothing without one.
func testKeys(t *testing.T, browser context.Context) {
	var keys []auth.Key
	issue := func(scopes ...string) string {
		parsed, err := auth.ParseScopes(scopes)
		require.NoError(t, err)
		key, text := auth.NewKey("", parsed, time.Now(), time.Time{})
		keys = append(keys, key)
		return text
	}
	ofAlice, operator := issue("alice:read,write"), issue("*:read,write,admin")
	path := filepath.Join(t.TempDir(), "keys.json")
	require.NoError(t, auth.UpdateKeys(path, func([]auth.Key) ([]auth.Key, error) { return keys, nil }))
	admitted, err := server.OpenAuth(t.Context(), server.AuthConfig{Keys: path})
	require.NoError(t, err)
	t.Cleanup(admitted.Close)
	site := startSite(t, server.Options{Auth: admitted})
	space := site.create("alice", engram.SpaceConfig{}, engram.Memory{ID: "mine", Content: "Alice's own."})
	site.create("bob", engram.SpaceConfig{}, engram.Memory{Content: "Bob's own."})

	p := open(t, browser, site.url+"/")
	p.until(`document.querySelector("#key-dialog").open`)
	p.shows("#key-error", "no credential")
	require.Empty(t, p.texts("[data-space]"))
	p.fill("key-dialog", "Key or token", "engram_aaaaaaaaaaaaaaaa_"+strings.Repeat("a", 52))
	p.press("key-dialog", "Use this key")
	p.shows("#key-error", "unknown credential")
	require.Empty(t, p.texts("[data-space]"))
	p.fill("key-dialog", "Key or token", ofAlice)
	p.press("key-dialog", "Use this key")
	p.shows("[data-space=alice]", "awake")
	require.Equal(t, []string{"alice"}, p.texts("[data-space] a"))
	p.shows("#key-button", "in use")

	// One that is refused takes the place of none.
	p.click("#key-button")
	p.fill("key-dialog", "Key or token", "mistyped")
	p.press("key-dialog", "Use this key")
	p.shows("#key-error", "unknown credential")
	p.press("key-dialog", "Cancel")
	p.shows("#key-button", "in use")
	p.goTo("#/space/alice/memories")
	p.shows("[data-memory=mine]", "Alice's own.")

	p.goTo("#/space/bob/memories")
	p.shows(".error", "Space not found")
	require.NotContains(t, ask[string](p, `document.body.innerText`), "Bob's own")
	p.goTo("#/server")
	p.shows(".empty", "those who govern all spaces")
	p.goTo("#/space/alice/figures")
	p.shows(".figures", "no embedding")
	p.goTo("#/space/alice/events") // a stream with the key in its header
	p.shows(".events li", "Alice's own.")
	_, err = space.Remember(t.Context(), engram.Memory{Content: "While she watches."})
	require.NoError(t, err)
	p.shows(".events li", "While she watches.")

	// The key was in memory only, as asked.
	require.Zero(t, ask[int](p, `sessionStorage.length + localStorage.length + document.cookie.length`))
	p.do(chromedp.Reload())
	p.until(`document.querySelector("#key-dialog").open`)
	p.fill("key-dialog", "Key or token", operator)
	p.click(`#key-keep`)
	p.press("key-dialog", "Use this key")
	p.shows(".events li", "Alice's own.")
	p.do(chromedp.Reload())
	p.shows(".events li", "Alice's own.")
	p.goTo("#/")
	p.shows("[data-space=bob]", "awake")
	p.click(`#key-button`)
	p.press("key-dialog", "Drop the key")
	p.until(`document.querySelector("#key-dialog").open`)
	require.Empty(t, p.texts("[data-space]"))
	require.Zero(t, ask[int](p, `sessionStorage.length`))
}

// testPolicy: the browser refuses what the scripts never do.
func testPolicy(t *testing.T, browser context.Context) {
	site := startSite(t, server.Options{})
	p := open(t, browser, site.url+"/")
	p.shows(".empty", "no space yet")
	for _, attempt := range []string{
		`document.body.innerHTML = "<b>markup</b>"`,
		`document.body.insertAdjacentHTML("beforeend", "<b>markup</b>")`,
	} {
		require.NotEqual(t, "done", ask[string](p, `(() => { try { `+attempt+`; return "done"; } catch (error) { return error.name; } })()`), attempt)
	}
	require.Equal(t, "refused", ask[string](p, `(async () => {
		const script = document.createElement("script");
		const answer = new Promise((resolve) => { script.onload = () => resolve("done"); script.onerror = () => resolve("refused"); });
		try { script.src = "data:text/javascript,1"; } catch { return "refused"; }
		document.head.append(script);
		return answer;
	})()`))
	require.Equal(t, "refused", ask[string](p, `fetch("http://127.0.0.1:9/").then(() => "done", () => "refused")`))
	p.mu.Lock()
	defer p.mu.Unlock()
	require.NotEmpty(t, p.complaints, "a page that is refused something is noticed by these tests")
	p.complaints = nil
}
