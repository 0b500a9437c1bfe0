package engram

import (
	"fmt"
	"io/fs"
	"path"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engramdb/engram/internal/crashfs"
)

// smallLogs rotate after a few memories and are never checkpointed by themselves.
func smallLogs() Options {
	opts := Options{JournalBytes: minJournalBytes}
	opts.seams.segmentBytes, opts.seams.checkpointBytes = 1500, 1<<40
	return opts
}

// logFiles returns the names of a space's segments.
func logFiles(m *memoryFS, id SpaceID) []string {
	var names []string
	for name := range m.files(path.Join(string(id), walDir)) {
		names = append(names, path.Base(name))
	}
	slices.Sort(names)
	return names
}

// TestLogsOfTwoSpaces writes two spaces at once: each has its own log, in its own
// directory, whose segments say whose they are and continue each other.
func TestLogsOfTwoSpaces(t *testing.T) {
	r, m := newRegistry(t, smallLogs())
	var work sync.WaitGroup
	for _, id := range []SpaceID{"aaa", "aaa-b"} {
		s := create(t, r, id)
		work.Go(func() {
			for i := range 40 {
				remember(t, s, Memory{ID: fmt.Sprint("m", i), Content: "canary of " + string(id) + ";"})
			}
		})
	}
	work.Wait()
	require.NoError(t, r.Settle(background))
	for _, id := range []SpaceID{"aaa", "aaa-b"} {
		files := m.files(string(id))
		require.Len(t, files[spaceFile], spaceFileBytes)
		identity, state, err := decodeSpaceFile(files[spaceFile])
		require.NoError(t, err)
		require.Equal(t, id, state.id)
		require.Equal(t, uint64(41), state.mark.seq)
		names := logFiles(m, id)
		require.Greater(t, len(names), 2)
		require.Len(t, files, 1+len(names), "SPACE and the log are all there is")
		requireChain(t, m, id, identity, names)
	}
	require.Empty(t, slices.DeleteFunc(filesWith(m, "canary of aaa;"), func(n string) bool { return strings.HasPrefix(n, "aaa/") }))
	require.Empty(t, slices.DeleteFunc(filesWith(m, "canary of aaa-b;"), func(n string) bool { return strings.HasPrefix(n, "aaa-b/") }))
}

// requireChain reads a log from its first frame to its last.
func requireChain(t *testing.T, m *memoryFS, id SpaceID, identity identity, names []string) {
	t.Helper()
	seq, sum, end := uint64(0), uint32(0), int64(0)
	for i, name := range names {
		require.Equal(t, fmt.Sprintf("%08d.wal", i+1), name)
		b := m.files(string(id))[path.Join(walDir, name)]
		h, err := decodeSegmentHeader(b)
		require.NoError(t, err)
		require.Equal(t, segmentHeader{
			kind: kindLog, identity: identity, number: uint64(i + 1), firstSeq: seq + 1,
			prevNumber: uint64(i), prevEnd: end, prevSum: sum,
		}, h)
		at := segmentHeaderBytes
		for at < len(b) {
			f, n, err := decodeFrame(b[at:], identity.key)
			require.NoError(t, err)
			require.Equal(t, seq+1, f.firstSeq)
			require.Equal(t, sum, f.prev)
			seq, sum, at = f.lastSeq(), f.checksum, at+n
		}
		end = int64(at)
	}
	require.Equal(t, uint64(41), seq)
}

// TestForgottenBytesAreInNoFile forgets and replaces over many segments: after
// Checkpoint and Settle nothing of it is in any file, and the rest is whole.
func TestForgottenBytesAreInNoFile(t *testing.T) {
	r, m := newRegistry(t, smallLogs())
	s := create(t, r, "alpha")
	for i := range 40 {
		remember(t, s, Memory{ID: fmt.Sprint("m", i), Content: fmt.Sprintf("canary-%d- kept", i), Episode: "e"})
	}
	var gone []string
	for i := 0; i < 40; i += 4 {
		forget(t, s, fmt.Sprint("m", i))
		remember(t, s, Memory{ID: fmt.Sprint("m", i+1), Content: "replaced"})
		gone = append(gone, fmt.Sprintf("canary-%d-", i), fmt.Sprintf("canary-%d-", i+1))
	}
	require.NotEmpty(t, filesWith(m, gone...))
	before := list(t, s, Filter{})
	require.NoError(t, s.Checkpoint(background))
	require.NoError(t, r.Settle(background))
	requireNowhere(t, m, gone...)
	require.Equal(t, before, list(t, s, Filter{}))
	require.NotEmpty(t, filesWith(m, "canary-2-"))

	files := len(logFiles(m, "alpha"))
	require.NoError(t, s.Checkpoint(background))
	require.Len(t, logFiles(m, "alpha"), files, "with nothing to do a checkpoint does nothing")

	asleep(t, s)
	require.Equal(t, before, list(t, s, Filter{}))
	report := s.Stats().Operator.Recovery
	require.Equal(t, Clean, report.Verdict)
	require.NotZero(t, report.CheckpointSeq)
	require.Zero(t, report.Operations, "the checkpoint has everything")
}

// TestReaderKeepsWhatItSees iterates while everything is forgotten and rewritten:
// the reader sees its snapshot to the end, and then the bytes go.
func TestReaderKeepsWhatItSees(t *testing.T) {
	r, m := newRegistry(t, smallLogs())
	s := create(t, r, "alpha")
	for i := range 30 {
		remember(t, s, Memory{ID: fmt.Sprint("m", i), Content: fmt.Sprintf("canary-%d-", i)})
	}
	before := list(t, s, Filter{})
	first, next, stop := beginReading(t, s)
	defer stop()
	seen := []Memory{first}

	_, err := s.ForgetWhere(background, Filter{Kind: Episodic})
	require.NoError(t, err)
	remember(t, s, Memory{ID: "m1", Content: "new"})
	require.NoError(t, s.Checkpoint(background))
	require.NoError(t, r.Settle(background))
	require.Equal(t, []string{"m1"}, idsOf(list(t, s, Filter{})))
	require.NotEmpty(t, filesWith(m, "canary-"), "a reader still needs them")
	for {
		memory, err, ok := next()
		if !ok {
			break
		}
		require.NoError(t, err)
		seen = append(seen, memory)
	}
	require.Equal(t, before, seen)
	requireNowhere(t, m, "canary-")
}

// TestCheckpointsWhileWritingAndReading lets checkpoints fire by themselves while
// the space is written and read.
func TestCheckpointsWhileWritingAndReading(t *testing.T) {
	t.Parallel()
	opts := Options{JournalBytes: minJournalBytes}
	opts.seams.segmentBytes, opts.seams.checkpointBytes = 2000, 5000
	r, _ := newRegistry(t, opts)
	s := create(t, r, "alpha")
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				for memory, err := range s.Memories(background, Filter{}) {
					if err != nil || !strings.HasPrefix(memory.Content, memory.ID+" ") {
						t.Errorf("%q: %q, %v", memory.ID, memory.Content, err)
					}
				}
			}
		})
	}
	expected := make(map[string]uint64)
	for i := range scaled(2000) {
		id := fmt.Sprint("m", i%97)
		if i%13 == 0 {
			forget(t, s, id)
			delete(expected, id)
			continue
		}
		expected[id] = remember(t, s, Memory{ID: id, Content: fmt.Sprint(id, " version ", i)})[0].Seq
	}
	close(stop)
	readers.Wait()
	require.NotZero(t, s.Stats().Operator.CheckpointSeq)
	held := make(map[string]uint64)
	for _, memory := range list(t, s, Filter{}) {
		held[memory.ID] = memory.Seq
	}
	require.Equal(t, expected, held)
	asleep(t, s)
	require.Len(t, list(t, s, Filter{}), len(expected))
}

// A reader that is late opens no file again: nobody would close it.
func TestClosedSegmentStaysClosed(t *testing.T) {
	f := crashfs.New()
	r := openMemory(t, f, Options{})
	s := create(t, r, "aaa")
	remember(t, s, Memory{ID: "m", Content: "lorem"})
	l := s.awake.Load().log
	require.NoError(t, l.active.close())
	_, err := l.active.open(l.dir)
	require.ErrorIs(t, err, fs.ErrClosed)
}

// What a checkpoint puts in place between the two looks of a read that begins is in
// what it has pinned.
func TestReadPinsWhatItsViewShows(t *testing.T) {
	t.Parallel()
	s, _ := newTestSpace(t, Options{})
	remember(t, s, Memory{ID: "m", Content: "lorem"})
	a := s.awake.Load()
	pinned := func() bool {
		a.log.pins.Lock()
		defer a.log.pins.Unlock()
		return a.log.sets[0].refs > 0
	}
	a.store.mu.Lock()
	a.store.current.Store(nil) // the view has to be made, which waits
	begun := make(chan *reader)
	go func() { begun <- a.read() }()
	for !pinned() {
		runtime.Gosched()
	}
	a.log.publish(nil, nil, nil)
	a.store.mu.Unlock()
	reading := <-begun
	defer reading.close()
	require.True(t, a.log.current(reading.pins))
}

// Segments that nobody needs any more are removed before the log closes, or
// stay until the next wake.
func TestClosedLogRemovesNothing(t *testing.T) {
	f := crashfs.New()
	r := openMemory(t, f, Options{})
	s := create(t, r, "aaa")
	remember(t, s, Memory{ID: "m", Content: "lorem"})
	a := s.awake.Load()
	reading := a.read()
	require.NoError(t, s.Checkpoint(background))
	_, err := s.Forget(background, []string{"m"})
	require.NoError(t, err)
	require.NoError(t, s.Checkpoint(background))
	require.NoError(t, r.Close())
	before := f.MutatingCalls()
	reading.close()
	require.Equal(t, before, f.MutatingCalls())
}
