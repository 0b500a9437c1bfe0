package engram

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
)

// benchWords is a vocabulary with the skew of natural text.
type benchWords struct {
	words []string
	zipf  *rand.Zipf
}

func newBenchWords(seed uint64) *benchWords {
	source := rand.New(rand.NewPCG(seed, 1))
	w := &benchWords{zipf: rand.NewZipf(source, 1.1, 8, 19_999)}
	for i := range 20_000 {
		w.words = append(w.words, fmt.Sprintf("w%cx%d", 'a'+rune(i%26), i))
	}
	return w
}

func (w *benchWords) text(n int) string {
	b := make([]byte, 0, 9*n)
	for range n {
		b = append(append(b, w.words[w.zipf.Uint64()]...), ' ')
	}
	return string(b)
}

func openBench(b *testing.B, opts Options) *Registry {
	b.Helper()
	r, err := Open(b.TempDir(), opts)
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, r.Close()) })
	return r
}

func benchSpaces(b *testing.B, r *Registry, n int) []*Space {
	b.Helper()
	spaces := make([]*Space, n)
	for i := range spaces {
		s, err := r.Create(context.Background(), SpaceID(fmt.Sprintf("space-%03d", i)), SpaceConfig{})
		require.NoError(b, err)
		spaces[i] = s
	}
	return spaces
}

// latencies collects durations of concurrent workers and reports their spread.
type latencies struct {
	mu  sync.Mutex
	all []time.Duration
}

func (l *latencies) add(list []time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, list...)
}

func (l *latencies) report(b *testing.B, elapsed time.Duration) {
	slices.Sort(l.all)
	n := len(l.all)
	b.ReportMetric(float64(l.all[n/2])/1e3, "p50-us")
	b.ReportMetric(float64(l.all[min(n*99/100, n-1)])/1e3, "p99-us")
	b.ReportMetric(float64(n)/elapsed.Seconds(), "ops/s")
}

// runWriters has each of n goroutines call op until all have done total calls.
func runWriters(n, total int, op func(writer, i int)) (*latencies, time.Duration) {
	var l latencies
	var work sync.WaitGroup
	var next atomic.Int64
	start := time.Now()
	for w := range n {
		work.Go(func() {
			var own []time.Duration
			for {
				i := int(next.Add(1))
				if i > total {
					break
				}
				began := time.Now()
				op(w, i)
				own = append(own, time.Since(began))
			}
			l.add(own)
		})
	}
	work.Wait()
	return &l, time.Since(start)
}

// BenchmarkRecall asks three-word cues of spaces with the same number of
// memories each: what other spaces cost.
func BenchmarkRecall(b *testing.B) {
	const memories = 1000
	for _, spaces := range []int{1, 5, 10, 100} {
		b.Run(fmt.Sprintf("spaces=%d/memories=%d", spaces, memories), func(b *testing.B) {
			ctx := context.Background()
			r := openBench(b, Options{Durability: None})
			words := newBenchWords(7)
			all := benchSpaces(b, r, spaces)
			for _, s := range all {
				batch := make([]Memory, memories)
				for i := range batch {
					batch[i] = Memory{Content: words.text(20), Episode: fmt.Sprint("episode ", i/20)}
				}
				_, err := s.RememberBatch(ctx, batch)
				require.NoError(b, err)
			}
			cues := make([]string, 256)
			for i := range cues {
				cues[i] = words.text(3)
			}
			var l latencies
			var own []time.Duration
			start := time.Now()
			for i := 0; b.Loop(); i++ {
				began := time.Now()
				_, err := all[i%spaces].Recall(ctx, Cue{Text: cues[i%len(cues)]})
				require.NoError(b, err)
				own = append(own, time.Since(began))
			}
			l.add(own)
			l.report(b, time.Since(start))
		})
	}
}

// BenchmarkRecallBesideSpaces measures what other spaces in the registry cost: the
// same recalls of equal spaces, one alone in its registry and one beside others that
// are awake and filled too, in turn. The ratios are those of the median and of the
// 99th percentile, beside others over alone.
func BenchmarkRecallBesideSpaces(b *testing.B) {
	const (
		memories = 1000
		turn     = 64 // recalls of one space before the other's
	)
	for _, spaces := range []int{5, 10, 100} {
		b.Run(fmt.Sprintf("spaces=%d/memories=%d", spaces, memories), func(b *testing.B) {
			ctx := context.Background()
			filled := func(n int) *Space {
				all := benchSpaces(b, openBench(b, Options{Durability: None}), n)
				for _, s := range all {
					words := newBenchWords(7)
					batch := make([]Memory, memories)
					for i := range batch {
						batch[i] = Memory{Content: words.text(20), Episode: fmt.Sprint("episode ", i/20)}
					}
					_, err := s.RememberBatch(ctx, batch)
					require.NoError(b, err)
				}
				return all[n/2]
			}
			asked := []*Space{filled(1), filled(spaces)}
			words := newBenchWords(8)
			cues := make([]string, turn)
			for i := range cues {
				cues[i] = words.text(3)
			}
			took := make([][]time.Duration, len(asked))
			for b.Loop() {
				for of, s := range asked {
					for _, cue := range cues {
						began := time.Now()
						_, err := s.Recall(ctx, Cue{Text: cue})
						require.NoError(b, err)
						took[of] = append(took[of], time.Since(began))
					}
				}
			}
			for _, q := range []float64{.5, .99} {
				at := func(of int) float64 {
					slices.Sort(took[of])
					return float64(took[of][int(q*float64(len(took[of])-1))])
				}
				b.ReportMetric(at(1)/at(0), fmt.Sprintf("p%g-ratio", 100*q))
			}
		})
	}
}

// BenchmarkRemember measures durable writes of 200-byte texts, indexed and
// recallable when they return: n writers in one space, and in as many spaces.
func BenchmarkRemember(b *testing.B) {
	for _, writers := range []int{1, 8, 64} {
		for _, spaces := range slices.Compact([]int{1, writers}) {
			b.Run(fmt.Sprintf("writers=%d/spaces=%d", writers, spaces), func(b *testing.B) {
				ctx := context.Background()
				r := openBench(b, Options{})
				all := benchSpaces(b, r, spaces)
				words := newBenchWords(3)
				texts := make([]string, 512)
				for i := range texts {
					texts[i] = words.text(25)
				}
				b.ResetTimer()
				l, elapsed := runWriters(writers, max(b.N, writers), func(w, i int) {
					_, err := all[w%spaces].Remember(ctx, Memory{Content: texts[i%len(texts)]})
					if err != nil {
						b.Error(err)
					}
				})
				b.StopTimer()
				l.report(b, elapsed)
			})
		}
	}
}

// appender is anything that makes a record durable before it returns.
type appender interface {
	append(writer int) error
}

const benchRecordBytes = 1024

// rawAppender is the limit of the disk: a group commit with nothing around it.
// The first writer to come leads: it writes what waits to a pre-zeroed file and
// flushes it once; twice writes and flushes the same bytes to a second file.
type rawAppender struct {
	files []*os.File
	size  int64

	mu      sync.Mutex
	buf     []byte
	waiters []chan struct{}
	leading bool
	at      int64
}

func newRawAppender(b *testing.B, files int, size int64) *rawAppender {
	b.Helper()
	a := &rawAppender{size: size}
	for i := range files {
		f, err := os.Create(filepath.Join(b.TempDir(), fmt.Sprint("raw", i)))
		require.NoError(b, err)
		require.NoError(b, writeZeros(osFile{f}, 0, size))
		a.files = append(a.files, f)
		b.Cleanup(func() { require.NoError(b, f.Close()) })
	}
	return a
}

func (a *rawAppender) append(int) error {
	done := make(chan struct{})
	a.mu.Lock()
	a.buf = append(a.buf, make([]byte, benchRecordBytes)...)
	a.waiters = append(a.waiters, done)
	if a.leading {
		a.mu.Unlock()
		<-done
		return nil
	}
	a.leading = true
	for len(a.waiters) > 0 {
		buf, waiters := a.buf, a.waiters
		a.buf, a.waiters = nil, nil
		if a.at+int64(len(buf)) > a.size {
			a.at = 0
		}
		at := a.at
		a.at += int64(len(buf))
		a.mu.Unlock()
		for _, f := range a.files {
			if _, err := f.WriteAt(buf, at); err != nil {
				return err
			}
			if err := (osFile{f}).Sync(); err != nil {
				return err
			}
		}
		for _, w := range waiters {
			close(w)
		}
		a.mu.Lock()
	}
	a.leading = false
	a.mu.Unlock()
	return nil
}

// journalAppender commits records of benchRecordBytes through the group commit
// and the journal, without a log or a store behind them.
type journalAppender struct {
	commits *committer
	queues  []*queue
}

// bareSpace is a committed that keeps nothing.
type bareSpace struct {
	identity identity
	seq      uint64
	sum      uint32
	buf      []byte
}

func (s *bareSpace) take(writes []*write) (groupFrame, []*write, int) {
	first := s.seq + 1
	s.buf = append(s.buf[:0], make([]byte, frameHeaderBytes)...)
	for _, w := range writes {
		s.buf = append(s.buf, w.records[0]...)
		s.seq++
	}
	f := frame{prev: s.sum, count: uint32(len(writes)), firstSeq: first, kind: kindLog}
	s.buf = sealFrame(s.buf, s.identity.key, &f)
	s.sum = f.checksum
	return groupFrame{
		space: s.identity.incarnation, id: "bare", firstSeq: first, count: f.count, bytes: s.buf,
	}, writes, len(writes)
}

func (s *bareSpace) commit([]*write) {}

// settlesAtOnce is a settler whose spaces have always settled.
type settlesAtOnce struct{}

func (settlesAtOnce) settleSpace(incarnation, SpaceID) (uint64, error) { return 1 << 62, nil }

func newJournalAppender(b *testing.B, spaces int) *journalAppender {
	b.Helper()
	root, err := osFS{}.OpenDir(b.TempDir(), true)
	require.NoError(b, err)
	require.NoError(b, root.Mkdir(journalDir))
	opts := Options{Logger: zap.NewNop()}.withDefaults()
	j, err := openJournal(root, opts, settlesAtOnce{}, false)
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, j.close()); require.NoError(b, root.Close()) })
	a := &journalAppender{commits: &committer{log: j, gather: true}}
	for range spaces {
		id, err := randomIdentity()
		require.NoError(b, err)
		a.queues = append(a.queues, &queue{space: &bareSpace{identity: id}})
	}
	// Fill both files once, as they are after the first minutes of a registry.
	record := make([]byte, 256<<10)
	for range 2 * defaultJournalBytes / len(record) {
		require.NoError(b, a.submit(0, record))
	}
	return a
}

func (a *journalAppender) submit(writer int, record []byte) error {
	w := &write{records: [][]byte{record}, bytes: len(record), signal: make(chan step, 2)}
	return a.commits.submit(context.Background(), a.queues[writer%len(a.queues)], w)
}

func (a *journalAppender) append(writer int) error {
	return a.submit(writer, make([]byte, benchRecordBytes))
}

// versus runs both appenders in turn, in rounds short enough that the machine's
// moods meet both alike, and reports the median of the rounds' ratios.
func versus(b *testing.B, writers, records int, subject, limit appender) {
	b.Helper()
	round := func(a appender) float64 {
		_, elapsed := runWriters(writers, records, func(w, _ int) {
			if err := a.append(w); err != nil {
				b.Error(err)
			}
		})
		return float64(records) / elapsed.Seconds()
	}
	round(subject)
	round(limit)
	var ratios, subjects, limits []float64
	for b.Loop() {
		s, l := round(subject), round(limit)
		ratios, subjects, limits = append(ratios, s/l), append(subjects, s), append(limits, l)
	}
	median := func(list []float64) float64 {
		slices.Sort(list)
		return list[len(list)/2]
	}
	b.ReportMetric(median(ratios), "ratio")
	b.ReportMetric(median(subjects), "records/s")
	b.ReportMetric(median(limits), "limit-records/s")
}

// BenchmarkJournal measures durable appends of 1 KiB records against the raw
// limit of the same disk in the same run.
func BenchmarkJournal(b *testing.B) {
	for _, writers := range []int{1, 8, 64} {
		records := 400 * writers
		b.Run(fmt.Sprintf("burst/writers=%d/spaces=1/of=raw", writers), func(b *testing.B) {
			versus(b, writers, records, newJournalAppender(b, 1), newRawAppender(b, 1, defaultJournalBytes))
		})
		if writers > 1 {
			b.Run(fmt.Sprintf("burst/writers=%d/spaces=%d/of=one-space", writers, writers), func(b *testing.B) {
				versus(b, writers, records, newJournalAppender(b, writers), newJournalAppender(b, 1))
			})
		}
	}
	// Ten generations and more, with real spaces, logs and settling, against a
	// raw writer that writes and flushes the same bytes twice.
	b.Run("sustained/writers=64/spaces=64/of=raw-twice", func(b *testing.B) {
		records := 11 * minJournalBytes / benchRecordBytes
		if b.N > 1 || !testing.Short() {
			records = 11 * sustainedJournalBytes / benchRecordBytes
		}
		versus(b, 64, records, newSpaceAppender(b, 64), newRawAppender(b, 2, sustainedJournalBytes))
	})
}

const sustainedJournalBytes = 8 << 20

// spaceAppender remembers memories whose records are benchRecordBytes long and
// have no text to analyze.
type spaceAppender struct{ spaces []*Space }

func newSpaceAppender(b *testing.B, spaces int) *spaceAppender {
	b.Helper()
	return &spaceAppender{benchSpaces(b, openBench(b, Options{JournalBytes: sustainedJournalBytes}), spaces)}
}

func (a *spaceAppender) append(writer int) error {
	embedding := make([]float32, (benchRecordBytes-64)/4)
	embedding[writer%len(embedding)] = 1
	_, err := a.spaces[writer%len(a.spaces)].Remember(context.Background(), Memory{Embedding: embedding})
	return err
}
