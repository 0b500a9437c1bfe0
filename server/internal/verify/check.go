package verify

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"sync"

	"github.com/engramdb/engram"
)

// need is what an installation must offer for an assertion to be tried.
type need int

const (
	needLibrary need = 1 << iota // the library's own handles
	needHTTP                     // requests as they stand
	needGRPC                     // RPCs as they stand
	needPages                    // listings with cursors
	needBoth                     // HTTP and gRPC of one server
	needRestart                  // a way to start the installation again
	needKill                     // a directory in which a process may be killed
	needTenant                   // a key that sees a part of the spaces
	needMCP                      // the tools of the Model Context Protocol
)

// assertion is one claim about an installation.
type assertion struct {
	name  string // area/what
	claim string // what holds where it passes
	needs need
	try   func(ctx context.Context, c *check) error
}

// maxFailures is how many failures of an assertion are kept in full.
const maxFailures = 5

// check is one assertion being tried over one transport. Its methods are safe for
// concurrent use.
type check struct {
	run    *run
	over   transport // with the credential that may do everything
	stage  *stage    // spaces with known contents, which nobody changes
	random *rand.Rand

	interrupted func() bool // nil: it cannot be

	mu       sync.Mutex // guards the fields below
	count    int
	failures []string
	failed   int
	warning  string
	measured map[string]float64
}

// randomOf returns the random numbers of one use of a seed.
func randomOf(seed uint64, use string) *rand.Rand {
	sum := fnv.New64a()
	_, _ = sum.Write([]byte(use)) // never fails
	return rand.New(rand.NewPCG(seed, sum.Sum64()))
}

// that counts one comparison, and notes a failure where it does not hold.
func (c *check) that(holds bool, format string, args ...any) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.count++
	if !holds {
		c.failLocked(fmt.Sprintf(format, args...))
	}
	return holds
}

// failLocked notes a failure, unless the run was interrupted: what then fails may fail
// because of that.
func (c *check) failLocked(text string) {
	if c.interrupted != nil && c.interrupted() {
		return
	}
	c.failed++
	if len(c.failures) < maxFailures {
		c.failures = append(c.failures, text)
	}
}

// fail notes a failure that is no comparison: the assertion could not be tried
// to its end.
func (c *check) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failLocked(err.Error())
}

// measure keeps a figure, and warn says what about them should be looked at.
func (c *check) measure(name string, value float64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.measured == nil {
		c.measured = map[string]float64{}
	}
	c.measured[name] = value
}

func (c *check) warn(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.warning = fmt.Sprintf(format, args...)
}

// make creates n spaces whose ids resemble each other.
func (c *check) make(ctx context.Context, n int) ([]space, error) {
	return c.run.spaces.make(ctx, c.over, n)
}

// refused counts a comparison of an error with the one that is expected.
func (c *check) refused(err, want error, format string, args ...any) {
	what := fmt.Sprintf(format, args...)
	if err == nil {
		c.that(false, "%s is not refused", what)
		return
	}
	c.that(errors.Is(err, want), "%s is refused with %s, not with %q", what, answerOf(err), want)
}

// alike counts a comparison of what a caller is told in two cases which it must
// not tell apart.
func (c *check) alike(what, one, other string) {
	c.that(one == other, "%s tells apart what it must not: %s, but %s", what, one, other)
}

// holds counts a comparison of all that a space holds with what it should.
func (c *check) holds(ctx context.Context, s space, want map[string]string, format string, args ...any) error {
	what := fmt.Sprintf(format, args...)
	got, err := collect(s.Memories(ctx, engram.Filter{}))
	if err != nil {
		return fmt.Errorf("list %s: %w", s.ID(), err)
	}
	c.that(sameContents(got, want), "%s: %s", what, difference(s.ID(), got, want))
	return nil
}

func sameContents(got []engram.Memory, want map[string]string) bool {
	if len(got) != len(want) {
		return false
	}
	for _, m := range got {
		if content, here := want[m.ID]; !here || content != m.Content {
			return false
		}
	}
	return true
}

// difference words what a space holds that it should not, or lacks.
func difference(id engram.SpaceID, got []engram.Memory, want map[string]string) string {
	missing := make(map[string]bool, len(want))
	for id := range want {
		missing[id] = true
	}
	for _, m := range got {
		content, here := want[m.ID]
		switch {
		case !here:
			return fmt.Sprintf("space %s holds memory %q, %q, which it should not", id, m.ID, short(m.Content))
		case content != m.Content:
			return fmt.Sprintf("space %s holds memory %q as %q instead of %q", id, m.ID, short(m.Content), short(content))
		}
		delete(missing, m.ID)
	}
	lost := make([]string, 0, len(missing))
	for id := range missing {
		lost = append(lost, id)
	}
	slices.Sort(lost)
	return fmt.Sprintf("space %s lacks %d memories, among them %q", id, len(lost), lost[:min(1, len(lost))])
}

// short cuts a text for a message.
func short(s string) string {
	const most = 80
	if len(s) <= most {
		return s
	}
	return s[:most] + "..."
}
