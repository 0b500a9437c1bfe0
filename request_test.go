package engram

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engramdb/engram/internal/crashfs"
)

// requestWrites are writes that a caller may retry with a request id.
func requestWrites() map[string]func(s *Space, opts ...WriteOption) (any, error) {
	when := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	return map[string]func(s *Space, opts ...WriteOption) (any, error){
		"remember": func(s *Space, opts ...WriteOption) (any, error) {
			return s.Remember(background, Memory{Content: "no id of its own"}, opts...)
		},
		"remember with an id": func(s *Space, opts ...WriteOption) (any, error) {
			return s.Remember(background, Memory{ID: "x", Content: "x", Time: when}, opts...)
		},
		"batch": func(s *Space, opts ...WriteOption) (any, error) {
			return s.RememberBatch(background, []Memory{{Content: "one"}, {ID: "two", Content: "two"}, {Content: "three"}}, opts...)
		},
		"forget": func(s *Space, opts ...WriteOption) (any, error) {
			return s.Forget(background, []string{"victim", "unknown"}, opts...)
		},
		"forget where": func(s *Space, opts ...WriteOption) (any, error) {
			return s.ForgetWhere(background, Filter{Kind: Semantic, Before: when}, opts...)
		},
		"configure": func(s *Space, opts ...WriteOption) (any, error) {
			return s.Configure(background, SpaceConfig{MaxMemories: 1000}, opts...)
		},
	}
}

// A retried write takes effect once and gives the same receipt: at once, after a
// kill, after a checkpoint and a restart; another payload is refused.
func TestRequestIDMakesAWriteTakeEffectOnce(t *testing.T) {
	for name, write := range requestWrites() {
		t.Run(name, func(t *testing.T) {
			clock := newStepClock()
			s, m := newTestSpace(t, Options{Clock: clock})
			remember(t, s, Memory{ID: "victim", Content: "x"}, Memory{Content: "y", Kind: Semantic, Time: time.Unix(0, 0)})
			first, err := write(s, RequestID("r-1"))
			require.NoError(t, err)
			info, memories := s.Info(), list(t, s, Filter{})
			requireOnce := func(s *Space) {
				t.Helper()
				again, err := write(s, RequestID("r-1"))
				require.NoError(t, err)
				require.Equal(t, first, again)
				for other, write := range requestWrites() {
					if other != name {
						_, err := write(s, RequestID("r-1"))
						require.ErrorIs(t, err, ErrRequestReused, other)
					}
				}
				got := infoOf(t, s) // the settler may have put it to sleep again
				got.ID = info.ID
				require.Equal(t, info, got)
				require.Equal(t, memories, list(t, s, Filter{}))
			}
			requireOnce(s)
			killed := m.clone()
			require.NoError(t, s.Checkpoint(background))
			requireOnce(s)
			checkpointed := m.clone()
			for _, m := range []*memoryFS{killed, checkpointed} {
				r := openMemory(t, m, Options{Clock: clock})
				requireOnce(get(t, r, "alpha"))
				require.NoError(t, r.Close())
			}
			second, err := write(s, RequestID("r-2"))
			require.NoError(t, err)
			require.NotEqual(t, first, second, "another request is another write")
		})
	}
}

func TestRequestIDPayload(t *testing.T) {
	s, _ := newTestSpace(t, Options{})
	m := Memory{Content: "x", Episode: "e", Attributes: map[string]string{"a": "1", "b": "2"}, Embedding: []float32{1, 2}}
	receipt, err := s.Remember(background, m, RequestID("r"))
	require.NoError(t, err)
	for _, change := range []func(m *Memory){
		func(m *Memory) { m.Content = "y" },
		func(m *Memory) { m.ID = "chosen" },
		func(m *Memory) { m.ID = receipt.ID },
		func(m *Memory) { m.Episode = "" },
		func(m *Memory) { m.Attributes = map[string]string{"a": "1"} },
		func(m *Memory) { m.Attributes = map[string]string{"a": "12", "b": ""} },
		func(m *Memory) { m.Embedding = []float32{1, 2.0001} },
		func(m *Memory) { m.Time = time.Unix(0, 0) },
		func(m *Memory) { m.Kind = Semantic },
		func(m *Memory) { m.Confidence = 0.5 },
	} {
		other := m
		change(&other)
		_, err := s.Remember(background, other, RequestID("r"))
		require.ErrorIs(t, err, ErrRequestReused)
	}
	_, err = s.RememberBatch(background, []Memory{m, m}, RequestID("r"))
	require.ErrorIs(t, err, ErrRequestReused)
	again, err := s.RememberBatch(background, []Memory{m}, RequestID("r"))
	require.NoError(t, err)
	require.Equal(t, []Receipt{receipt}, again, "a batch of one is the same write")
	require.Equal(t, uint64(2), s.Info().Seq)
}

// A field that was left out is the same as its default.
func TestRequestIDPayloadWithDefaults(t *testing.T) {
	s, _ := newTestSpace(t, Options{})
	short := Memory{ID: "x", Content: "x"}
	full := Memory{
		ID: "x", Content: "x", Confidence: 1, Kind: Episodic, Space: s.ID(),
		Attributes: map[string]string{}, Embedding: []float32{},
	}
	for request, order := range map[string][]Memory{"r-1": {short, full}, "r-2": {full, short}} {
		first, err := s.Remember(background, order[0], RequestID(request))
		require.NoError(t, err)
		again, err := s.Remember(background, order[1], RequestID(request))
		require.NoError(t, err, request)
		require.Equal(t, first, again)
	}
	remember(t, s, Memory{ID: "y", Content: "y"})
	first, err := s.Associate(background, Association{From: "x", To: "y", Weight: 1, Kind: AssociationRelated}, RequestID("r-3"))
	require.NoError(t, err)
	again, err := s.Associate(background, Association{From: "x", To: "y", Weight: 1}, RequestID("r-3"))
	require.NoError(t, err)
	require.Equal(t, first, again)
	first, err = s.Configure(background, SpaceConfig{}, RequestID("r-4"))
	require.NoError(t, err)
	again, err = s.Configure(background, SpaceConfig{Analyzer: English}, RequestID("r-4"))
	require.NoError(t, err)
	require.Equal(t, first, again)
}

// The hash is stored: a write that is retried with a later version must have the same.
func TestRequestHashIsAsDocumented(t *testing.T) {
	s, _ := newTestSpace(t, Options{})
	text := func(tag byte, s string) string { return string([]byte{tag, byte(len(s))}) + s }
	number := func(tag byte, n uint64) string {
		return text(tag, string(binary.LittleEndian.AppendUint64(nil, n)))
	}
	record := func(kind byte, fields string) string {
		header := binary.LittleEndian.AppendUint32(nil, uint32(12+8+2+len(fields)))
		return string(append(header, 0, 0, 0, 0, kind, 0, 0, 0)) + number(2, 0) + fields
	}
	unset := int64(-6795364578871345152)
	require.Equal(t, time.Date(1754, 8, 30, 22, 43, 41, 128654848, time.UTC), time.Unix(0, unset).UTC())
	when := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		write  func(opts ...WriteOption) error
		pieces []string
	}{
		"remember": {func(opts ...WriteOption) error {
			_, err := s.RememberBatch(background, []Memory{
				{Content: "one", Confidence: 1},
				{ID: "two", Time: when, Kind: Semantic, Confidence: 0.5, Episode: "e", Attributes: map[string]string{"k": "v"}, Embedding: []float32{1}},
			}, opts...)
			return err
		}, []string{
			"\x02",
			text(3, strings.Repeat("0", 23)) + number(4, uint64(unset)) + number(6, 0) + text(9, "one"),
			text(3, "two") + number(4, uint64(when.UnixNano())) + text(5, "semantic") + number(6, math.Float64bits(0.5)) +
				text(7, "e") + text(8, "\x01k\x01v") + text(10, "\x00\x00\x80\x3f"),
		}},
		"forget": {func(opts ...WriteOption) error {
			_, err := s.Forget(background, []string{"x"}, opts...)
			return err
		}, []string{"\x03", record(3, text(30, "\x01x"))}},
		"configure": {func(opts ...WriteOption) error {
			_, err := s.Configure(background, SpaceConfig{MaxMemories: 9, AutoAssociate: 2}, opts...)
			return err
		}, []string{"\x01", record(1, number(20, 9)+number(21, 0)+number(22, 0)+number(23, 0)+number(25, 2))}},
	} {
		t.Run(name, func(t *testing.T) {
			require.NoError(t, c.write(RequestID(name)))
			hash := fnv.New64a()
			for _, p := range c.pieces {
				_, _ = hash.Write(binary.LittleEndian.AppendUint64(nil, uint64(len(p))))
				_, _ = hash.Write([]byte(p))
			}
			require.Equal(t, hash.Sum64(), s.awake.Load().store.requests[name].hash)
		})
	}
}

// An empty request id would promise what no write could keep.
func TestRequestIDIsNotEmpty(t *testing.T) {
	for name, write := range requestWrites() {
		s, _ := newTestSpace(t, Options{})
		_, err := write(s, RequestID(""))
		require.ErrorIs(t, err, ErrInvalid, name)
		require.Equal(t, uint64(1), s.Info().Seq, name)
	}
}

// A request that was refused was not a request: the id is free.
func TestRequestIDOfARefusedWrite(t *testing.T) {
	s, _ := newTestSpace(t, Options{})
	_, err := s.Configure(background, SpaceConfig{MaxMemories: 1})
	require.NoError(t, err)
	x := Memory{ID: "x", Content: "x"}
	_, err = s.RememberBatch(background, []Memory{x, {Content: "y"}}, RequestID("r"))
	require.ErrorIs(t, err, ErrQuota)
	_, err = s.Remember(background, x, RequestID("r"), ExpectSeq(1))
	require.ErrorIs(t, err, ErrConflict)
	receipt, err := s.Remember(background, x, RequestID("r"), ExpectSeq(2))
	require.NoError(t, err)
	again, err := s.Remember(background, x, RequestID("r"), ExpectSeq(2))
	require.NoError(t, err, "a retry is recognised before its condition is checked")
	require.Equal(t, receipt, again)
}

func TestRequestIDsAreKeptBySeq(t *testing.T) {
	s, m := newTestSpace(t, Options{})
	write := func(s *Space, i int) Receipt {
		t.Helper()
		receipt, err := s.Remember(background, Memory{ID: "x", Content: "x"}, RequestID(fmt.Sprint("r-", i)))
		require.NoError(t, err)
		return receipt
	}
	var first Receipt
	for i := range keptRequests {
		if receipt := write(s, i); i == 0 {
			first = receipt
		}
	}
	require.Equal(t, 4096, keptRequests)
	require.Equal(t, first, write(s, 0), "the last 4,096 are kept")
	next := write(s, keptRequests)
	require.Equal(t, uint64(3), write(s, 1).Seq, "request 1 is kept: its receipt is the old one")
	again := write(s, 0)
	require.Equal(t, next.Seq+1, again.Seq, "request 0 was the oldest, and is forgotten")

	require.NoError(t, s.Checkpoint(background))
	r := openMemory(t, m.clone(), Options{})
	s = get(t, r, "alpha")
	require.Equal(t, again, write(s, 0))
	require.Equal(t, next, write(s, keptRequests))
	require.Equal(t, uint64(4), write(s, 2).Seq)
	require.Equal(t, again.Seq+1, write(s, 1).Seq, "request 1 was forgotten when request 0 came again")
	require.NoError(t, r.Close())
}

func TestRequestIDConcurrently(t *testing.T) {
	s, _ := newTestSpace(t, Options{})
	for round := range 20 {
		var work sync.WaitGroup
		receipts := make([]Receipt, 16)
		for i := range receipts {
			work.Go(func() {
				var err error
				receipts[i], err = s.Remember(background, Memory{Content: "x"}, RequestID(fmt.Sprint(round)))
				require.NoError(t, err)
			})
		}
		work.Wait()
		for _, receipt := range receipts {
			require.Equal(t, receipts[0], receipt)
		}
		require.Equal(t, int64(round+1), s.Info().Memories)
	}
}

func TestExpectSeq(t *testing.T) {
	s, m := newTestSpace(t, Options{})
	before := m.files(".")
	for name, write := range requestWrites() {
		for _, wrong := range []uint64{0, 2, 1 << 63} {
			_, err := write(s, ExpectSeq(wrong))
			require.ErrorIs(t, err, ErrConflict, name)
			var conflict *ConflictError
			require.ErrorAs(t, err, &conflict)
			require.Equal(t, ConflictError{Expected: wrong, Actual: 1}, *conflict)
		}
	}
	requireUnchanged(t, before, m)
	seq := uint64(1)
	for name, write := range requestWrites() {
		_, err := write(s, ExpectSeq(seq))
		require.NoError(t, err, name)
		require.Greater(t, s.Info().Seq, seq, "a conditional write is an operation, also where it finds nothing to forget")
		seq = s.Info().Seq
	}
}

// Of writers that expect the same seq one wins; a counter kept by compare and
// swap loses no count.
func TestExpectSeqConcurrently(t *testing.T) {
	s, _ := newTestSpace(t, Options{})
	const writers, counts = 8, 10
	var work sync.WaitGroup
	for range writers {
		work.Go(func() {
			for done := 0; done < counts; {
				answer, err := s.Recall(background, Cue{})
				require.NoError(t, err)
				next := 1
				if len(answer.Recollections) > 0 {
					_, err = fmt.Sscan(answer.Recollections[0].Memory.Content, &next)
					require.NoError(t, err)
					next++
				}
				_, err = s.Remember(background, Memory{ID: "counter", Content: fmt.Sprint(next)}, ExpectSeq(answer.Seq))
				if err == nil {
					done++
				} else {
					require.ErrorIs(t, err, ErrConflict)
				}
			}
		})
	}
	work.Wait()
	m, err := s.Lookup(background, "counter")
	require.NoError(t, err)
	require.Equal(t, fmt.Sprint(writers*counts), m.Content)
	require.Equal(t, uint64(writers*counts+1), m.Seq)
}

// A refusal says what the space is, not what it will be if the writes before it
// in the same frame become durable.
func TestNoRefusalForWhatIsNotDurable(t *testing.T) {
	for name, refused := range map[string]func(s *Space) error{
		"expected seq": func(s *Space) error {
			_, err := s.Remember(background, Memory{Content: "x"}, ExpectSeq(2))
			return err
		},
		"dimension": func(s *Space) error {
			_, err := s.Remember(background, Memory{Embedding: []float32{1, 2, 3}})
			return err
		},
	} {
		f := crashfs.New()
		r := openMemory(t, f, Options{})
		s := create(t, r, "alpha")
		flushing, released := make(chan struct{}), make(chan struct{})
		var flushes atomic.Int64
		f.SetHook(func(c crashfs.Call) error {
			if c.Op != crashfs.OpSync {
				return nil
			}
			if flushes.Add(1) > 1 {
				return crashfs.ErrCut
			}
			close(flushing)
			<-released
			return nil
		})
		errs := make([]chan error, 3)
		for i, write := range []func() error{
			func() error { return remembering(Memory{Content: "holds the journal"})(s) },
			func() error { return remembering(Memory{Embedding: []float32{1, 2}})(s) },
			func() error { return refused(s) },
		} {
			errs[i] = make(chan error, 1)
			go func() { errs[i] <- write() }()
			if i == 0 {
				<-flushing
			} else {
				waitQueued(t, s, i)
			}
		}
		close(released)
		require.NoError(t, <-errs[0], name)
		require.ErrorIs(t, <-errs[1], ErrUnknownOutcome, name)
		require.ErrorIs(t, <-errs[2], ErrStopped, name)
		require.Error(t, r.Close())
	}
}

// A retry of what was applied is answered also while the log finds no room for it.
func TestRetryOnAFullDisk(t *testing.T) {
	f := crashfs.New()
	r := openMemory(t, f, Options{})
	s := create(t, r, "alpha")
	f.SetRoom(0)
	m := Memory{Content: strings.Repeat("x", 1<<10)}
	first, err := s.Remember(background, m, RequestID("r-1"))
	require.NoError(t, err)
	again, err := s.Remember(background, m, RequestID("r-1"))
	require.NoError(t, err)
	require.Equal(t, first, again)
	_, err = s.Remember(background, m, RequestID("r-2"))
	require.ErrorIs(t, err, ErrDiskFull)
	_, err = s.Remember(background, Memory{Content: "another"}, RequestID("r-1"))
	require.ErrorIs(t, err, ErrRequestReused)
	f.SetRoom(-1)
	require.NoError(t, r.Close())
}
