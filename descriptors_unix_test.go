//go:build unix

package engram

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// scarceChild tells the test binary that it is the child of the test below.
const scarceChild = "ENGRAM_TEST_SCARCE_DIR"

// A process that may open 64 descriptors serves 500 spaces on the real disk, and goes
// on to have some for what else it does.
func TestManySpacesInAProcessWithFewDescriptors(t *testing.T) {
	if dir := os.Getenv(scarceChild); dir != "" {
		serveScarce(t, dir)
		return
	}
	dir := t.TempDir()
	child := exec.Command(os.Args[0], "-test.run=^TestManySpacesInAProcessWithFewDescriptors$")
	child.Env = append(os.Environ(), scarceChild+"="+dir)
	output, err := child.CombinedOutput()
	require.NoError(t, err, string(output))
	r := openIn(t, dir, Options{ReadOnly: true})
	ids := spaceIDs(r, "")
	require.Len(t, ids, scarceSpaces())
	for _, id := range ids {
		require.Len(t, list(t, get(t, r, id), Filter{}), 2, id)
	}
	require.NoError(t, r.Close())
}

// scarceSpaces are many more than there are descriptors, in child and parent.
func scarceSpaces() int {
	if os.Getenv("ENGRAM_SCHEDULES") != "" {
		return 500
	}
	return 80
}

// serveScarce is the child.
func serveScarce(t *testing.T, dir string) {
	var limit syscall.Rlimit
	require.NoError(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit))
	limit.Cur = 64
	require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit))
	r := openIn(t, dir, Options{Durability: None})
	for round := range 2 {
		for i := range scarceSpaces() {
			id := SpaceID(fmt.Sprintf("space-%03d", i))
			s, err := r.GetOrCreate(background, id, SpaceConfig{})
			require.NoError(t, err)
			_, err = s.Remember(background, Memory{ID: fmt.Sprint("m", round), Content: string(id)})
			require.NoError(t, err)
			requireDescriptors(t, 10)
		}
	}
	for i := range scarceSpaces() {
		id := SpaceID(fmt.Sprintf("space-%03d", i))
		m, err := get(t, r, id).Lookup(background, "m0")
		require.NoError(t, err)
		require.Equal(t, string(id), m.Content)
	}
	require.Less(t, r.Stats().Awake, scarceSpaces())
	require.NoError(t, r.Close())
}

// requireDescriptors requires that the process can have so many more.
func requireDescriptors(t *testing.T, n int) {
	t.Helper()
	for range n {
		file, err := os.Open(os.DevNull)
		require.NoError(t, err)
		defer func() { require.NoError(t, file.Close()) }()
	}
}
