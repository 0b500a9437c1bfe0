package engram

import (
	"bytes"
	"fmt"
	"path"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A checkpoint is what was written or it is damage, also where what has changed
// is only what recalls and filters go by.
func TestDamageOfAnyCheckpointByte(t *testing.T) {
	t.Parallel()
	s := closedRegistry(t)
	tried := 0
	for _, file := range s.targets() {
		if !strings.HasPrefix(path.Base(file), checkpointPrefix) {
			continue
		}
		content := s.fs.files(".")[file]
		for at := 0; at < len(content); at += max(len(content)/64, 1) {
			b := bytes.Clone(content)
			b[at] ^= 1 << (at % 8)
			damaged := s.fs.clone()
			damaged.put(file, b)
			v := s.judge(t, damaged, fmt.Sprintf("%s: bit at %d", file, at), damagedSpace)
			require.ErrorIs(t, v.spaces[damagedSpace], ErrCorrupt, "byte %d", at)
			tried++
		}
	}
	require.Positive(t, tried)
}
