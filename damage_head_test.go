package engram

import (
	"bytes"
	"fmt"
	"path"
	"testing"

	"github.com/stretchr/testify/require"
)

// Either slot of HEAD alone names every generation: a generation that only one
// of them named would be lost with it, and nobody would know.
func TestDamageHeadSlot(t *testing.T) {
	for slot := range 2 {
		m := newMemoryFS()
		r := openMemory(t, m, Options{})
		s := create(t, r, "alpha")
		for i := range 4 {
			remember(t, s, Memory{ID: fmt.Sprint("m", i), Content: "acknowledged"})
			if i < 3 {
				require.NoError(t, r.Settle(background)) // the next one is in another generation
			}
		}
		killed := m.clone()
		require.NoError(t, r.Close())

		name := path.Join(journalDir, headName)
		b := bytes.Clone(killed.files(".")[name])
		b[slot*pageBytes+pageBytes/2] ^= 1
		killed.put(name, b)
		r = openMemory(t, killed, Options{})
		require.Equal(t, []string{"m0", "m1", "m2", "m3"}, idsOf(list(t, get(t, r, "alpha"), Filter{})), "slot %d", slot)
		require.NoError(t, r.Close())
	}
}

// What stands in the place of HEAD in a registry without spaces is replaced: the
// next opening reads what this one wrote.
func TestDamageHeadOfAnEmptyRegistry(t *testing.T) {
	for _, length := range []int{0, 1, headBytes - 1, headBytes, headBytes + 1} {
		m := newMemoryFS()
		require.NoError(t, openMemory(t, m, Options{}).Close())
		m.put(journalDir+"/"+headName, bytes.Repeat([]byte{0xee}, length))
		r := openMemory(t, m, Options{})
		remember(t, create(t, r, "aaa"), Memory{ID: "m", Content: "content"})
		require.NoError(t, r.Close())
		r = openMemory(t, m, Options{})
		require.Equal(t, []string{"m"}, idsOf(list(t, get(t, r, "aaa"), Filter{})), "%d bytes", length)
		require.NoError(t, r.Close())
	}
}
