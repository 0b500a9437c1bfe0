package engram

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// CheckVerdict sums up a check; the worst of the spaces' is the directory's.
type CheckVerdict string

// The verdicts of a check.
const (
	CheckClean       CheckVerdict = "clean"       // nothing to do
	CheckRecoverable CheckVerdict = "recoverable" // the next writable open completes or cuts a log, losing nothing acknowledged
	CheckCorrupt     CheckVerdict = "corrupt"     // stored data is damaged
)

// CheckReport says what a check of a data directory found.
type CheckReport struct {
	Verdict CheckVerdict `json:"verdict"`
	// Damage of the registry's own files: the last operations of any space may
	// then be missing.
	Damage string       `json:"damage,omitempty"`
	Spaces []SpaceCheck `json:"spaces"`
}

// SpaceCheck says what a check of one space found.
type SpaceCheck struct {
	Space    SpaceID        `json:"space"`
	Verdict  CheckVerdict   `json:"verdict"`
	Recovery RecoveryReport `json:"recovery"`
	// Damage is what was found, with file and byte. The frames of a segment are read in
	// their order, up to the first that is damaged, and so is the log that waking reads:
	// what stands behind that is looked for by [Salvage].
	Damage   []string `json:"damage,omitempty"`
	Memories int64    `json:"memories"` // read and verified
	Bytes    int64    `json:"bytes"`    // of segments and checkpoint, read and verified
}

// ExitCode is 0 for clean, 1 for recoverable, 2 for corrupt.
func (r CheckReport) ExitCode() int {
	switch r.Verdict {
	case CheckClean:
		return 0
	case CheckRecoverable:
		return 1
	default: // a report that says nothing is not clean
		return 2
	}
}

// Check reads every byte that a data directory's spaces need, as far as they are good,
// and changes none. It shares the directory with other readers; a registry that has it
// open for writing is a [LockedError]. The error is for what could not be read; damage
// is in the report.
func Check(ctx context.Context, dir string) (CheckReport, error) {
	r, err := Open(dir, Options{ReadOnly: true})
	if err != nil {
		return CheckReport{}, err
	}
	report, err := r.checkAll(ctx)
	return report, errors.Join(err, r.Close())
}

func (r *Registry) checkAll(ctx context.Context) (CheckReport, error) {
	report := CheckReport{Verdict: CheckClean, Spaces: []SpaceCheck{}}
	if damage := r.journal.damage; damage != nil {
		report.Verdict, report.Damage = CheckCorrupt, damage.Error()
	}
	for id := range r.Spaces("") {
		c, err := r.check(ctx, id)
		if err != nil {
			return CheckReport{}, err
		}
		report.Spaces = append(report.Spaces, c)
		report.Verdict = worse(report.Verdict, c.Verdict)
	}
	return report, nil
}

func worse(a, b CheckVerdict) CheckVerdict {
	order := []CheckVerdict{CheckClean, CheckRecoverable, CheckCorrupt}
	return order[max(slices.Index(order, a), slices.Index(order, b))]
}

// check wakes the space read-only, which verifies checkpoint, mark and log, and
// then reads what waking takes on trust: the segments that the checkpoint lists.
func (r *Registry) check(ctx context.Context, id SpaceID) (SpaceCheck, error) {
	c := SpaceCheck{Space: id, Verdict: CheckClean}
	s, err := r.Get(ctx, id)
	if err != nil {
		return c, err
	}
	a, err := s.use(ctx)
	if errors.Is(err, ErrCorrupt) {
		c.Verdict, c.Damage = CheckCorrupt, []string{err.Error()}
		return c, nil
	}
	if err != nil {
		return c, err
	}
	c.Recovery = a.report
	switch a.report.Verdict {
	case Completed, TornTail:
		c.Verdict = CheckRecoverable
	case Refused:
		c.Damage = append(c.Damage, a.report.Damage)
	}
	if err = a.checkSegments(ctx, &c); err == nil {
		err = a.checkMemories(ctx, &c)
	}
	c.Bytes += a.log.settledState().checkpoint.size
	if len(c.Damage) > 0 {
		c.Verdict = CheckCorrupt
	}
	a.done()
	s.sleep()
	return c, err
}

// checkSegments verifies every frame of the sealed segments.
func (a *awake) checkSegments(ctx context.Context, c *SpaceCheck) error {
	for _, s := range a.log.sealed() {
		if err := ctx.Err(); err != nil {
			return err
		}
		name := segmentPath(s.number)
		file, err := s.open(a.log.dir)
		if err != nil {
			return inSpace(c.Space, damageOrError(err, name))
		}
		b, err := readRange(file, 0, s.end)
		if err != nil {
			return fmt.Errorf("read %s: %w", name, err)
		}
		if at, reason := verifySegment(b, a.identity.key, s.last); reason != "" {
			damage := &CorruptionError{Space: c.Space, File: name, Offset: at, Reason: reason}
			c.Damage = append(c.Damage, damage.Error())
		}
	}
	_, c.Bytes = a.log.size()
	return nil
}

// verifySegment follows the chain of the segment's frames to the last one, and
// returns where and why it breaks; an empty reason says that it does not.
func verifySegment(b []byte, key uint64, want lastFrame) (offset int64, reason string) {
	h, err := decodeSegmentHeader(b)
	if err != nil {
		return 0, "its header is damaged"
	}
	at, sum, last := int64(segmentHeaderBytes), h.prevSum, lastFrame{}
	for b = b[segmentHeaderBytes:]; len(b) > 0; {
		f, n, err := decodeFrame(b, key)
		switch {
		case err != nil:
			return at, "a frame is damaged"
		case f.prev != sum || f.kind != h.kind:
			return at, "a frame does not continue the segment"
		}
		sum, last = f.checksum, lastFrame{offset: at, sum: f.checksum}
		b, at = b[n:], at+int64(n)
	}
	if last != want {
		return want.offset, "does not end with the frame that the checkpoint says"
	}
	return 0, ""
}

// checkMemories reads every memory back.
func (a *awake) checkMemories(ctx context.Context, c *SpaceCheck) error {
	r := a.read()
	defer r.close()
	var failed error
	r.view.scan(&Filter{}, func(d uint32) bool {
		_, err := r.memory(d)
		var damage *CorruptionError
		switch {
		case errors.As(err, &damage):
			c.Damage = append(c.Damage, damage.Error())
		case err != nil:
			failed = err
		default:
			c.Memories++
		}
		if failed == nil {
			failed = ctx.Err()
		}
		return failed == nil
	})
	return failed
}
