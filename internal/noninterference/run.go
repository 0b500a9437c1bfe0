package noninterference

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Layer is a way in which tenants reach their spaces: the library's calls, a
// server's requests.
type Layer struct {
	Name string
	// Supports says which operations the layer has.
	Supports func(Kind) bool
	// Open starts a new instance, which takes the time from now and nothing else
	// from anywhere: ids, incarnations and dates in its answers are the same in
	// each instance.
	Open func(now func() time.Time) Driver
}

// Clock is the clock of an instance: what [Layer.Open] is given.
type Clock func() time.Time

// Now returns the time.
func (c Clock) Now() time.Time { return c() }

// Driver puts operations to one instance of a layer.
type Driver interface {
	// Do does op and returns what its tenant is shown: all of the answer, or the
	// error with its text and class. Tenants call it concurrently; Restart and
	// Kill come alone.
	Do(op Op) string
	// Follow returns what A's standing subscription has yielded since the last
	// call. The subscription begins with A's space, and goes on behind a restart; a
	// layer whose history depends on when it was killed may end it there.
	Follow() []string
	// Press does to A's space what a host does because of others: it puts it to
	// sleep, as one that is short of descriptors would. A does not notice.
	Press()
	// Close stops the instance and returns what is left.
	Close() Remains
}

// Remains are what an instance leaves behind.
type Remains struct {
	View   []string          // what A sees last
	Files  map[string]string // A's, by name
	Shared map[string]string // what no tenant's value may be in: logs, metrics
}

// Tally counts.
type Tally struct {
	Pairs      int // of A alone and A beside others
	Operations int
	Answers    int // of A, compared
	Events     int // of A's subscription, compared
	Files      int // of A, compared
}

// Add adds other.
func (t *Tally) Add(other Tally) {
	t.Pairs += other.Pairs
	t.Operations += other.Operations
	t.Answers += other.Answers
	t.Events += other.Events
	t.Files += other.Files
}

// Interference is a difference that others make to A, or a value of one tenant
// that another was shown.
type Interference struct {
	Layer, How string
	Seed       uint64
	What       string
}

func (e *Interference) Error() string {
	return fmt.Sprintf("%s, seed %d, A %s: %s", e.Layer, e.Seed, e.How, e.What)
}

// The ways in which a script is run. Each is compared with the first.
const (
	alone = iota
	aloneAgain
	interleaved
	concurrent
	besideHostile
	ways
)

var wayNames = [ways]string{"alone", "alone again", "interleaved with others", "concurrent with others", "beside hostile others"}

// Check runs the scripts of a seed in every way. The error is an [Interference]
// if any of them shows.
func (l Layer) Check(seed uint64) (Tally, error) {
	script := Generate(seed, l.Supports)
	var t Tally
	var want *view
	for way := range ways {
		got, err := l.run(script, way, &t)
		if err == nil && way > alone {
			err = want.compare(got)
		}
		if err != nil {
			return t, &Interference{Layer: l.Name, How: wayNames[way], Seed: seed, What: err.Error()}
		}
		if way == alone {
			want = got
		}
		if way > aloneAgain {
			t.Pairs++
		}
	}
	return t, nil
}

// view is what A observes.
type view struct {
	ops     []Op
	answers []string // to each operation
	events  [][]string
	remains Remains
}

func (v *view) compare(got *view) error {
	for i, op := range v.ops {
		if v.answers[i] != got.answers[i] {
			return fmt.Errorf("step %d, %s in %s, is answered with%s", i, op.Kind, op.Space, differ(got.answers[i], v.answers[i]))
		}
		if !slices.Equal(v.events[i], got.events[i]) {
			return fmt.Errorf("behind step %d, %s in %s, the subscription yields%s", i, op.Kind, op.Space,
				differ(strings.Join(got.events[i], "\n"), strings.Join(v.events[i], "\n")))
		}
	}
	if !slices.Equal(v.remains.View, got.remains.View) {
		return fmt.Errorf("the last view is%s", differ(strings.Join(got.remains.View, "\n"), strings.Join(v.remains.View, "\n")))
	}
	for _, name := range slices.Sorted(maps.Keys(v.remains.Files)) {
		if content, found := got.remains.Files[name]; !found || content != v.remains.Files[name] {
			return fmt.Errorf("file %s of A is different or missing", name)
		}
	}
	if len(got.remains.Files) > len(v.remains.Files) {
		return fmt.Errorf("more files of A: %q instead of %q",
			slices.Sorted(maps.Keys(got.remains.Files)), slices.Sorted(maps.Keys(v.remains.Files)))
	}
	return nil
}

// differ words two texts from the first line in which they differ to the last.
func differ(got, alone string) string {
	g, a := strings.Split(got, "\n"), strings.Split(alone, "\n")
	first := 0
	for first < min(len(g), len(a)) && g[first] == a[first] {
		first++
	}
	g, a = g[first:], a[first:]
	for len(g) > 0 && len(a) > 0 && g[len(g)-1] == a[len(a)-1] {
		g, a = g[:len(g)-1], a[:len(a)-1]
	}
	return fmt.Sprintf(" from line %d on\n%s\nand alone\n%s", first+1, strings.Join(g, "\n"), strings.Join(a, "\n"))
}

// running is one run of a script.
type running struct {
	driver Driver
	step   atomic.Int64 // of A: what the clock shows
	random *rand.Rand
	calm   sync.RWMutex // held shared by an operation, alone by one on the whole system
	done   atomic.Int64

	mu  sync.Mutex // guards err
	err error
}

// epoch is when A's script begins.
var epoch = time.Date(2026, 1, 2, 3, 4, 5, 678, time.UTC)

// now is A's time: it stands still while others act.
func (r *running) now() time.Time { return epoch.Add(time.Duration(r.step.Load()) * 10 * time.Second) }

func (l Layer) run(script *Script, way int, t *Tally) (*view, error) {
	r := &running{random: rand.New(rand.NewPCG(script.Seed, uint64(1+way)))}
	r.driver = l.Open(r.now)
	v := &view{ops: script.A}
	beside := script.Others
	if way == besideHostile {
		beside = script.Hostile
	}
	switch {
	case way == alone || way == aloneAgain:
		r.runA(v, func(int) {})
	case way == interleaved || way == besideHostile && script.Seed%2 == 0:
		var mirrored []Op
		if way == interleaved {
			last := len(beside) - 1
			beside, mirrored = beside[:last], beside[last]
		}
		mixed := r.mix(beside)
		total := len(mixed)
		r.runA(v, func(i int) {
			due := total*(i+2)/(len(script.A)+1) + r.random.IntN(3) - 1
			for len(mixed) > 0 && total-len(mixed) < due {
				r.do(mixed[0])
				mixed = mixed[1:]
			}
			if len(mirrored) > 0 && mirrored[0].step == i {
				r.do(mirrored[0])
				mirrored = mirrored[1:]
			}
			if r.random.IntN(6) == 0 {
				r.driver.Press()
			}
		})
	default:
		var work sync.WaitGroup
		for _, ops := range beside {
			work.Go(func() {
				for _, op := range ops {
					r.do(op)
				}
			})
		}
		r.runA(v, func(int) {})
		work.Wait()
	}
	v.remains = r.driver.Close()
	r.scanRemains(v)
	t.Operations += int(r.done.Load()) + len(script.A)
	t.Answers += len(v.answers) + len(v.remains.View)
	t.Files += len(v.remains.Files)
	for _, events := range v.events {
		t.Events += len(events)
	}
	return v, r.err
}

// runA runs A's script, with before ahead of each step.
func (r *running) runA(v *view, before func(step int)) {
	for i, op := range v.ops {
		before(i)
		r.step.Add(1)
		answer := r.act(op)
		events := r.driver.Follow()
		r.scan(op, append([]string{answer}, events...)...)
		v.answers, v.events = append(v.answers, answer), append(v.events, events)
	}
}

func (r *running) act(op Op) string {
	if op.Kind.acts() {
		r.calm.Lock()
		defer r.calm.Unlock()
	} else {
		r.calm.RLock()
		defer r.calm.RUnlock()
	}
	return r.driver.Do(op)
}

// do does another tenant's operation.
func (r *running) do(op Op) {
	r.scan(op, r.act(op))
	r.done.Add(1)
}

// mix puts the scripts of several tenants into one order, by chance.
func (r *running) mix(scripts [][]Op) []Op {
	var mixed []Op
	rest := slices.Clone(scripts)
	for len(rest) > 0 {
		i := r.random.IntN(len(rest))
		mixed = append(mixed, rest[i][0])
		if rest[i] = rest[i][1:]; len(rest[i]) == 0 {
			rest = slices.Delete(rest, i, i+1)
		}
	}
	return mixed
}

// scan looks for canaries but the tenant's own, and those that it names itself.
func (r *running) scan(op Op, shown ...string) {
	own := op.Canary
	if op.Tenant != 0 {
		// One whose space was damaged may not have got rid of it: only A's scripts
		// go as they are written.
		own = own[:len(own)-2]
	}
	for _, text := range shown {
		if found := foreign(text, own, op.Text); found != "" {
			r.fail(fmt.Errorf("%s in %s shows tenant %d the canary %s:\n%s", op.Kind, op.Space, op.Tenant, found, text))
		}
	}
}

// foreign returns a canary in text that does not begin with own and is not in asked.
func foreign(text, own, asked string) string {
	for {
		i := strings.Index(text, canaryMark)
		if i < 0 || len(text) < i+canaryBytes {
			return ""
		}
		found := text[i : i+canaryBytes]
		if isCanary(found) && !strings.HasPrefix(found, own) && !strings.Contains(asked, found) {
			return found
		}
		text = text[i+len(canaryMark):]
	}
}

// isCanary reports whether digits follow the mark. Among as many random bytes as the
// ids of traces are, the mark alone comes up by chance.
func isCanary(marked string) bool {
	return strings.Trim(marked[len(canaryMark):], "0123456789") == ""
}

func (r *running) scanRemains(v *view) {
	own := canary(0, 0)
	own = own[:len(own)-2] // of every generation: a removed memory's bytes go with a checkpoint
	for name, content := range v.remains.Files {
		if found := foreign(content, own, ""); found != "" {
			r.fail(fmt.Errorf("file %s of A holds the canary %s", name, found))
		}
	}
	for name, content := range v.remains.Shared {
		if found := foreign(content, none, ""); found != "" {
			r.fail(fmt.Errorf("%s holds the canary %s", name, found))
		}
	}
}

// none is the beginning of no canary.
const none = "-"

func (r *running) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.err = errors.Join(r.err, err)
}
