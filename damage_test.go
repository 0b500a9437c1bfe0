package engram

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// These tests damage a stored registry and read it back. Whatever was done to
// one space's files, each call on it gives exactly the acknowledged answer or an
// error that says that this space is damaged, and the other space does not
// notice: neither in its answers nor in its files. What happens to the
// journal's files is the registry's damage, or no damage to anybody.
//
// What cannot be detected (docs/format.md) is left out: one consistent older
// copy of everything, and the journal's last group where nothing else has it.

// A mutation changes one byte's place in a file.
type mutation struct {
	name  string
	apply func(content []byte, at int) []byte
}

func mutations() []mutation {
	list := []mutation{
		{"truncated", func(b []byte, at int) []byte { return slices.Clone(b[:at]) }},
		{"byte inserted", func(b []byte, at int) []byte { return slices.Insert(slices.Clone(b), at, 0xa5) }},
		{"byte deleted", func(b []byte, at int) []byte { return slices.Delete(slices.Clone(b), at, at+1) }},
		{"byte 0xff", func(b []byte, at int) []byte {
			b = slices.Clone(b)
			b[at] = 0xff
			return b
		}},
	}
	for bit := range 8 {
		list = append(list, mutation{fmt.Sprint("bit ", bit, " flipped"), func(b []byte, at int) []byte {
			b = slices.Clone(b)
			b[at] ^= 1 << bit
			return b
		}})
	}
	return list
}

// offsets returns the bytes of a file that are damaged: every one, but of the
// zeros that a journal file is filled up with some; or a sample of those.
func offsets(content []byte, kind string, every int) []int {
	var all []int
	zeros := 0
	for at, b := range content {
		if b == 0 {
			zeros++
		} else {
			zeros = 0
		}
		if zeros < 32 || zeros%4096 == 64 || damageFull() && kind != "journal file" {
			all = append(all, at)
		}
	}
	step := every
	if !damageFull() {
		step = damageStep(max(len(all)/16, 1))
	}
	var list []int
	for i := step / 2; i < len(all); i += step {
		list = append(list, all[i])
	}
	return list
}

// targets are the files of the damaged space and of the journal.
func (s *storedRegistry) targets() []string {
	var list []string
	for name := range s.fs.files(".") {
		if strings.HasPrefix(name, string(damagedSpace)+"/") || strings.HasPrefix(name, journalDir+"/") {
			list = append(list, name)
		}
	}
	slices.Sort(list)
	return list
}

// victims are the spaces that damage to the file may be felt in.
func (s *storedRegistry) victims(file string) []SpaceID {
	if strings.HasPrefix(file, journalDir) {
		return []SpaceID{damagedSpace, otherSpace}
	}
	return []SpaceID{damagedSpace}
}

func TestDamageBytes(t *testing.T) {
	t.Parallel()
	count := newTally()
	t.Run("cases", func(t *testing.T) {
		for _, s := range []*storedRegistry{closedRegistry(t), killedRegistry(t)} {
			every := 1
			if s.name == "closed" && !damageNightly() {
				every = 3 // it differs from the killed one in little
			}
			for _, file := range s.targets() {
				t.Run(s.name+"/"+file, func(t *testing.T) {
					t.Parallel()
					s.damageBytes(t, file, every, count)
				})
			}
		}
	})
	count.report(t)
}

// judgedEvery is how many of the many cases of a full run there are for each
// that is opened for writing, too. It is prime, so that every way has its turn.
const judgedEvery = 101

func (s *storedRegistry) damageBytes(t *testing.T, file string, every int, count *tally) {
	content, kind := s.fs.files(".")[file], s.kindOf(file)
	all := mutations()
	noticed, cases := 0, 0
	for i, at := range offsets(content, kind, every) {
		ways := all
		if !damageFull() { // every way in its turn
			ways = []mutation{all[i%len(all)], all[(i*5+1)%4]}
		}
		for _, way := range ways {
			damaged := s.fs.clone()
			damaged.put(file, way.apply(content, at))
			what := fmt.Sprintf("%s: %s at %d", file, way.name, at)
			cases++
			var result outcome
			if damageFull() && !damageNightly() && cases%judgedEvery != 0 {
				asked := s.victims(file)
				result = s.glance(t, damaged, what, false, asked[cases%len(asked):][:1], asked)
			} else {
				result = s.judge(t, damaged, what, s.victims(file)...).outcome()
			}
			count.add(kind, result)
			if result != unnoticed {
				noticed++
			}
		}
	}
	switch {
	case s.aboveMark(damagedSpace, file):
		require.Zero(t, noticed, "the journal has what is in this file")
	case !strings.HasPrefix(file, journalDir):
		require.Positive(t, noticed, "no damage of this file was noticed")
	}
}
