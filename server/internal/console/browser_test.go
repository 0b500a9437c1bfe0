package console_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"github.com/engramdb/engram"
	"github.com/engramdb/engram/server"
)

// hangTimeout ends a test that waits for what never comes. Nothing is measured
// by it.
const hangTimeout = 2 * time.Minute

// startBrowser starts a browser of its own for the test, and ends it with the
// test. Where there is none the test is skipped.
func startBrowser(t *testing.T) context.Context {
	t.Helper()
	var program string
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if found, err := exec.LookPath(name); err == nil {
			program = found
			break
		}
	}
	if program == "" {
		t.Skip("no chromium, chromium-browser or google-chrome is installed")
	}
	options := []chromedp.ExecAllocatorOption{chromedp.ExecPath(program), chromedp.UserDataDir(t.TempDir())}
	for _, flag := range []string{
		"headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "no-default-browser-check", "disable-background-networking",
		"disable-component-update", "disable-sync", "disable-breakpad", "disable-dev-shm-usage", "no-proxy-server", "hide-scrollbars",
	} {
		options = append(options, chromedp.Flag(flag, true))
	}
	allocator, end := chromedp.NewExecAllocator(context.Background(), options...)
	browser, closeBrowser := chromedp.NewContext(allocator)
	t.Cleanup(func() {
		err := chromedp.Cancel(browser) // which waits until the process has ended
		closeBrowser()
		end()
		require.NoError(t, err)
	})
	require.NoError(t, chromedp.Do(browser))
	return browser
}

// site is a server with a registry of its own.
type site struct {
	t        *testing.T
	registry *engram.Registry
	web      *httptest.Server
	url      string
	away     atomic.Bool // it answers nothing
}

func startSite(t *testing.T, options server.Options) *site {
	t.Helper()
	registry, err := engram.Open(t.TempDir(), engram.Options{})
	require.NoError(t, err)
	served := server.New(registry, options)
	s := &site{t: t, registry: registry}
	s.web = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.away.Load() {
			panic(http.ErrAbortHandler)
		}
		served.ServeHTTP(w, r)
	}))
	s.url = s.web.URL
	t.Cleanup(func() {
		served.Drain()
		s.web.Close()
		require.NoError(t, registry.Close())
	})
	return s
}

func (s *site) create(id engram.SpaceID, config engram.SpaceConfig, memories ...engram.Memory) *engram.Space {
	s.t.Helper()
	space, err := s.registry.Create(s.t.Context(), id, config)
	require.NoError(s.t, err)
	if len(memories) > 0 {
		_, err = space.RememberBatch(s.t.Context(), memories)
		require.NoError(s.t, err)
	}
	return space
}

// page is a tab, with storage and a cache that no other tab shares.
type page struct {
	t   *testing.T
	ctx context.Context

	mu         sync.Mutex // guards complaints
	complaints []string   // of the browser: exceptions, and what the policy refused
}

// open opens a tab at a place of the site.
func open(t *testing.T, browser context.Context, at string, before ...chromedp.Action[chromedp.Void]) *page {
	t.Helper()
	p := &page{t: t}
	tab, closeTab := chromedp.NewContext(browser, chromedp.WithNewBrowserContext(), chromedp.WithListener(p.listen))
	t.Cleanup(closeTab)
	require.NoError(t, chromedp.Do(tab)) // without the deadline, which would become the tab's own
	var cancel context.CancelFunc
	p.ctx, cancel = context.WithTimeout(tab, hangTimeout)
	t.Cleanup(cancel)
	p.do(chromedp.EmulateViewport(1200, 900))
	p.do(before...)
	p.do(chromedp.Navigate(at))
	t.Cleanup(func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		require.Empty(t, p.complaints, "the browser complains")
	})
	return p
}

func (p *page) listen(event any) {
	var complaint string
	switch e := event.(type) {
	case *runtime.EventExceptionThrown:
		complaint = (&chromedp.ExceptionError{ExceptionDetails: e.ExceptionDetails}).Error()
	case *log.EventEntryAdded:
		if e.Entry.Source != log.EntrySourceNetwork { // that a request was refused is no mistake of the page
			complaint = e.Entry.Text
		}
	}
	if complaint != "" {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.complaints = append(p.complaints, complaint)
	}
}

// do carries actions out. An action that does not come to its end is told with
// what the page shows.
func (p *page) do(actions ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	p.require(chromedp.Do(p.ctx, actions...))
}

func (p *page) require(err error) {
	p.t.Helper()
	if err == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(p.ctx), 5*time.Second)
	defer cancel()
	shown, _ := chromedp.Run(ctx, chromedp.Evaluate[string]("document.body.innerText")) // for the message only
	require.NoError(p.t, err, "the page shows:\n%s", shown)
}

// ask evaluates an expression of JavaScript, and waits for it where it is a promise.
func ask[T any](p *page, expression string) T {
	p.t.Helper()
	answer, err := chromedp.Run(p.ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	p.require(err)
	return answer
}

// call sends a command of the browser's protocol.
func call[P, R any](command cdp.Command[P, R], parameters P) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		_, err := cdp.Call(ctx, target, command, parameters)
		return err
	})
}

// find waits until the expression of JavaScript is neither false nor empty, and
// returns it. It is looked at when the page has changed.
func find[T any](p *page, expression string) T {
	p.t.Helper()
	return ask[T](p, `new Promise((resolve) => {
		const look = () => {
			const value = (`+expression+`);
			if (!value) return;
			observer.disconnect();
			resolve(value);
		};
		const observer = new MutationObserver(look);
		observer.observe(document, { subtree: true, childList: true, attributes: true, characterData: true });
		look();
	})`)
}

// until waits until the expression is true.
func (p *page) until(expression string) {
	p.t.Helper()
	find[bool](p, "Boolean("+expression+")")
}

// quoted spells a value in JavaScript.
func quoted(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err) // tests give texts and numbers
	}
	return string(text)
}

// shows waits until an element that matches the selector has the text.
func (p *page) shows(selector, text string) {
	p.t.Helper()
	p.until(fmt.Sprintf(`[...document.querySelectorAll(%s)].some((e) => e.innerText.includes(%s))`, quoted(selector), quoted(text)))
}

// click waits for an element, by a selector or an XPath, and clicks on it where
// nothing covers it.
func (p *page) click(selector string) {
	p.t.Helper()
	element := `document.querySelector(` + quoted(selector) + `)`
	if strings.HasPrefix(selector, "//") {
		element = `document.evaluate(` + quoted(selector) + `, document, null, XPathResult.FIRST_ORDERED_NODE_TYPE).singleNodeValue`
	}
	p.until(element)
	ask[chromedp.Void](p, element+`.scrollIntoView({ block: "center", behavior: "instant" })`)
	p.do(chromedp.Click(selector))
}

// fill puts text into the field that has the label, as a user does who clicks on
// the label.
func (p *page) fill(form, label, text string) {
	p.t.Helper()
	p.click(fmt.Sprintf(`//*[@id="%s"]//label[normalize-space()="%s"]`, form, label))
	require.Equal(p.t, label, ask[string](p, `document.activeElement.labels?.[0].innerText ?? document.activeElement.outerHTML`))
	ask[chromedp.Void](p, `document.activeElement.select?.()`)
	p.do(call(input.InsertText, input.InsertTextParams{Text: text}))
}

// press clicks on the button with the text.
func (p *page) press(within, text string) {
	p.t.Helper()
	p.click(fmt.Sprintf(`//*[@id="%s"]//button[normalize-space()="%s"]`, within, text))
}

// goTo follows an address within the page.
func (p *page) goTo(hash string) {
	p.t.Helper()
	ask[chromedp.Void](p, `location.hash = `+quoted(hash))
}

// texts returns the texts of the elements that match the selector.
func (p *page) texts(selector string) []string {
	p.t.Helper()
	texts := ask[[]string](p, `[...document.querySelectorAll(`+quoted(selector)+`)].map((e) => e.innerText)`)
	for i := range texts {
		texts[i] = strings.TrimSpace(texts[i])
	}
	return texts
}
