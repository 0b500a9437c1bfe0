package rabitq

import (
	"encoding/binary"
	"iter"
	"math"
	"slices"

	"github.com/engramdb/engram/internal/simd"
)

// MaxLeaves is the greatest number of leaves of a [Partition].
const MaxLeaves = 1 << 12

// Partition divides rows by direction, so that a search can leave out those that
// are far from the query: an inverted file (Jegou, Douze and Schmid, "Product
// Quantization for Nearest Neighbor Search", 2011). Its leaves stand in groups, and
// a row belongs to the leaf nearest to it in the group nearest to it, which is found
// in steps for the root of the leaves. Which leaf that is depends on the row's fine
// code and the centroids alone. A partition is immutable.
type Partition struct {
	dim    int // of the rotated rows
	set    simd.Set
	groups centroids
	leaves centroids
	ends   []uint32 // of each group: the number of its last leaf, and one
}

// centroids are directions as fine codes.
type centroids struct {
	fine   []uint8
	scales []float32
}

func (c *centroids) count() int { return len(c.scales) }

func (c *centroids) add(code []uint8, scale float32) {
	c.fine, c.scales = append(c.fine, code...), append(c.scales, scale)
}

const (
	// trainingRounds of k-means: further ones hardly change what is found.
	trainingRounds = 6
	// minLeafRows rows of the sample are in each leaf, so that no centroid is a copy
	// of one vector, which may be forgotten.
	minLeafRows = 8
)

// trainer makes a partition of a sample.
type trainer struct {
	rotation *Rotation
	fine     []uint8 // codes of the sample
	going    func() bool
	bytes    []int8
	products []int32
}

// Train divides a sample of rows, given by their fine codes, into so many leaves or
// fewer, by k-means in cosine: first into groups, then each of those. It is a pure
// function of the sample. Where that is too small, and when going, which is asked
// now and then, says no, there is no partition.
func Train(r *Rotation, fine []uint8, leaves int, going func() bool) *Partition {
	t := &trainer{rotation: r, fine: fine, going: going, bytes: make([]int8, r.padded)}
	rows := make([]uint32, len(fine)/r.FineBytes())
	for i := range rows {
		rows[i] = uint32(i)
	}
	leaves = min(leaves, MaxLeaves)
	p := &Partition{dim: r.padded, set: r.set}
	var groups []cluster
	p.groups, groups = t.cluster(rows, int(math.Sqrt(float64(leaves))))
	for i := range groups {
		own := groups[i].rows
		room := leaves - p.leaves.count() - (len(groups) - 1 - i) // each group behind it has one at least
		c, _ := t.cluster(own, min(leaves*len(own)/len(rows), room))
		if c.count() == 0 {
			c.add(p.groups.fine[i*r.FineBytes():][:r.FineBytes()], p.groups.scales[i])
		}
		p.leaves.fine, p.leaves.scales = append(p.leaves.fine, c.fine...), append(p.leaves.scales, c.scales...)
		p.ends = append(p.ends, uint32(p.leaves.count()))
	}
	if p.groups.count() == 0 || !going() {
		return nil
	}
	return p
}

// cluster is some rows of the sample.
type cluster struct {
	rows []uint32
	sums []int32 // of their elements, as expanded
}

// cluster divides rows of the sample into at most count clusters, each of the rows that
// are nearest to its centroid.
func (t *trainer) cluster(rows []uint32, count int) (c centroids, clusters []cluster) {
	count = min(count, len(rows)/minLeafRows)
	for i := range count {
		c.add(t.code(rows[i*len(rows)/count]), 1)
	}
	for range trainingRounds {
		c = t.means(t.assign(&c, rows))
	}
	return c, t.assign(&c, rows)
}

func (t *trainer) code(row uint32) []uint8 {
	size := t.rotation.FineBytes()
	return t.fine[int(row)*size:][:size]
}

// assign returns the rows that are nearest to each centroid, not all of them if it
// is to end.
func (t *trainer) assign(c *centroids, rows []uint32) []cluster {
	clusters := make([]cluster, c.count())
	if c.count() == 0 {
		return nil
	}
	for i := range clusters {
		clusters[i].sums = make([]int32, t.rotation.padded)
	}
	for i, row := range rows {
		if i%blockRows == 0 && !t.going() {
			break
		}
		sum := expand(t.bytes, t.code(row))
		nearest := &clusters[c.nearest(t.rotation.set, &t.products, t.bytes, sum, 0, c.count())]
		nearest.rows = append(nearest.rows, row)
		for i, b := range t.bytes {
			nearest.sums[i] += int32(b)
		}
	}
	return clusters
}

// means returns the directions of the means of those clusters that are large enough.
func (t *trainer) means(clusters []cluster) (c centroids) {
	x, code := make([]float32, t.rotation.padded), make([]uint8, t.rotation.FineBytes())
	for i := range clusters {
		if len(clusters[i].rows) < minLeafRows {
			continue
		}
		for j, sum := range clusters[i].sums {
			x[j] = float32(sum)
		}
		norm := math.Sqrt(float64(t.rotation.set.Dot(x, x)))
		product := encodeFine(code, x, norm)
		c.add(code, quotient(norm, product))
	}
	return c
}

// expand writes the elements of a fine code, doubled, and returns their sum.
func expand(dst []int8, code []uint8) (sum int32) {
	dst = dst[:2*len(code)]
	for i, b := range code {
		x, y := 2*int8(b&15)-15, 2*int8(b>>4)-15
		dst[2*i], dst[2*i+1] = x, y
		sum += int32(x) + int32(y)
	}
	return sum
}

// nearest returns which of the centroids from..to-1 has the highest cosine with a row
// of these elements; of equal ones the first.
func (c *centroids) nearest(set simd.Set, products *[]int32, row []int8, sum int32, from, to int) (best int) {
	*products = slices.Grow((*products)[:0], to-from)[:to-from]
	set.DotInt4(*products, row, c.fine[from*len(row)/2:to*len(row)/2])
	best, highest := from, minusInfinity
	for i, product := range *products {
		if score := float32(2*product-15*sum) * c.scales[from+i]; score > highest {
			best, highest = from+i, score
		}
	}
	return best
}

// Leaves is their number.
func (p *Partition) Leaves() int { return p.leaves.count() }

// AppendLeaves appends the leaf of each row of fine codes.
func (p *Partition) AppendLeaves(dst []uint16, fine []uint8) []uint16 {
	row := make([]int8, p.dim)
	var products []int32
	for code := range slices.Chunk(fine, p.dim/2) {
		sum, from := expand(row, code), 0
		group := p.groups.nearest(p.set, &products, row, sum, 0, p.groups.count())
		if group > 0 {
			from = int(p.ends[group-1])
		}
		dst = append(dst, uint16(p.leaves.nearest(p.set, &products, row, sum, from, int(p.ends[group]))))
	}
	return dst
}

// Nearest yields all leaves, the nearest to the query first, of equal ones that of
// the lower number, each with its gap: how much less its cosine with the query is than
// that of the first. It costs least where those up to the expected gap are taken.
func (p *Partition) Nearest(q *Query, expected float32) iter.Seq2[uint16, float32] {
	products, keys := make([]int32, p.Leaves()), make([]uint64, p.Leaves())
	p.set.DotInt4(products, q.bytes, p.leaves.fine)
	highest := minusInfinity
	for i, product := range products {
		score := q.fineScore(product, p.leaves.scales[i])
		keys[i] = key(score, uint32(i))
		highest = max(highest, score)
	}
	count := 0
	for _, k := range keys {
		if highest-keyScore(k) <= expected {
			count++
		}
	}
	return func(yield func(uint16, float32) bool) {
		for left, count := keys, max(count, 1); len(left) > 0; count *= 2 {
			count = min(count, len(left))
			selectGreatest(left, count)
			slices.Sort(left[:count])
			for _, k := range slices.Backward(left[:count]) {
				if !yield(uint16(keyRow(k)), highest-keyScore(k)) {
					return
				}
			}
			left = left[count:]
		}
	}
}

// Append encodes the partition: the numbers of groups and leaves, the ends of the
// groups, and the fine codes and scales of the centroids, first of the groups.
func (p *Partition) Append(b []byte) []byte {
	b = binary.LittleEndian.AppendUint32(b, uint32(p.groups.count()))
	b = binary.LittleEndian.AppendUint32(b, uint32(p.leaves.count()))
	for _, end := range p.ends {
		b = binary.LittleEndian.AppendUint32(b, end)
	}
	for _, c := range []*centroids{&p.groups, &p.leaves} {
		b = append(b, c.fine...)
		for _, scale := range c.scales {
			b = binary.LittleEndian.AppendUint32(b, math.Float32bits(scale))
		}
	}
	return b
}

// DecodePartition returns the partition of vectors of a dimension from 1 to [MaxDim]
// that is all of b, of which it keeps nothing. ok is false if there is none.
func DecodePartition(dim int, b []byte) (p *Partition, ok bool) {
	const head = 8
	if len(b) < head {
		return nil, false
	}
	groups, leaves := uint64(binary.LittleEndian.Uint32(b)), uint64(binary.LittleEndian.Uint32(b[4:]))
	padded := (dim + wordBits - 1) / wordBits * wordBits
	fine := uint64(padded / 2)
	if groups == 0 || groups > leaves || leaves > MaxLeaves || uint64(len(b)) != head+4*groups+(groups+leaves)*(fine+4) {
		return nil, false
	}
	p = &Partition{dim: padded, set: simd.Best(), ends: make([]uint32, groups)}
	b = b[head:]
	last := uint32(0)
	for i := range p.ends {
		p.ends[i], b = binary.LittleEndian.Uint32(b), b[4:]
		if p.ends[i] <= last {
			return nil, false
		}
		last = p.ends[i]
	}
	if uint64(last) != leaves || !p.groups.decode(&b, groups, fine) || !p.leaves.decode(&b, leaves, fine) {
		return nil, false
	}
	return p, true
}

// decode takes so many centroids from b, which has them.
func (c *centroids) decode(b *[]byte, count, size uint64) bool {
	c.fine, *b = slices.Clone((*b)[:count*size]), (*b)[count*size:]
	for range count {
		scale := math.Float32frombits(binary.LittleEndian.Uint32(*b))
		if !(scale >= 0 && scale <= math.MaxFloat32) {
			return false
		}
		c.scales, *b = append(c.scales, scale), (*b)[4:]
	}
	return true
}
