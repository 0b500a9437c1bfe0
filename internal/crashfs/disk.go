package crashfs

import (
	"bytes"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
)

const (
	blockBytes = 512
	pageBlocks = 8 // of a page of the cache
)

// block is the unit that reaches the disk or does not. It is never changed once
// a file holds it; nil is a block of zeros.
type block [blockBytes]byte

// disk is what outlives a process.
type disk struct {
	mu      sync.Mutex // guards everything below, the nodes and the state of every FS on it
	root    *node
	pending []change // of directories, not flushed, in the order they were made
	room    int      // blocks that are free; negative: any number
	locks   map[*node]*locked
}

// node is a directory or a file.
type node struct {
	names  map[string]*node // nil: a file
	stable map[string]*node // the names that are flushed

	content     []*block
	size        int64
	flushed     []*block
	flushedSize int64
	shared      bool              // content and flushed are another node's, too: copy them before changing either
	dirty       map[int]*versions // blocks written since they were flushed
	sizes       []int64           // lengths since the flushed one
	sizeLost    bool              // no flush makes them durable: one has failed
}

// versions are what a block has held since it was flushed, oldest first.
type versions struct {
	blocks []*block
	lost   bool // no flush makes them durable: one has failed
}

// change is one or several edits of directories that happen together or not at all.
type change []edit

type edit struct {
	dir  *node
	name string
	node *node // nil: the name is removed
}

// key is what an edit is about: two edits of one key are not independent.
type key struct {
	dir  *node
	name string
}

func (e edit) key() key { return key{e.dir, e.name} }

func newDir() *node {
	return &node{names: make(map[string]*node), stable: make(map[string]*node)}
}

func (d *disk) take(blocks int) {
	if d.room >= 0 {
		d.room -= blocks
	}
}

func (d *disk) change(edits ...edit) {
	for _, e := range edits {
		e.apply(e.dir.names)
	}
	d.pending = append(d.pending, edits)
}

func (e edit) apply(names map[string]*node) {
	if e.node == nil {
		delete(names, e.name)
	} else {
		names[e.name] = e.node
	}
}

// flushNames makes the changes of the directory durable, with all earlier ones
// that they build on.
func (d *disk) flushNames(dir *node) {
	needed := make(map[key]bool)
	flushed := make([]bool, len(d.pending))
	for i := len(d.pending) - 1; i >= 0; i-- {
		c := d.pending[i]
		flushed[i] = slices.ContainsFunc(c, func(e edit) bool { return e.dir == dir || needed[e.key()] })
		if flushed[i] {
			for _, e := range c {
				needed[e.key()] = true
			}
		}
	}
	var left []change
	for i, c := range d.pending {
		if !flushed[i] {
			left = append(left, c)
			continue
		}
		for _, e := range c {
			e.apply(e.dir.stable)
		}
	}
	d.pending = left
}

// crash returns a disk that holds what a power cut could leave of this one.
func (d *disk) crash(seed uint64) *disk {
	c := &cut{random: rand.New(rand.NewPCG(seed, 0)), copies: make(map[*node]*node), names: make(map[*node]map[string]*node)}
	c.keep = []float64{0, 0.1, 0.5, 0.9, 1}[c.random.IntN(5)]
	c.keepChanges(d.pending)
	return &disk{root: c.copy(d.root), room: d.room, locks: make(map[*node]*locked)}
}

// snapshot returns a disk in the same state, flushed and not, that goes its own way.
func (d *disk) snapshot() *disk {
	c := &copier{copies: make(map[*node]*node)}
	taken := &disk{root: c.copy(d.root), room: d.room, locks: make(map[*node]*locked)}
	for _, edits := range d.pending {
		edits = slices.Clone(edits)
		for i := range edits {
			edits[i].dir, edits[i].node = c.copy(edits[i].dir), c.copy(edits[i].node)
		}
		taken.pending = append(taken.pending, edits)
	}
	return taken
}

// copier copies nodes, each once.
type copier struct{ copies map[*node]*node }

func (c *copier) copy(n *node) *node {
	if n == nil || c.copies[n] != nil {
		return c.copies[n]
	}
	copied := &node{}
	c.copies[n] = copied
	if n.names != nil {
		copied.names, copied.stable = c.copyNames(n.names), c.copyNames(n.stable)
		return copied
	}
	n.shared = true
	*copied = *n
	copied.dirty = make(map[int]*versions, len(n.dirty))
	for i, v := range n.dirty {
		copied.dirty[i] = &versions{blocks: slices.Clone(v.blocks), lost: v.lost}
	}
	copied.sizes = slices.Clone(n.sizes)
	return copied
}

func (c *copier) copyNames(names map[string]*node) map[string]*node {
	copied := make(map[string]*node, len(names))
	for name, n := range names {
		copied[name] = c.copy(n)
	}
	return copied
}

// own makes the node's blocks its own, to be changed.
func (n *node) own() {
	if n.shared {
		n.content, n.flushed, n.shared = slices.Clone(n.content), slices.Clone(n.flushed), false
	}
}

// volatile reports whether a file in the node is not flushed.
func (n *node) volatile() bool {
	for _, child := range n.names {
		if child.volatile() {
			return true
		}
	}
	return len(n.dirty) > 0 || len(n.sizes) > 0
}

// evict drops some of what a failed flush has lost from the cache, which knows
// pages that are clean as a whole: they are read as the disk has them from then on.
func (d *disk) evict(seed uint64) {
	random := rand.New(rand.NewPCG(seed, 1))
	var visit func(n *node)
	visit = func(n *node) {
		for _, name := range slices.Sorted(maps.Keys(n.names)) {
			visit(n.names[name])
		}
		for page := 0; page < len(n.content); page += pageBlocks {
			lost := n.lostIn(page)
			if len(lost) == 0 || random.IntN(2) == 0 {
				continue
			}
			n.own()
			for _, i := range lost {
				n.content[i] = n.flushedBlock(i)
				delete(n.dirty, i)
			}
		}
	}
	visit(d.root)
}

// lostIn returns the blocks of a page that a failed flush has lost; none if the
// page has been written since.
func (n *node) lostIn(page int) []int {
	var lost []int
	for i := page; i < min(page+pageBlocks, len(n.content)); i++ {
		switch v := n.dirty[i]; {
		case v == nil:
		case !v.lost:
			return nil
		default:
			lost = append(lost, i)
		}
	}
	return lost
}

// cut is a power cut at work.
type cut struct {
	random *rand.Rand
	keep   float64                    // share of what is not flushed that survives
	names  map[*node]map[string]*node // of directories in which changes survive
	copies map[*node]*node
}

// keepChanges chooses the changes of directories that survive: those up to some
// moment, or each for itself.
func (c *cut) keepChanges(pending []change) {
	moment := -1
	if c.random.IntN(2) == 0 {
		moment = c.random.IntN(len(pending) + 1)
	}
	lost := make(map[key]bool)
	for i, edits := range pending {
		survives := moment < 0 && c.random.Float64() < c.keep || i < moment
		survives = survives && !slices.ContainsFunc(edits, func(e edit) bool { return lost[e.key()] })
		for _, e := range edits {
			if !survives {
				lost[e.key()] = true
				continue
			}
			if c.names[e.dir] == nil {
				c.names[e.dir] = maps.Clone(e.dir.stable)
			}
			e.apply(c.names[e.dir])
		}
	}
}

func (c *cut) copy(n *node) *node {
	if copied := c.copies[n]; copied != nil {
		return copied
	}
	copied := &node{}
	c.copies[n] = copied
	if n.names == nil {
		c.copyFile(copied, n)
		return copied
	}
	survived := c.names[n]
	if survived == nil {
		survived = n.stable
	}
	copied.names = make(map[string]*node, len(survived))
	for _, name := range slices.Sorted(maps.Keys(survived)) {
		copied.names[name] = c.copy(survived[name])
	}
	copied.stable = maps.Clone(copied.names)
	return copied
}

func (c *cut) copyFile(copied, n *node) {
	copied.size = n.flushedSize
	if len(n.sizes) > 0 && c.random.Float64() < c.keep {
		copied.size = n.sizes[len(n.sizes)-1]
		if c.random.IntN(4) == 0 {
			copied.size = n.sizes[c.random.IntN(len(n.sizes))]
		}
	}
	if len(n.dirty) == 0 && copied.size == n.flushedSize && len(n.flushed) == blocksOf(copied.size) {
		n.shared = true
		copied.content, copied.flushed = n.flushed, n.flushed
		copied.flushedSize, copied.shared = copied.size, true
		return
	}
	copied.content = slices.Clone(n.flushed)
	copied.resize(copied.size)
	for _, i := range slices.Sorted(maps.Keys(n.dirty)) {
		if b := c.choose(n.flushedBlock(i), n.dirty[i].blocks); i < len(copied.content) {
			copied.content[i] = b
		}
	}
	copied.resize(copied.size) // what a block holds behind the end of the file is not kept
	copied.flushed, copied.flushedSize, copied.shared = copied.content, copied.size, true
}

// choose returns what a block holds that was before and has had these versions.
func (c *cut) choose(before *block, written []*block) *block {
	one := func() *block {
		if c.random.Float64() >= c.keep {
			return before
		}
		if c.random.IntN(4) == 0 {
			return written[c.random.IntN(len(written))]
		}
		return written[len(written)-1]
	}
	chosen := one()
	if c.random.IntN(8) != 0 {
		return chosen
	}
	var torn block
	if chosen != nil {
		torn = *chosen
	}
	at := c.random.IntN(blockBytes)
	end := one()
	if end == nil {
		end = new(block)
	}
	copy(torn[at:], end[at:])
	return &torn
}

func blocksOf(size int64) int { return int((size + blockBytes - 1) / blockBytes) }

func (n *node) blocks() int { return blocksOf(n.size) }

func (n *node) flushedBlock(i int) *block {
	if i < len(n.flushed) {
		return n.flushed[i]
	}
	return nil
}

// read fills p, which does not reach beyond the end.
func (n *node) read(p []byte, offset int64) {
	for len(p) > 0 {
		i, at := int(offset/blockBytes), int(offset%blockBytes)
		length := min(len(p), blockBytes-at)
		if b := n.content[i]; b != nil {
			copy(p[:length], b[at:])
		} else {
			clear(p[:length])
		}
		p, offset = p[length:], offset+int64(length)
	}
}

func (n *node) write(p []byte, offset int64) {
	if len(p) == 0 {
		return
	}
	if end := offset + int64(len(p)); end > n.size {
		n.setSize(end)
	}
	for len(p) > 0 {
		i, at := int(offset/blockBytes), int(offset%blockBytes)
		length := min(len(p), blockBytes-at)
		n.put(i, at, p[:length])
		p, offset = p[length:], offset+int64(length)
	}
}

// put writes a part of block i.
func (n *node) put(i, at int, p []byte) {
	n.own()
	old, v := n.content[i], n.dirty[i]
	zeros := isZero(p)
	if zeros && old == nil && v == nil && n.flushedBlock(i) == nil {
		return // it has held nothing else since it was flushed
	}
	var written *block
	if !zeros || old != nil && len(p) < blockBytes {
		written = new(block)
		if old != nil {
			*written = *old
		}
		copy(written[at:], p)
	}
	n.content[i] = written
	if n.dirty == nil {
		n.dirty = make(map[int]*versions)
	}
	if v == nil {
		v = new(versions)
		n.dirty[i] = v
	}
	v.blocks, v.lost = append(v.blocks, written), false
}

func isZero(p []byte) bool {
	var zeros block
	return bytes.Equal(p, zeros[:len(p)])
}

func (n *node) setSize(size int64) {
	n.resize(size)
	n.sizes, n.sizeLost = append(n.sizes, size), false
}

// resize makes content as long as size, with zeros in what is new or was cut off.
func (n *node) resize(size int64) {
	n.own()
	n.size = size
	count := blocksOf(size)
	if count > len(n.content) {
		n.content = append(n.content, make([]*block, count-len(n.content))...)
	}
	clear(n.content[count:])
	n.content = n.content[:count]
	if rest := int(size % blockBytes); rest > 0 && n.content[count-1] != nil {
		b := *n.content[count-1]
		clear(b[rest:])
		n.content[count-1] = &b
	}
}

func (n *node) truncate(size int64) {
	n.setSize(size)
	if rest := int(size % blockBytes); rest > 0 {
		n.put(blocksOf(size)-1, rest, nil) // its new end is not flushed either
	}
}

// flush makes what was written durable, but for what a failed flush has lost.
func (n *node) flush() {
	if !n.sizeLost {
		n.flushedSize, n.sizes = n.size, nil
	}
	if len(n.dirty) > 0 || len(n.flushed) < len(n.content) {
		n.own()
	}
	count := max(len(n.flushed), len(n.content))
	n.flushed = append(n.flushed, make([]*block, count-len(n.flushed))...)
	for i, v := range n.dirty {
		if v.lost {
			continue
		}
		// A length that was lost comes back with what is written up to it.
		n.flushedSize = max(n.flushedSize, min(n.size, int64(i+1)*blockBytes))
		if n.flushed[i] = nil; i < len(n.content) {
			n.flushed[i] = n.content[i]
		}
		delete(n.dirty, i)
	}
}

// loseDirty is a flush that fails: what it should have made durable may have
// reached the disk or not, and counts as flushed.
func (n *node) loseDirty() {
	for _, v := range n.dirty {
		v.lost = true
	}
	n.sizeLost = len(n.sizes) > 0
}
