package engram

import (
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engramdb/engram/internal/crashfs"
)

// crashPlace says what kind of file or directory a path is.
func crashPlace(name string) string {
	switch dir, base := path.Split(name); {
	case name == ".":
		return "root"
	case name == journalDir, name == trashDir, name == tmpDir, name == reserveFile, name == lockFile:
		return name
	case dir == journalDir+"/" && base == headName:
		return "HEAD"
	case dir == journalDir+"/":
		return "journal file"
	case dir == trashDir+"/":
		return "tombstone"
	case strings.HasPrefix(dir, trashDir+"/"):
		return "trash"
	case dir == tmpDir+"/" || dir == "":
		return "space" // also one whose directory was opened while it was made
	case base == spaceFile:
		return "SPACE"
	case base == walDir:
		return "log"
	case strings.HasSuffix(dir, walDir+"/"):
		return "segment"
	case base == checkpointTemporary:
		return "new checkpoint"
	case strings.HasPrefix(base, checkpointPrefix):
		return "checkpoint"
	case strings.Contains(name, "/"+quarantineDir):
		return "quarantine"
	}
	return name
}

// The scripts of the crash tests are not blind: they take every step and make
// every call that can change a disk, on every kind of file, more than once.
func TestCrashScriptsReachEverything(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	calls, steps := make(map[string]int), make(map[string]int)
	var rotations uint64
	for seed := range uint64(60) {
		x := newCrashRun(t, &faultRun{}, seed)
		counted := func(c crashfs.Call) error {
			if c.Op.Mutates() {
				mu.Lock()
				defer mu.Unlock()
				calls[string(c.Op)+" "+crashPlace(c.Name)]++
			}
			return nil
		}
		x.options()
		for life := range 2 {
			x.fs.SetHook(counted)
			require.NoError(t, x.begin())
			x.check()
			for range 60 {
				x.step()
			}
			rotations += x.r.Stats().JournalGeneration
			if life == 0 {
				x.end(seed%2 == 0)
			}
		}
		x.close()
		steps[time.Duration(x.opts.Durability).String()]++
		for _, step := range x.steps {
			word, _, _ := strings.Cut(step, " ")
			steps[word]++
		}
	}
	t.Logf("steps: %v\ncalls: %v", steps, calls)
	for _, durability := range []Durability{Sync, None, Interval(1)} {
		require.Positive(t, steps[time.Duration(durability).String()])
	}
	for _, step := range []string{
		"remember", "forget", "configure", "create", "delete", "rename", "checkpoint", "sleep", "settle", "read",
		"embed",
	} {
		require.Greater(t, steps[step], 100, "step %s", step)
	}
	require.Greater(t, steps["re-embed"], 20)
	require.Greater(t, steps["switch"], 10)
	reached := slices.Sorted(maps.Keys(calls))
	for _, call := range []string{
		"create .reserve", "create HEAD", "create SPACE", "create journal file", "create new checkpoint", "create segment",
		"mkdir .journal", "mkdir .tmp", "mkdir .trash", "mkdir log", "mkdir space",
		"remove checkpoint", "remove segment", "remove tombstone", "remove trash",
		"rename new checkpoint", "rename space",
		"sync HEAD", "sync SPACE", "sync journal file", "sync new checkpoint", "sync segment",
		"syncdir .journal", "syncdir .trash", "syncdir log", "syncdir root", "syncdir space",
		"write HEAD", "write SPACE", "write journal file", "write new checkpoint", "write segment",
	} {
		require.Contains(t, reached, call)
		require.Greater(t, calls[call], 10, "call %s", call)
	}
	require.Greater(t, rotations, uint64(500), "generations of the journal")
}
