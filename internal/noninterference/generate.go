package noninterference

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
)

// Script is what the tenants of one seed do. A is tenant 0; the others use A's
// memory ids, request ids, episodes and attributes, and names that a prefix or a
// missing separator would mix up with A's.
type Script struct {
	Seed    uint64
	A       []Op
	Others  [][]Op // by tenant, what tenants do; the last does what A does, with values of its own
	Hostile [][]Op // by tenant, what is to be feared of them
}

// Numbers of tenants and operations. They are small: what a seed does not reach
// another one does, and a space's files turn over with a few dozen writes.
const (
	others       = 3
	stepsOfA     = 40
	stepsOfOther = 22
	deleted      = "a-deleted"
	neverCreated = "a-never"
)

// names that a prefix, a cut or a missing separator would mix up.
var names = []string{"aaa", "aaab", "aaa-b", "aaa_b", "aaaa", "aab"}

// Names returns what spaces are called, each by one name, or by that and
// [Renamed].
func Names() []string { return slices.Clone(names) }

// Renamed is behind the name of a space that was renamed.
const Renamed = "-r"

// ids of memories; behind one of the names some read as one of another space.
var ids = []string{"m1", "m2", "m3", "m4", "m5", "b1", "1", "-b1", "_b1", "a1", "ab1", "m1-b", "aaab/m1"}

var (
	words    = strings.Fields("seat window flight train harbour letter garden winter coffee engine piano river march invoice doctor")
	episodes = []string{"", "morning", "evening", "aaab", "call-17"}
	requests = []string{"r1", "r2", "r3"}
	kinds    = []string{"", "cause", "place"}
)

// A canary is canaryMark and four digits: of the tenant, and of the generation.
const (
	canaryMark  = "zqx"
	canaryBytes = len(canaryMark) + 4
)

func canary(tenant, generation int) string {
	return fmt.Sprintf("%s%02d%02d", canaryMark, tenant, generation%100)
}

// weighted kinds of operation.
type weighted struct {
	kind   Kind
	weight int
}

// usual is what every tenant does.
var usual = []weighted{
	{Remember, 45},
	{Forget, 5},
	{ForgetWhere, 2},
	{Lookup, 6},
	{List, 4},
	{Recall, 20},
	{Associate, 8},
	{Dissociate, 1},
	{Associated, 3},
	{Configure, 3},
	{Events, 5},
	{Export, 1},
	{Figures, 4},
	{Probe, 7},
	{Checkpoint, 3},
	{Verify, 1},
	{Sleep, 4},
	{Rename, 2},
	{Reimport, 1},
	{Delete, 1},
}

// global is what happens to all, in A's script.
var global = []weighted{{Restart, 2}, {Kill, 1}}

// hostile is what is to be feared of other tenants.
var hostile = []weighted{
	{Remember, 30},
	{Delete, 12},
	{Rename, 12},
	{Reimport, 4},
	{Sleep, 12},
	{Damage, 8},
	{Configure, 10},
	{Probe, 16},
	{Stall, 8},
	{Checkpoint, 6},
	{Recall, 8},
	{Forget, 6},
	{Events, 6},
}

// Generate makes the scripts of a seed from the operations that a layer
// supports.
func Generate(seed uint64, supports func(Kind) bool) *Script {
	random := rand.New(rand.NewPCG(seed, 0))
	called := slices.Clone(names)
	random.Shuffle(len(called), func(i, j int) { called[i], called[j] = called[j], called[i] })
	s := &Script{Seed: seed}
	choose := func(lists ...[]weighted) []Kind {
		var all []Kind
		for _, w := range slices.Concat(lists...) {
			if supports(w.kind) {
				all = append(all, slices.Repeat([]Kind{w.kind}, w.weight)...)
			}
		}
		return all
	}
	s.A = newWriter(random, 0, called).script(stepsOfA, choose(usual, global))
	for tenant := 1; tenant < others; tenant++ {
		s.Others = append(s.Others, newWriter(random, tenant, called).script(stepsOfOther, choose(usual)))
	}
	s.Others = append(s.Others, mirror(s.A, others, called))
	for tenant := 1; tenant <= others; tenant++ {
		s.Hostile = append(s.Hostile, newWriter(random, tenant, called).script(stepsOfOther, choose(hostile)))
	}
	return s
}

// mirror makes A's script one of another tenant: the same ids at the same seqs,
// with its own canaries in the values. What is kept without the space in its key,
// A meets there at once.
func mirror(a []Op, tenant int, called []string) []Op {
	own := func(text string) string {
		return strings.ReplaceAll(text, canaryMark+"00", canary(tenant, 0)[:canaryBytes-2])
	}
	named := func(space string) string { return strings.Replace(space, called[0], called[tenant], 1) }
	ownValues := func(attributes map[string]string) map[string]string {
		attributes = maps.Clone(attributes)
		for name, value := range attributes {
			attributes[name] = own(value)
		}
		return attributes
	}
	var ops []Op
	for step, op := range a {
		if op.Kind.acts() || op.Kind == Probe {
			continue
		}
		op.step, op.Tenant, op.Space, op.Other, op.Canary = step, tenant, named(op.Space), named(op.Other), own(op.Canary)
		op.Text, op.Filter.Attributes = own(op.Text), ownValues(op.Filter.Attributes)
		op.Memories = slices.Clone(op.Memories)
		for i := range op.Memories {
			m := &op.Memories[i]
			m.Content, m.Attributes = own(m.Content), ownValues(m.Attributes)
		}
		ops = append(ops, op)
	}
	return ops
}

// writer makes up the script of one tenant.
type writer struct {
	random     *rand.Rand
	tenant     int
	called     []string // all tenants, by number
	name       string
	generation int // of the space: an import is a new one
	life       int // of what it holds
	dimension  int
	ops        []Op
}

func newWriter(random *rand.Rand, tenant int, called []string) *writer {
	return &writer{random: random, tenant: tenant, called: called, name: called[tenant], dimension: 6 + 2*(tenant%2)}
}

func (w *writer) script(steps int, kinds []Kind) []Op {
	w.create()
	for len(w.ops) < steps {
		w.add(kinds[w.random.IntN(len(kinds))])
	}
	return w.ops
}

func (w *writer) op(kind Kind) Op {
	return Op{
		Kind: kind, Tenant: w.tenant, Space: w.name, Generation: w.generation, Canary: canary(w.tenant, w.life),
	}
}

func (w *writer) put(op Op) { w.ops = append(w.ops, op) }

func (w *writer) create() {
	w.generation++
	w.life++
	op := w.op(Create)
	op.Config = w.config()
	w.put(op)
}

// add adds an operation, and what belongs to it.
func (w *writer) add(kind Kind) {
	op := w.op(kind)
	switch kind {
	case Remember:
		w.remember(&op)
	case Forget, Lookup, Associated:
		op.IDs = []string{w.id(), w.id()}
		op.Request = w.request(12)
	case ForgetWhere, List:
		op.Filter = w.filter()
	case Recall:
		w.cue(&op)
	case Associate, Dissociate:
		op.Association = Association{From: w.id(), To: w.id(), Kind: one(w.random, kinds), Weight: float64(1+w.random.IntN(9)) / 10}
	case Configure:
		op.Config, op.Request = w.config(), w.request(4)
	case Events:
		op.After = one(w.random, []uint64{0, 0, 1, 2, 5, 9, 17, 33, 60, 1000})
	case Probe:
		w.probe(&op)
	case Delete:
		w.put(op)
		w.create()
		return
	case Reimport:
		w.generation++ // the space is another one, what it holds is the same
		op.Generation = w.generation
	case Damage:
		op.After = w.random.Uint64()
	case Rename:
		op.Other = w.called[w.tenant] + Renamed
		if w.name == op.Other {
			op.Other = w.called[w.tenant]
		}
		w.name = op.Other
	}
	w.put(op)
}

// remember puts mostly one memory, of an id that is often there already.
func (w *writer) remember(op *Op) {
	n := 1
	if w.random.IntN(4) == 0 {
		n += w.random.IntN(6)
	}
	for range n {
		m := Memory{
			Content: w.text(2+w.random.IntN(10)) + " " + op.Canary + " " + one(w.random, words),
			Episode: one(w.random, episodes), Semantic: w.random.IntN(5) == 0,
		}
		if w.random.IntN(6) > 0 {
			m.ID = w.id()
		}
		if w.random.IntN(2) == 0 {
			m.Second = 1 + w.random.IntN(500)
			m.Attributes = map[string]string{"shelf": op.Canary, "row": fmt.Sprint(w.random.IntN(3))}
		}
		if w.random.IntN(2) == 0 {
			m.Vector = w.vector()
		}
		op.Memories = append(op.Memories, m)
	}
	op.Request = w.request(5)
	if w.random.IntN(10) == 0 {
		op.Expect = uint64(1 + w.random.IntN(40))
	}
}

// cue asks in one or several ways. Now and then it asks for what another space
// holds, or for what the space itself held before it was deleted.
func (w *writer) cue(op *Op) {
	if w.random.IntN(4) > 0 {
		op.Text = w.text(1 + w.random.IntN(4))
	}
	switch w.random.IntN(8) {
	case 0:
		op.Text = canary(w.random.IntN(others+1), 1)
	case 1:
		op.Text += " " + op.Canary
	}
	if w.random.IntN(3) == 0 {
		op.Vector = w.vector()
	}
	if w.random.IntN(4) == 0 {
		op.IDs = []string{w.id()}
	}
	if w.random.IntN(3) == 0 {
		op.Filter = w.filter()
	}
	op.Limit = w.random.IntN(12)
}

// probe asks for what is not the tenant's: of a space that is there, of one that
// was deleted, of one that never was, or of an id that cannot be one.
func (w *writer) probe(op *Op) {
	op.IDs = []string{w.id()}
	if w.random.IntN(2) == 0 {
		op.Other = w.called[(w.tenant+1+w.random.IntN(others))%(others+1)]
		return
	}
	op.Unused = true
	op.Other = one(w.random, []string{
		neverCreated, deleted, w.called[0] + "x", w.called[1] + "-x", "AAA", "../" + w.called[1], "aa", "aaa b", "con", "aaa\x00", ".trash",
	})
}

func (w *writer) id() string { return one(w.random, ids) }

// request is an id of one in n writes.
func (w *writer) request(n int) string {
	if w.random.IntN(n) > 0 {
		return ""
	}
	return one(w.random, requests)
}

func (w *writer) text(n int) string {
	list := make([]string, n)
	for i := range list {
		// Tenants prefer other words: what is rare in one space is common in the next.
		list[i] = words[(w.random.IntN(8)+w.random.IntN(5)+3*w.tenant)%len(words)]
	}
	return strings.Join(list, " ")
}

func (w *writer) vector() []float32 {
	n := w.dimension
	if w.random.IntN(30) == 0 {
		n++ // which is refused
	}
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(w.random.IntN(201)-100) / 64
	}
	v[0] += 3 // never zero
	return v
}

func (w *writer) filter() Filter {
	var f Filter
	switch w.random.IntN(5) {
	case 0:
		f.Episode = one(w.random, episodes[1:])
	case 1:
		f.Attributes = map[string]string{"shelf": canary(w.tenant, w.life)}
	case 2:
		f.Attributes = map[string]string{"row": fmt.Sprint(w.random.IntN(3))}
	case 3:
		f.From = 1 + w.random.IntN(500)
	case 4:
		f.Semantic = true
	}
	return f
}

func (w *writer) config() Config {
	var c Config
	if w.random.IntN(3) == 0 {
		c.MaxMemories = int64(2 + w.random.IntN(14))
	}
	if w.random.IntN(3) == 0 {
		c.AutoAssociate = 1 + w.random.IntN(3)
	}
	return c
}

func one[T any](random *rand.Rand, values []T) T { return values[random.IntN(len(values))] }
