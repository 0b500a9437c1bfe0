package main

import (
	"fmt"
	"os"
)

// progress tells a person at a terminal what is going on, on one line that it
// overwrites. To anything but a terminal it is silent.
type progress struct {
	terminal *os.File // nil if there is none
}

func newProgress(stderr *os.File) *progress {
	info, err := stderr.Stat()
	if err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return &progress{}
	}
	return &progress{terminal: stderr}
}

func (p *progress) say(what string) { p.write("\r\x1b[K" + what + " ...") }

func (p *progress) done() { p.write("\r\x1b[K") }

// write gives up on a terminal that is gone: nothing depends on the line being seen.
func (p *progress) write(text string) {
	if p.terminal == nil {
		return
	}
	if _, err := fmt.Fprint(p.terminal, text); err != nil {
		p.terminal = nil
	}
}
