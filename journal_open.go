package engram

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"path"
	"slices"
	"strconv"
	"sync"

	"go.uber.org/zap"

	"github.com/engramdb/engram/internal/vfs"
)

// maxFoundGenerations are left to their spaces when the journal is opened; the
// frames of older ones are carried into the new one.
const maxFoundGenerations = 8

// maxJournalFileBytes bounds what a reader takes for a journal file. Frames
// that are carried may make one longer than Options.JournalBytes.
const maxJournalFileBytes = 4 * maxJournalBytes

// openJournal reads what the journal holds and, unless readOnly, begins a new
// generation: what was accepted but not known durable (it may have been read
// from a cache that never reached the disk) is written there again and flushed
// before anything is served on its word.
//
// A damaged journal opens read-only: its frames are then those that are left,
// and its damage says that others may be missing.
//
// spacesExist tells a new registry from one that lost its HEAD.
func openJournal(root vfs.Dir, opts Options, spaces settler, spacesExist bool) (*journal, error) {
	j := &journal{
		fileBytes: opts.JournalBytes, extentBytes: opts.seams.extentBytes, settleHang: opts.seams.settleHang,
		durability: opts.Durability, spaces: spaces, logger: opts.Logger,
		frames: make(map[incarnation][]frameRef), carried: make(map[incarnation]error),
		hanging: make(map[incarnation]int), unflushed: make(map[*feed]uint64), broken: make(chan struct{}),
	}
	j.changed = sync.NewCond(&j.mu)
	dir, err := root.OpenDir(journalDir)
	if opts.ReadOnly && !spacesExist && errors.Is(err, fs.ErrNotExist) {
		return j, nil // a first opening was cut short: there is nothing to read
	}
	if err != nil {
		if err := j.tolerate(opts.ReadOnly, damageOrError(err, journalDir)); err != nil {
			return nil, err
		}
		j.head.epoch = math.MaxUint32
		return j, nil
	}
	j.dir = dir
	if err := j.open(opts.ReadOnly, spacesExist); err != nil {
		return nil, errors.Join(err, j.close())
	}
	return j, nil
}

func (j *journal) open(readOnly, spacesExist bool) error {
	err := j.tolerate(readOnly, j.readHead(spacesExist))
	if err == nil && j.damage != nil {
		err = j.guessHead()
	}
	if err != nil {
		return err
	}
	found, err := j.openFiles(readOnly)
	if err != nil {
		return err
	}
	unsure, err := j.index(found, readOnly)
	if err != nil || readOnly {
		return err
	}
	return j.begin(unsure)
}

// tolerate keeps damage that does not stop a read-only opening, and returns any
// other error.
func (j *journal) tolerate(readOnly bool, err error) error {
	var damage *CorruptionError
	if !readOnly || !errors.As(err, &damage) {
		return err
	}
	if j.damage == nil {
		j.damage = damage
	}
	return nil
}

// guessHead stands in for a HEAD that is lost: a generation begins with its tag,
// so each file's first bytes say what to look for in it. What is found of a
// generation that has ended does no harm, as its frames are below the marks.
func (j *journal) guessHead() error {
	j.head.epoch = math.MaxUint32
	entries, err := j.dir.ReadDir(".")
	if err != nil {
		return fmt.Errorf("list %s: %w", journalDir, err)
	}
	for _, e := range entries {
		number, err := strconv.ParseUint(e.Name(), 10, 32)
		if err != nil || journalPath(number) != e.Name() || len(j.head.files) == maxHeadFiles {
			continue
		}
		f := headFile{number: number, generation: number}
		b, err := j.readTag(e.Name())
		if err != nil {
			return err
		}
		if copy(f.tag[:], b); f.tag != (generationTag{}) {
			j.head.files = append(j.head.files, f)
		}
	}
	return nil
}

// readTag returns the file's first bytes, nil where it is too short or no file.
func (j *journal) readTag(name string) ([]byte, error) {
	file, err := j.dir.Open(name, false)
	if err != nil {
		return nil, notVerdict(err, name)
	}
	b, err := readRange(file, 0, tagBytes)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = nil
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return nil, fmt.Errorf("read %s: %w", path.Join(journalDir, name), err)
	}
	return b, nil
}

// readHead reads HEAD, or in a new registry makes it.
func (j *journal) readHead(spacesExist bool) error {
	b, err := readFile(j.dir, headName, headBytes)
	missing := errors.Is(err, fs.ErrNotExist)
	if err != nil && !missing && !errors.Is(err, errLength) {
		return damageOrError(err, path.Join(journalDir, headName))
	}
	var slots []head
	for at := 0; at+pageBytes <= len(b); at += pageBytes {
		h, err := decodeHead(b[at:])
		if errors.Is(err, errUnknownVersion) {
			return &VersionError{File: path.Join(journalDir, headName), Version: blockVersion(b[at:])}
		}
		if err == nil {
			slots = append(slots, h)
		}
	}
	if len(slots) > 0 {
		j.head = slices.MaxFunc(slots, func(a, b head) int { return int(int64(a.counter - b.counter)) })
		return nil
	}
	if spacesExist {
		reason := "both slots are damaged, and there are spaces"
		if missing {
			reason = "is missing, and there are spaces"
		}
		return &CorruptionError{File: path.Join(journalDir, headName), Offset: -1, Reason: reason}
	}
	return nil
}

// createHead makes an empty HEAD, which writeHeadLocked then fills, in place of
// what may stand there.
func (j *journal) createHead() error {
	err := removeIfExists(j.dir, headName)
	if err == nil {
		err = writeNewFile(j.dir, headName, zeros[:headBytes])
	}
	if err == nil {
		err = j.dir.Sync(".")
	}
	return err
}

// openFiles opens every file that HEAD lists and returns the generations in
// them, oldest first.
func (j *journal) openFiles(readOnly bool) ([]*generation, error) {
	for _, f := range j.head.files {
		file, err := j.dir.Open(journalPath(f.number), !readOnly)
		if err != nil {
			err = j.tolerate(readOnly, damageOrError(err, journalFilePath(f.number)))
			if err != nil {
				return nil, err
			}
			continue
		}
		size, err := file.Size()
		if err == nil {
			err = j.tolerate(readOnly, j.plausibleSize(f, size))
		}
		if size > maxJournalFileBytes {
			size = j.fileBytes // so much of it is read
		}
		if err != nil {
			return nil, errors.Join(err, file.Close())
		}
		jf := &journalFile{number: f.number, file: file, extent: size, used: size}
		if f.generation == 0 {
			j.free = append(j.free, jf)
			continue
		}
		j.old = append(j.old, &generation{
			number: f.generation, tag: f.tag, file: jf, found: true,
			owed: make(map[incarnation]*owing), named: make(map[incarnation]bool),
		})
	}
	slices.SortFunc(j.old, func(a, b *generation) int { return int(int64(a.number - b.number)) })
	return j.old, nil
}

// plausibleSize refuses a file that cannot be what HEAD says: a generation only
// begins in a file that was made with at least one extent, and none grows
// beyond a journal file with frames carried into it.
func (j *journal) plausibleSize(f headFile, size int64) error {
	name := journalFilePath(f.number)
	switch {
	case size > maxJournalFileBytes:
		return &CorruptionError{File: name, Offset: maxJournalFileBytes, Reason: "is too long"}
	case f.generation != 0 && size < j.extentBytes:
		return &CorruptionError{File: name, Offset: size, Reason: "is shorter than it was made"}
	}
	return nil
}

// index accepts the groups of the generations and files their frames. It
// returns those frames that no promise vouches for, oldest first. A group
// promises of its own generation or an earlier one, so the newest is read first;
// one is in memory at a time, as together they may take gigabytes.
func (j *journal) index(found []*generation, readOnly bool) ([]groupFrame, error) {
	var b []byte
	promised := make(map[uint64]int64) // generation -> offset up to which it was durable
	var unsure []groupFrame
	for _, g := range slices.Backward(found) {
		b = slices.Grow(b[:0], int(g.file.extent))[:g.file.extent]
		if err := readFull(g.file.file, b, 0); err != nil {
			return nil, fmt.Errorf("read %s: %w", journalFilePath(g.file.number), err)
		}
		for _, p := range promises(b, g) {
			promised[p.generation] = max(promised[p.generation], p.offset)
		}
		more, err := j.accept(g, b, promised[g.number])
		if err := j.tolerate(readOnly, err); err != nil {
			return nil, err
		}
		if j.damage != nil {
			j.acceptRest(g, b)
		}
		unsure = append(more, unsure...)
		g.flushed = min(g.end, promised[g.number])
	}
	return unsure, nil
}

// promises returns what the groups in b promise, those behind damage too.
func promises(b []byte, g *generation) []promise {
	var all []promise
	for at, gr := range findGroups(b, g.tag) {
		all = append(all, gr.promise)
		if at%frameAlign != 0 {
			// Groups are aligned: bytes were inserted or lost before this one,
			// which no torn write does.
			all = append(all, promise{generation: g.number, offset: math.MaxInt64})
		}
	}
	return all
}

// accept walks the groups of a generation, whose file holds b, and returns the
// frames above the promised offset. Below it everything must be whole: a damaged
// table is damage of the journal, a damaged frame is damage of its space. Above
// it, the first group that is not whole is the torn end, and all of it is ignored.
func (j *journal) accept(g *generation, b []byte, promised int64) ([]groupFrame, error) {
	var unsure []groupFrame
	for {
		gr, ok := decodeGroup(b[min(g.end, int64(len(b))):], g.tag)
		ok = ok && gr.number == g.groups
		if !ok {
			break
		}
		body := b[g.end:][:min(int64(gr.total), int64(len(b))-g.end)]
		whole := len(body) == gr.total && !slices.ContainsFunc(gr.entries, func(e groupEntry) bool { return !e.intact(body) })
		if !whole && g.end >= promised {
			break
		}
		for _, e := range gr.entries {
			damaged := !e.intact(body)
			j.frames[e.space] = append(j.frames[e.space], frameRef{
				generation: g, offset: g.end + e.offset, entry: e, damaged: damaged,
			})
			g.owe(e.space, e.id, e.lastSeq())
			if g.end >= promised {
				unsure = append(unsure, groupFrame{
					space: e.space, id: e.id, firstSeq: e.firstSeq, count: e.count,
					bytes: bytes.Clone(body[e.offset:][:e.length]),
				})
			}
		}
		g.end += int64(gr.total)
		g.groups++
	}
	if g.end < promised {
		return nil, &CorruptionError{
			File:   journalFilePath(g.file.number),
			Offset: g.end,
			Reason: "a group that was durable is damaged",
		}
	}
	return unsure, nil
}

// acceptRest files the frames of the groups that stand behind damage, wherever
// they are.
func (j *journal) acceptRest(g *generation, b []byte) {
	end := min(g.end, int64(len(b)))
	for at, gr := range findGroups(b[end:], g.tag) {
		at := end + int64(at)
		body := b[at:][:min(int64(gr.total), int64(len(b))-at)]
		for _, e := range gr.entries {
			j.frames[e.space] = append(j.frames[e.space], frameRef{
				generation: g, offset: at + e.offset, entry: e, damaged: !e.intact(body),
			})
		}
	}
}

// walkGroups calls f for each group of the journal file, whose bytes are b, with its
// offset.
func walkGroups(file string, b []byte, tag generationTag, f func(at int64, g group) error) error {
	number := uint64(0)
	for at := int64(0); at < int64(len(b)); number++ {
		g, ok := decodeGroup(b[at:], tag)
		if !ok || g.number != number || at+int64(g.total) > int64(len(b)) {
			return &CorruptionError{File: file, Offset: at, Reason: "a group that was durable is damaged"}
		}
		if err := f(at, g); err != nil {
			return err
		}
		at += int64(g.total)
	}
	return nil
}

// begin starts this opening's first generation. Generations that hold nothing
// end here.
func (j *journal) begin(unsure []groupFrame) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	first := promise{}
	j.old = slices.DeleteFunc(j.old, func(g *generation) bool {
		first = promise{generation: g.number, offset: g.flushed}
		if g.groups == 0 {
			j.free = append(j.free, g.file)
		}
		return g.groups == 0
	})
	if j.head.counter == 0 {
		if err := j.createHead(); err != nil {
			return err
		}
	} else if err := j.writeHeadSlots(j.head.counter, j.head.counter); err != nil {
		// What was read may never have reached the disk, and the other slot, which
		// then is the only one, is written next.
		return err
	}
	j.head.epoch++
	if len(j.free) == 0 {
		if err := j.createFileLocked(); err != nil {
			return err
		}
	}
	g, err := j.beginLocked(slices.Clone(j.old), first)
	if err != nil {
		return err
	}
	j.current = g
	for _, old := range j.old {
		j.logger.Info("journal holds frames that wait for their spaces",
			zap.Uint64("generation", old.number), zap.Int("spaces", len(old.owed)))
	}
	if err := j.carryFramesLocked(unsure); err != nil {
		return err
	}
	// Openings that crash before their spaces settle must not add up.
	for len(j.old) > maxFoundGenerations {
		oldest := j.old[0]
		if err := j.carryLocked(oldest); err != nil {
			return err
		}
		if err := j.releaseLocked(oldest); err != nil {
			return err
		}
	}
	return nil
}

// closeFiles closes what was opened, which nobody uses any more.
func (j *journal) closeFiles() error {
	var errs []error
	for _, g := range j.old {
		errs = append(errs, g.file.file.Close())
	}
	for _, f := range j.free {
		errs = append(errs, f.file.Close())
	}
	if j.current != nil {
		errs = append(errs, j.current.file.file.Close())
	}
	if j.dir != nil {
		errs = append(errs, j.dir.Close())
	}
	return errors.Join(errs...)
}

func randomTag() (generationTag, error) {
	var tag generationTag
	if _, err := io.ReadFull(rand.Reader, tag[:]); err != nil {
		return tag, fmt.Errorf("random tag: %w", err)
	}
	return tag, nil
}
