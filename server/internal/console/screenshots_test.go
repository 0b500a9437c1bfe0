package console_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"github.com/engramdb/engram"
	"github.com/engramdb/engram/server"
)

// TestScreenshots draws the pictures of docs/images and more of them into the
// directory of ENGRAM_CONSOLE_SCREENSHOTS, for people to look at.
func TestScreenshots(t *testing.T) {
	dir := os.Getenv("ENGRAM_CONSOLE_SCREENSHOTS")
	if dir == "" {
		t.Skip("ENGRAM_CONSOLE_SCREENSHOTS names no directory for the pictures")
	}
	require.NoError(t, os.MkdirAll(dir, 0o755))
	browser := startBrowser(t)
	served := startSite(t, server.Options{})
	fillWithExamples(served)
	views := []struct{ name, hash, ready string }{
		{"spaces", "#/", `document.querySelectorAll("tbody .badge").length === 5`},
		{"server", "#/server", `document.querySelector(".figures") && document.querySelectorAll("tbody tr").length`},
		{"memories", "#/space/alice/memories", `document.querySelectorAll("[data-memory]").length > 5`},
		{"recall", "#/space/alice/recall", `document.querySelector("#recall")`},
		{"events", "#/space/alice/events", `document.querySelectorAll(".events li").length > 5`},
		{"forget", "#/space/alice/forget", `document.querySelector("#forget")`},
		{"figures", "#/space/alice/figures", `document.querySelectorAll(".figures").length === 3`},
	}
	for _, look := range []struct {
		name, scheme string
		width        int64
	}{{"light", "light", 1200}, {"dark", "dark", 1200}, {"narrow", "light", 390}} {
		t.Run(look.name, func(t *testing.T) {
			p := open(t, browser, served.url+"/",
				chromedp.EmulateViewport(look.width, 1000),
				prefer(look.scheme))
			for _, view := range views {
				t.Run(view.name, func(t *testing.T) {
					p.goTo(view.hash)
					p.until(view.ready)
					if prepare := map[string]func(*testing.T, *page, *site){
						"recall": recallSomething, "forget": forgetSomething, "spaces": writeSomething,
					}[view.name]; prepare != nil {
						prepare(t, p, served)
					}
					ask[chromedp.Void](p, `document.activeElement.blur(); window.scrollTo(0, 0)`)
					picture, err := chromedp.Run(p.ctx, chromedp.CaptureScreenshot())
					require.NoError(t, err)
					require.NoError(t, os.WriteFile(filepath.Join(dir, "console-"+view.name+"-"+look.name+".png"), picture, 0o644))
				})
			}
		})
	}
}

func recallSomething(_ *testing.T, p *page, _ *site) {
	p.fill("recall", "What should come to mind?", "Which seat does Alice want on the flight to Lisbon?")
	p.press("recall", "Recall")
	p.until(`document.querySelectorAll(".recollection").length > 2`)
}

func forgetSomething(_ *testing.T, p *page, _ *site) {
	p.fill("forget", "Episode", "call-17")
	p.press("forget", "Dry run")
	p.until(`document.querySelector("#would-forget")`)
}

// writeSomething writes while the page looks.
func writeSomething(t *testing.T, p *page, s *site) {
	p.until(`document.querySelector("[data-space=weather-agent] .badge.awake")`)
	written := 0
	for _, writes := range []int{3, 1, 2} {
		for range writes {
			_, err := s.space("weather-agent").Remember(t.Context(), engram.Memory{Content: "It rains in Porto."})
			require.NoError(t, err)
		}
		written += writes
		p.shows("[data-space=weather-agent]", fmt.Sprintf("+%d", written))
	}
}

// prefer is the wish for light or dark, and for nothing that moves.
func prefer(scheme string) chromedp.Action[chromedp.Void] {
	return call(emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
		{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"},
	}})
}

func (s *site) space(id engram.SpaceID) *engram.Space {
	s.t.Helper()
	space, err := s.registry.Get(s.t.Context(), id)
	require.NoError(s.t, err)
	return space
}

// fillWithExamples makes spaces that look like some.
func fillWithExamples(s *site) {
	s.t.Helper()
	day := time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC)
	at := func(minutes int) time.Time { return day.Add(time.Duration(minutes) * time.Minute) }
	alice := s.create("alice", engram.SpaceConfig{MaxMemories: 40, MaxBytes: 64 << 10},
		engram.Memory{ID: "seat", Content: "Alice prefers window seats on long flights.", Episode: "call-17", Time: at(0), Attributes: map[string]string{"topic": "travel"}},
		engram.Memory{ID: "knee", Content: "Her left knee hurts when she sits for hours, so row 12 with more room is worth it.", Episode: "call-17", Time: at(2), Attributes: map[string]string{"topic": "health"}},
		engram.Memory{ID: "lisbon", Content: "The flight to Lisbon leaves on Friday at 07:40 from gate B.", Episode: "call-17", Time: at(5), Attributes: map[string]string{"topic": "travel"}},
		engram.Memory{ID: "fair", Content: "She speaks at the ceramics fair on Saturday morning.", Episode: "mail-4", Time: at(600)},
		engram.Memory{ID: "hotel", Content: "The hotel is on Rua da Rosa; breakfast starts at six.", Episode: "mail-4", Time: at(604), Attributes: map[string]string{"topic": "travel"}},
		engram.Memory{ID: "tea", Content: "Alice likes green tea, never with sugar.", Episode: "chat-7", Time: at(1500), Attributes: map[string]string{"topic": "drinks"}},
		engram.Memory{ID: "kettle", Content: "A new kettle comes on Monday.", Episode: "chat-7", Time: at(1502)},
		engram.Memory{ID: "rule", Content: "Never book connections shorter than an hour.", Kind: engram.Semantic, Confidence: 0.9, Time: at(2900)},
	)
	for _, a := range []engram.Association{
		{From: "lisbon", To: "fair", Kind: "because-of", Weight: 0.9},
		{From: "fair", To: "hotel", Kind: "near", Weight: 0.8},
		{From: "seat", To: "rule", Kind: "booking", Weight: 0.7},
		{From: "lisbon", To: "rule", Kind: "booking", Weight: 0.5},
		{From: "seat", To: "knee", Kind: "because-of", Weight: 0.9},
	} {
		_, err := alice.Associate(s.t.Context(), a)
		require.NoError(s.t, err)
	}
	s.create("bob", engram.SpaceConfig{}, engram.Memory{Content: "Bob called about the invoice."})
	s.create("support-eu", engram.SpaceConfig{MaxMemories: 4},
		engram.Memory{Content: "Ticket 81 is about refunds."}, engram.Memory{Content: "Refunds take five days."},
		engram.Memory{Content: "Ticket 82 asks for an invoice."}, engram.Memory{Content: "Invoices are sent on the first."})
	s.create("team-atlas", engram.SpaceConfig{MaxMemories: 1000}, engram.Memory{Content: "The review is on Thursday."})
	s.create("weather-agent", engram.SpaceConfig{})
}
