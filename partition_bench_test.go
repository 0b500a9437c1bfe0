package engram

import (
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engramdb/engram/internal/clouds"
	"github.com/engramdb/engram/internal/rabitq"
	"github.com/engramdb/engram/internal/simd"
)

// BenchmarkPartition is what a recall does among the codes of 100,000 vectors of 768
// dimensions, or as many as ENGRAM_BENCH_ROWS says, where they are partitioned, by
// turns with a scan of all: x-flat is how often the time of the one goes into that of
// the other, the mean over the queries of the fastest of each; share is how much of the
// rows is scanned. Recall is that of ten, once the candidates are compared by their
// floats, also of queries between two vectors, and of noisy ones, each a vector with twice
// as much noise; depth is what the training found to be deep enough, 0 where the partition
// does not pay.
func BenchmarkPartition(b *testing.B) {
	rows := 100_000
	if s := os.Getenv("ENGRAM_BENCH_ROWS"); s != "" {
		var err error
		rows, err = strconv.Atoi(s)
		require.NoError(b, err)
	}
	for _, cloud := range clouds.Of(768, rand.New(rand.NewPCG(3, 3))) {
		b.Run(cloud.Name, func(b *testing.B) { benchmarkPartition(b, cloud, rows) })
	}
}

func benchmarkPartition(b *testing.B, cloud clouds.Cloud, rows int) {
	const dim = 768
	queries := make([]float32, 100*dim)
	for v := range slices.Chunk(queries, dim) {
		cloud.Draw(v)
	}
	betweens, noisy := drawBetween(cloud, dim), drawNoisy(cloud, dim)
	v, truths := drawImage(cloud, dim, rows, slices.Concat(queries, betweens, noisy))
	truths, between, unlike := truths[:100], truths[100:200], truths[200:]
	a := &awake{store: newStore()}
	flat := &recalling{reader: &reader{awake: a, view: v}, scratch: new(scratch), matcher: v.matcher(new(Filter))}
	start := time.Now()
	p := v.train(a.store.rotations.of(dim), func() bool { return true })
	trained := time.Since(start)
	byLeaf := *v
	byLeaf.partition = p
	if p.pays() {
		byLeaf.image = sortedByLeaf(v.image, p)
	}
	probing := &recalling{reader: &reader{awake: a, view: &byLeaf}, scratch: new(scratch), matcher: v.matcher(new(Filter))}
	for _, c := range []struct {
		name string
		q    *recalling
	}{{"flat", flat}, {"partitioned", probing}} {
		b.Run(c.name, func(b *testing.B) {
			recall, scanned := searched(c.q, truths, queries)
			betweenRecall, _ := searched(c.q, between, betweens)
			noisyRecall, noisyScanned := searched(c.q, unlike, noisy)
			fastest, flatFastest := make(fastestOf), make(fastestOf)
			for i := 0; b.Loop(); i++ {
				query := i % len(truths)
				flat.embedding = queries[query*dim:][:dim]
				start := time.Now()
				flat.nearestRows(exactReads)
				middle := time.Now()
				flatFastest.took(query, middle.Sub(start))
				c.q.embedding = flat.embedding
				c.q.nearestRows(exactReads)
				fastest.took(query, time.Since(middle))
			}
			b.ReportMetric(fastest.mean(), "ns/op")
			b.ReportMetric(flatFastest.mean()/fastest.mean(), "x-flat")
			b.ReportMetric(recall, "recall@10")
			b.ReportMetric(betweenRecall, "recall@10-between")
			b.ReportMetric(noisyRecall, "recall@10-noisy")
			b.ReportMetric(scanned/float64(rows), "share")
			b.ReportMetric(noisyScanned/float64(rows), "share-noisy")
			b.ReportMetric(trained.Seconds(), "s-training")
			b.ReportMetric(float64(p.depth), "depth")
		})
	}
}

// fastestOf has the shortest time that each query took.
type fastestOf map[int]time.Duration

func (f fastestOf) took(query int, d time.Duration) {
	if known, found := f[query]; !found || d < known {
		f[query] = d
	}
}

func (f fastestOf) mean() float64 {
	sum := time.Duration(0)
	for _, d := range f {
		sum += d
	}
	return float64(sum) / float64(len(f))
}

// searched returns how much of the truths a search for each query finds, and how many
// rows it scans.
func searched(q *recalling, truths [][]uint32, queries []float32) (recall, scanned float64) {
	dim := len(queries) / len(truths)
	for i, truth := range truths {
		q.embedding = queries[i*dim:][:dim]
		for _, found := range q.nearestRows(exactReads) {
			if slices.Contains(truth, found.document) {
				recall += 1 / float64(10*len(truths))
			}
		}
		scanned += float64(q.vector.ranges[len(q.vector.ranges)-1].end) / float64(len(truths))
	}
	return recall, scanned
}

// drawBetween returns a hundred vectors, each the middle of two of the cloud's, of no
// certain length.
func drawBetween(cloud clouds.Cloud, dim int) []float32 {
	middles, other := make([]float32, 100*dim), make([]float32, dim)
	for v := range slices.Chunk(middles, dim) {
		cloud.Draw(v)
		cloud.Draw(other)
		for i, f := range other {
			v[i] += f
		}
	}
	return middles
}

// drawNoisy returns a hundred vectors of the cloud with twice as much noise, as a model
// may make of what is asked for where it makes others of what is stored.
func drawNoisy(cloud clouds.Cloud, dim int) []float32 {
	vectors, source := make([]float32, 100*dim), rand.New(rand.NewPCG(4, 4))
	for v := range slices.Chunk(vectors, dim) {
		cloud.Draw(v)
		for i := range v {
			v[i] += float32(2 / math.Sqrt(float64(dim)) * source.NormFloat64())
		}
	}
	return vectors
}

// drawImage returns a view of so many vectors that are all in its image, of which it
// has no more than recalls among codes need, and the documents of the ten that are
// nearest to each query.
func drawImage(cloud clouds.Cloud, dim, rows int, queries []float32) (*view, [][]uint32) {
	count := len(queries) / dim
	truths, scores, products := make([][]uint32, count), make([][]float32, count), make([]float32, count)
	m := &image{ids: texts{ends: make(column32, 4*rows)}, seqs: make(column64, 8*rows)}
	x := &m.present.vectors
	encoder, row := rabitq.NewEncoder(rabitq.NewRotation(dim, rotationSeed)), make([]float32, dim)
	for d := range uint32(rows) {
		cloud.Draw(row)
		encoder.Append(&x.codes, row)
		x.documents = appendU32(x.documents, d)
		simd.Best().DotRows(products, row, queries)
		for i, p := range products {
			at, _ := slices.BinarySearchFunc(scores[i], p, func(s, p float32) int {
				if s > p {
					return -1
				}
				return 1
			})
			if at < 10 {
				scores[i], truths[i] = slices.Insert(scores[i], at, p), slices.Insert(truths[i], at, d)
				scores[i], truths[i] = scores[i][:min(len(scores[i]), 10)], truths[i][:min(len(truths[i]), 10)]
			}
		}
	}
	m.present.dimension = dim
	v := &view{image: m, recent: newRecent(), seq: 1, vectorState: vectorState{dimension: dim}}
	v.vectors = int64(rows)
	return v, truths
}

// sortedByLeaf returns the image with its rows by leaf.
func sortedByLeaf(m *image, p *partition) *image {
	x := &m.present.vectors
	leaves := x.leaves.under(p, &x.codes)
	order := make([]uint32, len(leaves))
	ends := make([]uint32, p.leaves.Leaves())
	for row, leaf := range leaves {
		order[row] = uint32(row)
		ends[leaf]++
	}
	slices.SortStableFunc(order, func(a, b uint32) int { return int(leaves[a]) - int(leaves[b]) })
	var sorted vectors
	for _, row := range order {
		sorted.add(x.documents.at(row), &x.codes, int(row))
	}
	by := &image{ids: m.ids, seqs: m.seqs}
	by.present = vectorSet{dimension: m.present.dimension, partition: p}
	by.present.vectors.codes = sorted.codes
	for _, d := range sorted.documents {
		by.present.vectors.documents = appendU32(by.present.vectors.documents, d)
	}
	end := uint32(0)
	for _, rows := range ends {
		end += rows
		by.present.vectors.ends = appendU32(by.present.vectors.ends, end)
	}
	return by
}
