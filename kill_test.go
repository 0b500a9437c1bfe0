package engram

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A real process on the real disk, killed while it writes to several spaces,
// again and again on one data directory. What this shows and no simulated file
// system can: the operating system's own files, locks, renames and page cache,
// and a process that ends between any two instructions.

// killChild tells the test binary that it is the child, and what to do.
const killChild = "ENGRAM_TEST_KILL_CHILD"

// killOrder is what the child is told.
type killOrder struct {
	Dir  string
	Seed uint64
	Done []int // of each writer: its writes that earlier children have made
}

var killSpaces = []SpaceID{"aaa", "aaab", "aaa-b", "zzz"}

const (
	killWriters = 8 // two for each space
	killIDs     = 30
)

func killSpace(writer int) SpaceID { return killSpaces[writer%len(killSpaces)] }

// killWrite is a writer's n-th write, from 1 on: memories, or ids to forget,
// which are always there. It is the same in every process.
func killWrite(writer, n int) (ms []Memory, forgotten []string) {
	random := rand.New(rand.NewPCG(uint64(writer), uint64(n)))
	id := func(i int) string { return fmt.Sprintf("w%d-%d", writer, i%killIDs) }
	if n%6 == 0 {
		return nil, []string{id(3 * (n - 1))} // the first of the write before
	}
	for i := range 1 + random.IntN(3) {
		ms = append(ms, Memory{
			ID:      id(3*n + i),
			Content: fmt.Sprintf("%s writer %d write %d %s", killSpace(writer), writer, n, strings.Repeat("amet ", random.IntN(150))),
		})
	}
	return ms, nil
}

// killModel is what one writer's writes have made of its memories.
type killModel struct {
	n     int // writes
	seqs  int // operations in them
	state crashState
}

// next is the model after one more write.
func (m killModel) next(writer int) killModel {
	m.n++
	ms, forgotten := killWrite(writer, m.n)
	m.seqs += len(ms) + len(forgotten)
	m.state, _ = m.state.without(func(id string, _ crashMemory) bool { return slices.Contains(forgotten, id) })
	for _, w := range ms {
		m.state = m.state.with(w.ID, crashMemory{content: w.Content})
	}
	return m
}

func TestKills(t *testing.T) {
	if order := os.Getenv(killChild); order != "" {
		runKillChild(t, order)
		return
	}
	dir := t.TempDir()
	r := openIn(t, dir, Options{})
	for _, id := range killSpaces {
		create(t, r, id)
	}
	require.NoError(t, r.Close())
	models := make([]killModel, killWriters)
	for i := range models {
		models[i].state = crashState{}
	}
	verdicts := make(map[Verdict]int)
	kills := 0
	forSchedules(t, runCounts{sampled: 8, full: 1000, nightly: 20_000}, func(x *schedule) {
		kills++
		acked := x.kill(dir, models)
		x.requireLayout(dir)
		if x.random.IntN(4) == 0 {
			x.requireRecoverable(dir)
		}
		r, err := Open(dir, Options{ReadOnly: x.random.IntN(4) > 0})
		x.must(err)
		x.requireReports(r, verdicts)
		x.requireKilled(r, models, acked)
		x.must(r.Close())
	})
	total := 0
	for _, m := range models {
		total += m.n
	}
	t.Logf("%d writes, recoveries: %v", total, verdicts)
	if kills >= 100 { // of few, each may have come too early
		require.Positive(t, total, "no child got as far as a write")
		require.Positive(t, verdicts[Completed], "no child was killed with anything to recover")
	}
}

// kill has a child write and kills it: after a number of acknowledged writes
// and a while, or only after a while, which may be before it has opened. It
// returns how many writes of each writer are known to be acknowledged.
func (x *schedule) kill(dir string, models []killModel) []int {
	x.t.Helper()
	order := killOrder{Dir: dir, Seed: x.seed}
	for _, m := range models {
		order.Done = append(order.Done, m.n)
	}
	told, err := json.Marshal(order)
	x.must(err)
	child := exec.Command(os.Args[0], "-test.run=^TestKills$")
	child.Env = append(os.Environ(), killChild+"="+string(told))
	child.Stderr = os.Stderr
	_, err = child.StdinPipe() // ends with this process, and the child with it
	x.must(err)
	stdout, err := child.StdoutPipe()
	x.must(err)
	x.must(child.Start())
	after := x.random.IntN(60)
	pause := time.Duration(x.random.IntN(2000)) * time.Microsecond
	if x.random.IntN(6) == 0 { // while it opens
		after, pause = 0, time.Duration(x.random.IntN(40_000))*time.Microsecond
	}
	acked := slices.Clone(order.Done)
	lines := bufio.NewReader(stdout)
	for n := 0; ; n++ {
		if n == after {
			time.Sleep(pause)
			x.must(child.Process.Kill())
		}
		line, err := lines.ReadString('\n')
		if errors.Is(err, io.EOF) { // a line without its end was cut by the kill
			break
		}
		x.must(err)
		var writer, write int
		if _, err := fmt.Sscanf(line, "%d %d\n", &writer, &write); err != nil {
			x.fatal("the child says %q", line)
		}
		if write != acked[writer]+1 {
			x.fatal("writer %d has write %d acknowledged after %d", writer, write, acked[writer])
		}
		acked[writer] = write
	}
	if err := child.Wait(); err == nil {
		x.fatal("the child ended before it was killed")
	}
	return acked
}

// runKillChild is the child: it writes, says so, and never ends by itself.
func runKillChild(t *testing.T, order string) {
	var o killOrder
	require.NoError(t, json.Unmarshal([]byte(order), &o))
	random := rand.New(rand.NewPCG(o.Seed, 2))
	opts := Options{Durability: one(random, Sync, Sync, None, Interval(time.Millisecond))}
	opts.seams.segmentBytes = one[int64](random, 4<<10, 32<<10)
	opts.seams.checkpointBytes = one[int64](random, 16<<10, 128<<10)
	r := openIn(t, o.Dir, opts)
	r.journal.mu.Lock()
	r.journal.fileBytes = one[int64](random, 16<<10, 64<<10)
	r.journal.mu.Unlock()
	var work sync.WaitGroup
	for writer := range killWriters {
		work.Go(func() {
			s := get(t, r, killSpace(writer))
			for n := o.Done[writer] + 1; ; n++ {
				var err error
				if ms, forgotten := killWrite(writer, n); len(forgotten) > 0 {
					_, err = s.Forget(background, forgotten)
				} else {
					_, err = s.RememberBatch(background, ms)
				}
				if err == nil {
					_, err = fmt.Fprintf(os.Stdout, "%d %d\n", writer, n)
				}
				if err != nil {
					panic(err) // its parent sees what it says instead of an acknowledgement
				}
			}
		})
	}
	work.Go(func() {
		for {
			if err := killMaintain(r, random); err != nil {
				panic(err)
			}
		}
	})
	_, _ = io.Copy(io.Discard, os.Stdin) // its parent has ended, or it is killed
	os.Exit(1)
}

const churnedContent = "of the one that comes and goes"

// killMaintain does one thing beside the writers.
func killMaintain(r *Registry, random *rand.Rand) error {
	s, err := r.Get(background, one(random, killSpaces...))
	if err != nil {
		return err
	}
	time.Sleep(time.Duration(random.IntN(1000)) * time.Microsecond)
	switch random.IntN(5) {
	case 0:
		return s.Checkpoint(background)
	case 1:
		s.sleep()
	case 2:
		return r.Settle(background)
	case 3:
		_, err = s.Recall(background, Cue{Text: "writer amet"})
	default:
		var churn *Space
		churn, err = r.GetOrCreate(background, churned, SpaceConfig{})
		if err == nil {
			_, err = churn.Remember(background, Memory{Content: churnedContent})
		}
		if err == nil && random.IntN(2) == 0 {
			err = r.Delete(background, churned)
		}
	}
	return err
}

// killLayout is every name that a data directory may have.
var killLayout = regexp.MustCompile(`^(\.lock|\.reserve|\.journal|\.tmp|\.trash|\.journal/(HEAD|\d{8})|` +
	`\.(tmp|trash)/[0-9a-f]{32}(/.*)?|` +
	`[a-z-]{3,5}(/(SPACE|checkpoint\.tmp|checkpoint-[0-9a-f-]+|quarantine(/.*)?|wal(/\d{8}\.wal)?))?)$`)

// requireLayout requires that there is no file that nobody would look for.
func (x *schedule) requireLayout(dir string) {
	x.t.Helper()
	var names []string
	x.must(filepath.WalkDir(dir, func(name string, _ fs.DirEntry, err error) error {
		name, _ = filepath.Rel(dir, name)
		if name = filepath.ToSlash(name); name != "." && !killLayout.MatchString(name) {
			names = append(names, name)
		}
		return err
	}))
	if names != nil {
		x.fatal("the data directory has %q", names)
	}
}

// requireRecoverable requires that every byte of the directory is as it should be.
func (x *schedule) requireRecoverable(dir string) {
	x.t.Helper()
	report, err := Check(background, dir)
	x.must(err)
	if report.Verdict == CheckCorrupt {
		x.fatal("check: %+v", report)
	}
}

// requireReports requires that the report of each space's recovery fits a kill.
func (x *schedule) requireReports(r *Registry, verdicts map[Verdict]int) {
	x.t.Helper()
	reports, err := r.RecoverAll(background)
	x.must(err)
	for _, r := range reports {
		verdicts[r.Verdict]++
		fits := r.LastSeq >= r.MarkSeq && r.MarkSeq >= r.CheckpointSeq && r.Damage == ""
		switch r.Verdict {
		case Clean:
			fits = fits && r.LastSeq == r.MarkSeq && r.FromJournal == 0 && r.CutBytes == 0
		case Completed:
			fits = fits && r.LastSeq > r.MarkSeq && r.CutBytes == 0
		case TornTail:
			fits = fits && r.CutBytes > 0
		default:
			fits = false
		}
		if !fits {
			x.fatal("space %q has the report %+v", r.Space, r)
		}
	}
}

// requireKilled requires of each space a prefix of what each of its writers did,
// with everything that was acknowledged and at most the one write that was under
// way, whole, and nothing else. What is found is what the models say from then on.
func (x *schedule) requireKilled(r *Registry, models []killModel, acked []int) {
	x.t.Helper()
	for id := range r.Spaces("") {
		s := get(x.t, r, id)
		found := make(crashState)
		for _, m := range list(x.t, s, Filter{}) {
			found[m.ID] = crashMemory{content: m.Content, episode: m.Episode}
		}
		if id == churned {
			for _, m := range found {
				if m.content != churnedContent {
					x.fatal("space %q has %v", id, found)
				}
			}
			continue
		}
		seqs, memories := 1, 0
		for writer := range models {
			if killSpace(writer) != id {
				continue
			}
			models[writer] = x.matchWriter(writer, models[writer], acked[writer], found)
			seqs, memories = seqs+models[writer].seqs, memories+len(models[writer].state)
		}
		if len(found) != memories {
			x.fatal("space %q has %d memories, its writers have made %d", id, len(found), memories)
		}
		if info := infoOf(x.t, s); info.Seq != uint64(seqs) {
			x.fatal("space %q is at seq %d, its writers have made %d", id, info.Seq, seqs)
		}
	}
}

// matchWriter returns which of its states a writer's memories are in.
func (x *schedule) matchWriter(writer int, m killModel, acked int, found crashState) killModel {
	x.t.Helper()
	for m.n < acked {
		m = m.next(writer)
	}
	prefix := fmt.Sprintf("w%d-", writer)
	mine, _ := found.without(func(id string, _ crashMemory) bool { return !strings.HasPrefix(id, prefix) })
	diff := m.state.differs(mine)
	if diff == "" {
		return m
	}
	next := m.next(writer)
	if more := next.state.differs(mine); more != "" {
		x.fatal("writer %d of %s: after %d acknowledged writes %s; with one more %s", writer, killSpace(writer), acked, diff, more)
	}
	return next
}
