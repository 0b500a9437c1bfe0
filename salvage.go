package engram

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"
)

// SalvageReport says what a salvage saved of a data directory, and what is lost.
type SalvageReport struct {
	// Damage of the registry's own files: the last operations of any space may
	// be lost.
	Damage string         `json:"damage,omitempty"`
	Spaces []SpaceSalvage `json:"spaces"`
}

// SpaceSalvage says what a salvage saved of one space.
type SpaceSalvage struct {
	Space SpaceID `json:"space"`
	Saved int64   `json:"saved"` // memories that the new space holds
	// Failed is why nothing of the space could be identified; there is no new
	// space of this id then.
	Failed string   `json:"failed,omitempty"`
	Damage []string `json:"damage,omitempty"` // what was found, with file and byte

	Unreadable []string   `json:"unreadable,omitempty"` // ids of memories that are lost
	Missing    []SeqRange `json:"missing,omitempty"`    // operations that are lost, whatever they did
	// OpenEnd: operations behind LastSeq may be lost, as what said where the
	// space ends is damaged.
	OpenEnd bool `json:"open_end,omitempty"`
	// Returned: memories that had been forgotten or replaced may be back, and
	// associations gone, as the checkpoint, which said so, is lost.
	Returned bool   `json:"returned,omitempty"`
	LastSeq  uint64 `json:"last_seq"` // of the last operation that was read
}

// SeqRange is a range of operations, both ends included.
type SeqRange struct {
	First uint64 `json:"first"`
	Last  uint64 `json:"last"`
}

// Whole reports whether everything that the space held was saved.
func (s SpaceSalvage) Whole() bool {
	return s.Failed == "" && len(s.Unreadable) == 0 && len(s.Missing) == 0 && !s.OpenEnd && !s.Returned
}

// ExitCode is 0 where everything was saved, 1 where something is lost, 2 where
// no space could be saved.
func (r SalvageReport) ExitCode() int {
	code, saved := 0, 0
	for _, s := range r.Spaces {
		if !s.Whole() {
			code = 1
		}
		if s.Failed == "" {
			saved++
		}
	}
	if saved == 0 && (len(r.Spaces) > 0 || r.Damage != "") {
		return 2
	}
	return code
}

// Salvage copies what can be read of a data directory, damaged or not, into a
// new one, which it makes in out and which must not exist or be empty. Of the
// spaces named, or of all, it copies the configuration and each memory that
// verifies: with its id, times, episode, attributes, embedding, confidence and
// kind, also from behind damage, and the associations between those. The new spaces
// are new incarnations: their seqs begin anew, request ids and events are not taken
// over. dir is not changed.
//
// It shares dir with other readers; a registry that has it open for writing is
// a [LockedError]. What is lost is in the report; the error is for a directory
// that could not be read or written at all, and leaves in out what was copied, or
// for a named space that is not there: then nothing is copied.
func Salvage(ctx context.Context, dir, out string, spaces ...SpaceID) (SalvageReport, error) {
	if err := checkSalvageTarget(dir, out); err != nil {
		return SalvageReport{}, err
	}
	from, err := Open(dir, Options{ReadOnly: true})
	if err != nil {
		return SalvageReport{}, err
	}
	report, err := salvageInto(ctx, from, out, spaces)
	return report, errors.Join(err, from.Close())
}

// checkSalvageTarget refuses a target in which, or around which, there is
// something already.
func checkSalvageTarget(dir, out string) error {
	source, err := filepath.Abs(dir)
	if err != nil {
		return fmt.Errorf("salvage %s: %w", dir, err)
	}
	target, err := filepath.Abs(out)
	if err != nil {
		return fmt.Errorf("salvage into %s: %w", out, err)
	}
	inside, err := filepath.Rel(source, target)
	if err == nil && filepath.IsLocal(inside) {
		return &InvalidError{Field: "out", Reason: "lies in the directory that is salvaged"}
	}
	opened, err := osFS{}.OpenDir(out, false)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("salvage into %s: %w", out, err)
	}
	entries, err := opened.ReadDir(".")
	if err = errors.Join(err, opened.Close()); err != nil {
		return fmt.Errorf("salvage into %s: %w", out, err)
	}
	if len(entries) > 0 {
		return &InvalidError{Field: "out", Reason: "is not empty"}
	}
	return nil
}

func salvageInto(ctx context.Context, from *Registry, out string, spaces []SpaceID) (SalvageReport, error) {
	for _, id := range spaces { // before anything is made in out
		if _, err := from.Get(ctx, id); err != nil {
			return SalvageReport{}, fmt.Errorf("salvage space %q: %w", string(id), err)
		}
	}
	clock := new(salvageClock)
	// Close settles what was copied; until then a crash leaves nothing to trust.
	to, err := Open(out, Options{Durability: None, Clock: clock})
	if err != nil {
		return SalvageReport{}, err
	}
	report, err := salvage(ctx, from, to, clock, spaces)
	return report, errors.Join(err, to.Close())
}

// salvageClock stamps a memory with when it was stored first.
type salvageClock struct{ stored atomic.Pointer[time.Time] }

// Now implements Clock.
func (c *salvageClock) Now() time.Time {
	if stored := c.stored.Load(); stored != nil {
		return *stored
	}
	return systemClock{}.Now()
}

func salvage(ctx context.Context, from, to *Registry, clock *salvageClock, spaces []SpaceID) (SalvageReport, error) {
	report := SalvageReport{Spaces: []SpaceSalvage{}}
	if damage := from.journal.damage; damage != nil {
		report.Damage = damage.Error()
	}
	if len(spaces) == 0 {
		spaces = slices.Collect(from.Spaces(""))
	}
	done := make(map[SpaceID]bool)
	for _, id := range spaces {
		if done[id] {
			continue // it is named twice
		}
		done[id] = true
		s := SpaceSalvage{Space: id}
		source, err := from.salvageable(ctx, id, &s)
		switch {
		case errors.Is(err, ErrCorrupt) || errors.Is(err, ErrVersion):
			s.Failed = err.Error()
		case err != nil:
			return report, fmt.Errorf("salvage space %q: %w", string(id), err)
		default:
			err = errors.Join(copySalvaged(ctx, source, to, clock, &s), source.close())
			if err != nil {
				return report, fmt.Errorf("salvage space %q: %w", string(id), err)
			}
		}
		report.Spaces = append(report.Spaces, s)
	}
	return report, nil
}

// salvageSource is what a space's memories are copied from.
type salvageSource interface {
	config() SpaceConfig
	living() []uint32 // documents in the order in which they were stored
	id(d uint32) string
	// memory returns nil where the document's record is lost.
	memory(d uint32) (*Memory, error)
	// associations returns those of the memory of that id, in both directions.
	associations(id string) []Association
	close() error
}

// salvageable checks the space and returns what can be read of it. Damage that
// leaves nothing to read is a *CorruptionError.
func (r *Registry) salvageable(ctx context.Context, id SpaceID, s *SpaceSalvage) (salvageSource, error) {
	c, err := r.check(ctx, id)
	if err != nil {
		return nil, err
	}
	s.Damage, s.LastSeq = c.Damage, c.Recovery.LastSeq
	space, err := r.Get(ctx, id)
	if err != nil {
		return nil, err
	}
	a, err := space.use(ctx)
	if err != nil {
		return nil, err
	}
	if a.damage == nil {
		return soundSpace{a.read()}, nil
	}
	a.done()
	return r.openWreck(ctx, id, s)
}

// soundSpace is a space whose indexes are whole. Records may be damaged.
type soundSpace struct{ *reader }

func (s soundSpace) config() SpaceConfig { return s.view.config }

func (s soundSpace) living() []uint32 { return s.view.living() }

func (s soundSpace) id(d uint32) string { return string(s.view.id(d)) }

func (s soundSpace) memory(d uint32) (*Memory, error) {
	m, err := s.reader.memory(d)
	if errors.Is(err, ErrCorrupt) {
		return nil, nil
	}
	return &m, err
}

func (s soundSpace) associations(id string) []Association { return s.view.graph.associations(id) }

func (s soundSpace) close() error {
	s.reader.close()
	s.awake.done()
	s.awake.space.sleep()
	return nil
}

// copySalvaged makes the new space and gives it what is left of the old one.
func copySalvaged(ctx context.Context, from salvageSource, to *Registry, clock *salvageClock, s *SpaceSalvage) error {
	space, err := to.Create(ctx, s.Space, SpaceConfig{Analyzer: from.config().Analyzer}) // its quotas may be lower than what it has
	if err != nil {
		return err
	}
	defer clock.stored.Store(nil)
	saved := make(map[string]bool)
	for _, d := range from.living() {
		m, err := from.memory(d)
		if err != nil {
			return err
		}
		if m == nil {
			s.Unreadable = append(s.Unreadable, from.id(d))
			continue
		}
		clock.stored.Store(&m.StoredAt)
		m.Space = ""
		if _, err := space.Remember(ctx, *m); err != nil {
			return err
		}
		saved[m.ID] = true
		s.Saved++
	}
	clock.stored.Store(nil)
	for _, id := range slices.Sorted(maps.Keys(saved)) {
		for _, association := range from.associations(id) {
			if association.From != id || !saved[association.To] {
				continue
			}
			// One that is beyond a limit has come where one that was removed is back.
			if _, err := space.Associate(ctx, association); err != nil && !errors.Is(err, ErrLimit) {
				return err
			}
		}
	}
	_, err = space.Configure(ctx, from.config())
	return err
}
