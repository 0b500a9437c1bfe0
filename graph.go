package engram

import (
	"cmp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// graph holds the associations of a space, by number: a memory that has any is a
// node. It knows memories by their ids, not by their documents: it stays as it is
// when a checkpoint numbers those anew. Nodes are immutable, a change puts another one
// in its place, in a page of its own since the last snapshot, so a view's pages stay
// as they were. An edge takes 16 bytes where it begins and 4 where it ends.
type graph struct {
	pages  []*nodePage // by number
	epoch  uint64      // raised by each snapshot: what is older, a view may share
	listed uint64      // the epoch in which pages became this graph's own
	last   uint32      // number of the last node
	gone   uint32      // how many numbers have had a node and have none
	edges  int64
	kinds  []string // by number, "" where one is free; replaced, never changed
	uses   []int64  // how many edges are of each kind; not for views

	// numbers has the number of each id that has been a node since the last
	// compaction: all versions of the graph share it, and an id keeps its number.
	numbers *sync.Map
}

// node is a memory with associations, in all its versions.
type node struct {
	number uint32 // from 1 on, no other memory's before compaction
	id     string
	out    []edge // by to and kind
	// in are the nodes with edges to this one, and some that had: who uses it looks
	// into their out. So removing an edge costs nothing where it ends, however
	// many end there. It grows under readers of older versions, which are shorter.
	in []uint32
	// hint is the document that the memory was found at last, in whatever view:
	// see view.documentOf. All versions of the node share it.
	hint *atomic.Uint32
}

type edge struct {
	weight float64
	to     uint32
	kind   uint8
}

// similarKind is the number of AssociationSimilar, which is always known.
const similarKind = 0

func newGraph() graph {
	return graph{kinds: []string{AssociationSimilar}, uses: []int64{0}, numbers: new(sync.Map)}
}

// pageNodes is how many nodes a page has: what one change after a snapshot copies.
const pageNodes = 128

type nodePage struct {
	epoch uint64 // in which it was made
	nodes [pageNodes]*node
}

// snapshot returns the graph as it is, for a view.
func (g *graph) snapshot() graph {
	s := *g
	g.epoch++
	return s
}

// put makes n, or nil, the node of that number.
func (g *graph) put(number uint32, n *node) {
	if g.listed != g.epoch {
		g.pages, g.listed = slices.Clone(g.pages), g.epoch
	}
	at := int(number / pageNodes)
	for len(g.pages) <= at {
		g.pages = append(g.pages, &nodePage{epoch: g.epoch})
	}
	page := g.pages[at]
	if page.epoch != g.epoch {
		page = &nodePage{epoch: g.epoch, nodes: page.nodes}
		g.pages[at] = page
	}
	page.nodes[number%pageNodes] = n
}

func compareEdges(a, b edge) int {
	if c := cmp.Compare(a.to, b.to); c != 0 {
		return c
	}
	return cmp.Compare(a.kind, b.kind)
}

// node returns the node of that number, nil if there is none. Number 0 is none's.
func (g *graph) node(number uint32) *node {
	if at := int(number / pageNodes); at < len(g.pages) {
		return g.pages[at].nodes[number%pageNodes]
	}
	return nil
}

// of returns the node of the memory, nil if it has none.
func (g *graph) of(id string) *node {
	if g.last == 0 {
		return nil // who never had associations looks nothing up
	}
	if number, found := g.numbers.Load(id); found {
		return g.node(number.(uint32))
	}
	return nil
}

// join returns the node of the memory, which it makes if there is none.
func (g *graph) join(id string) *node {
	n := new(node)
	if number, found := g.numbers.Load(id); found {
		if known := g.node(number.(uint32)); known != nil {
			return known
		}
		*n = node{number: number.(uint32), id: strings.Clone(id), hint: new(atomic.Uint32)}
		g.gone--
	} else {
		g.last++
		*n = node{number: g.last, id: strings.Clone(id), hint: new(atomic.Uint32)}
		g.numbers.Store(n.id, n.number)
	}
	g.put(n.number, n)
	return n
}

// documentOf returns the living document of the node, which the view has. A look
// at where it was found last is mostly enough.
func (v *view) documentOf(n *node) uint32 {
	if d := n.hint.Load(); d < v.documents() && v.hasID(d, n.id) && v.visible(d) {
		return d
	}
	d, _ := v.lookup(n.id)
	n.hint.Store(d)
	return d
}

// find returns where the edge stands in n.out, or belongs.
func (n *node) find(to uint32, kind uint8) (int, bool) {
	return slices.BinarySearchFunc(n.out, edge{to: to, kind: kind}, compareEdges)
}

// reaches reports whether n has an edge of any kind to the node of that number.
func (n *node) reaches(to uint32) bool {
	i, _ := n.find(to, 0)
	return i < len(n.out) && n.out[i].to == to
}

// kind returns the number of the kind.
func (g *graph) kind(name string) (uint8, bool) {
	i := slices.Index(g.kinds, name)
	return uint8(max(i, 0)), i >= 0
}

// customKinds is how many kinds are in use beside AssociationSimilar.
func (g *graph) customKinds() int {
	n := -1
	for _, name := range g.kinds {
		if name != "" {
			n++
		}
	}
	return n
}

// has reports whether there is an association of that kind.
func (g *graph) has(from, to, kind string) bool {
	f, t := g.of(from), g.of(to)
	k, known := g.kind(kind)
	if f == nil || t == nil || !known {
		return false
	}
	_, found := f.find(t.number, k)
	return found
}

// outgoing is how many associations the memory has to others.
func (g *graph) outgoing(id string) int {
	if n := g.of(id); n != nil {
		return len(n.out)
	}
	return 0
}

// use counts n more, or less, edges of the kind. The name of one that is not in
// use any more is let go.
func (g *graph) use(kind uint8, n int64) {
	g.edges += n
	if g.uses[kind] += n; g.uses[kind] == 0 && kind != similarKind {
		g.kinds = slices.Clone(g.kinds)
		g.kinds[kind] = ""
	}
}

// name returns the number of the kind, which is given one if it has none. There
// are at most MaxAssociationKinds and AssociationSimilar.
func (g *graph) name(kind string) (uint8, bool) {
	if k, known := g.kind(kind); known {
		return k, true
	}
	k, free := g.kind("")
	if !free {
		if len(g.kinds) > MaxAssociationKinds {
			return 0, false
		}
		k = uint8(len(g.kinds))
		g.uses = append(g.uses, 0)
	}
	names := make([]string, max(len(g.kinds), int(k)+1))
	copy(names, g.kinds)
	names[k] = strings.Clone(kind)
	g.kinds = names
	return k, true
}

// associate makes an edge, or gives it a new weight.
func (g *graph) associate(from, to, kind string, weight float64) {
	k, ok := g.name(kind)
	if !ok {
		return // only a log that was not written by admitAssociation's rules has more
	}
	f, t := *g.join(from), g.join(to)
	e := edge{weight: weight, to: t.number, kind: k}
	i, found := f.find(e.to, e.kind)
	linked := f.reaches(t.number)
	out := make([]edge, 0, len(f.out)+1)
	out = append(append(out, f.out[:i]...), e)
	if found {
		i++
	} else {
		g.use(k, 1)
	}
	f.out = append(out, f.out[i:]...)
	g.put(f.number, &f)
	if !linked {
		g.enter(t, f.number)
	}
}

// enter notes in n that there is an edge from the node of that number. Where
// there is no room it first leaves out those that have none.
func (g *graph) enter(n *node, from uint32) {
	entered := *n
	if len(n.in) == cap(n.in) {
		valid := g.incoming(n)
		entered.in = make([]uint32, 0, max(2*len(valid), 1))
		for _, f := range valid {
			if f.number != from {
				entered.in = append(entered.in, f.number)
			}
		}
	}
	entered.in = append(entered.in, from)
	g.put(n.number, &entered)
}

// incoming returns the nodes with edges to n, in the order of their numbers.
func (g *graph) incoming(n *node) []*node {
	numbers := slices.Clone(n.in)
	slices.Sort(numbers)
	numbers = slices.Compact(numbers)
	nodes := make([]*node, 0, len(numbers))
	for _, number := range numbers {
		if f := g.node(number); f != nil && f.reaches(n.number) {
			nodes = append(nodes, f)
		}
	}
	return nodes
}

// dissociate removes the edge, if there is one.
func (g *graph) dissociate(from, to, kind string) {
	if g.has(from, to, kind) {
		k, _ := g.kind(kind)
		target := g.of(to).number
		g.prune(g.of(from), func(e edge) bool { return e.to == target && e.kind == k })
	}
}

// prune removes those edges of n that doomed reports.
func (g *graph) prune(n *node, doomed func(edge) bool) {
	pruned := *n
	pruned.out = make([]edge, 0, len(n.out))
	for _, e := range n.out {
		if doomed(e) {
			g.use(e.kind, -1)
		} else {
			pruned.out = append(pruned.out, e)
		}
	}
	if len(pruned.out) < len(n.out) {
		g.put(n.number, &pruned)
	}
}

// drop removes the memories' associations in both directions. A memory with some to
// several of them is looked through once.
func (g *graph) drop(ids ...string) {
	var gone []*node
	for _, id := range ids {
		n := g.of(id)
		if n == nil {
			continue
		}
		for _, e := range n.out {
			g.use(e.kind, -1)
		}
		g.put(n.number, nil)
		g.gone++
		gone = append(gone, n)
	}
	for _, n := range gone {
		for _, number := range n.in {
			if f := g.node(number); f != nil && f.reaches(n.number) {
				g.prune(f, func(e edge) bool { return g.node(e.to) == nil })
			}
		}
	}
}

// associations returns those of the memory as Space.Associations does.
func (g *graph) associations(id string) []Association {
	n := g.of(id)
	if n == nil {
		return []Association{}
	}
	var incoming []Association
	for _, f := range g.incoming(n) {
		for _, e := range f.out {
			if e.to == n.number {
				incoming = append(incoming, g.association(f, n, e))
			}
		}
	}
	slices.SortFunc(incoming, compareEnds)
	return append(g.outgoingOf(n), incoming...)
}

// outgoingOf returns the associations of n to others, in the order of To and Kind.
func (g *graph) outgoingOf(n *node) []Association {
	outgoing := make([]Association, 0, len(n.out))
	for _, e := range n.out {
		outgoing = append(outgoing, g.association(n, g.node(e.to), e))
	}
	slices.SortFunc(outgoing, compareEnds)
	return outgoing
}

func compareEnds(a, b Association) int {
	return cmp.Or(cmp.Compare(a.To, b.To), cmp.Compare(a.From, b.From), cmp.Compare(a.Kind, b.Kind))
}

func (g *graph) association(from, to *node, e edge) Association {
	return Association{From: from.id, To: to.id, Kind: g.kinds[e.kind], Weight: e.weight}
}

// edgeList is a graph made for, or read from, a checkpoint: ends are places in
// a list of memories.
type edgeList struct {
	kinds []string // ascending
	from  []uint32 // ascending; each with the edges from begin on
	begin []int    // and one more: where the last one's end
	edges []edge   // of one from, by to and kind; to is a place too
}

// list returns the edges. place gives a memory its own place.
func (g *graph) list(place func(id string) uint32) edgeList {
	var l edgeList
	if g.edges == 0 {
		return l
	}
	places := make([]uint32, g.last+1) // by the node's number
	var from []*node
	for _, page := range g.pages {
		for _, n := range page.nodes {
			if n == nil {
				continue
			}
			places[n.number] = place(n.id)
			if len(n.out) > 0 {
				from = append(from, n)
			}
		}
	}
	slices.SortFunc(from, func(a, b *node) int { return cmp.Compare(places[a.number], places[b.number]) })
	used := make(map[uint8]uint8, len(g.kinds)) // number in the graph -> in the list
	l.edges = make([]edge, 0, g.edges)
	for _, n := range from {
		l.from, l.begin = append(l.from, places[n.number]), append(l.begin, len(l.edges))
		for _, e := range n.out {
			used[e.kind] = 0
			l.edges = append(l.edges, edge{weight: e.weight, to: places[e.to], kind: e.kind})
		}
	}
	l.begin = append(l.begin, len(l.edges))
	for kind := range used {
		l.kinds = append(l.kinds, g.kinds[kind])
	}
	slices.Sort(l.kinds)
	for kind := range used {
		i, _ := slices.BinarySearch(l.kinds, g.kinds[kind])
		used[kind] = uint8(i)
	}
	for i := range l.from {
		out := l.edges[l.begin[i]:l.begin[i+1]]
		for j := range out {
			out[j].kind = used[out[j].kind]
		}
		slices.SortFunc(out, compareEdges)
	}
	return l
}

// ordered reports whether a list that was read has the order that list makes, no
// edge of a memory to itself, and no more kinds than there can be.
func (l *edgeList) ordered() bool {
	unordered := func(i, j int) bool { return compareEdges(l.edges[i], l.edges[j]) >= 0 }
	for i, from := range l.from {
		for at := l.begin[i]; at < l.begin[i+1]; at++ {
			if l.edges[at].to == from || at > l.begin[i] && unordered(at-1, at) {
				return false
			}
		}
	}
	for i, name := range l.kinds {
		if name == "" || len(name) > MaxAssociationKindBytes || i > 0 && l.kinds[i-1] >= name {
			return false
		}
	}
	_, similar := slices.BinarySearch(l.kinds, AssociationSimilar)
	return len(l.kinds) <= MaxAssociationKinds || similar && len(l.kinds) == MaxAssociationKinds+1
}

// fill makes an empty graph from the list. The edges of all nodes are parts of
// two arrays. id gives the memory of a place, of which there are so many.
func (g *graph) fill(l *edgeList, memories int, id func(place uint32) string) {
	if len(l.edges) == 0 {
		return
	}
	nodes, numbers := l.nodes(memories, id)
	ends := make([]int, len(nodes)+1) // of each node's in: first where it begins
	for _, e := range l.edges {
		ends[numbers[e.to]]++
	}
	for i := range nodes {
		ends[i+1] += ends[i]
	}
	kinds := make([]uint8, len(l.kinds))
	for i, name := range l.kinds {
		kinds[i], _ = g.name(name)
	}
	in := make([]uint32, len(l.edges))
	for i, from := range l.from {
		out := l.edges[l.begin[i]:l.begin[i+1]:l.begin[i+1]]
		for j := range out {
			e := &out[j]
			e.to, e.kind = numbers[e.to], kinds[e.kind]
			in[ends[e.to-1]] = numbers[from]
			ends[e.to-1]++
			g.use(e.kind, 1)
		}
		slices.SortFunc(out, compareEdges)
		nodes[numbers[from]-1].out = out
	}
	g.last = uint32(len(nodes))
	begin := 0
	for i := range nodes {
		nodes[i].in = in[begin:ends[i]:ends[i]]
		begin = ends[i]
		g.put(nodes[i].number, &nodes[i])
		g.numbers.Store(nodes[i].id, nodes[i].number)
	}
}

// nodes returns a node for each memory that has edges, in the order of their
// places, and the number of each by its place; 0 for none.
func (l *edgeList) nodes(memories int, id func(place uint32) string) ([]node, []uint32) {
	numbers := make([]uint32, memories)
	for _, from := range l.from {
		numbers[from] = 1
	}
	for _, e := range l.edges {
		numbers[e.to] = 1
	}
	var nodes []node
	hints := make([]atomic.Uint32, memories)
	for place := range numbers {
		if numbers[place] > 0 {
			numbers[place] = uint32(len(nodes) + 1)
			n := node{number: numbers[place], id: id(uint32(place)), hint: &hints[len(nodes)]}
			n.hint.Store(uint32(place))
			nodes = append(nodes, n)
		}
	}
	return nodes, numbers
}

// compact renumbers the nodes, if many numbers have none any more.
func (g *graph) compact() {
	if g.gone > g.last/2+pageNodes {
		g.renumber()
	}
}

// renumber gives the nodes new numbers, without gaps. Views keep the old ones.
func (g *graph) renumber() {
	var ids []string
	l := g.list(func(id string) uint32 {
		ids = append(ids, id)
		return uint32(len(ids) - 1)
	})
	*g = newGraph()
	g.fill(&l, len(ids), func(place uint32) string { return ids[place] })
}
