package engram

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/engramdb/engram/internal/vfs"
)

// DumpOptions say what is dumped.
type DumpOptions struct {
	// Space whose files are dumped; empty: the registry's journal.
	Space SpaceID
	// Contents adds to each operation the memory that it remembered.
	Contents bool
}

// Kinds of DumpRecord.
const (
	DumpIdentity   = "identity"   // page of SPACE: who the space is
	DumpState      = "state"      // slot of SPACE: how far it is settled
	DumpCheckpoint = "checkpoint" // header of a checkpoint
	DumpSection    = "section"    // of a checkpoint
	DumpSegment    = "segment"    // header of a segment
	DumpFrame      = "frame"      // of a segment, or of a group
	DumpHead       = "head"       // slot of the journal's HEAD
	DumpGroup      = "group"      // of a journal file
	DumpDamage     = "damage"     // bytes that are none of these
)

// DumpRecord is one piece of a file: where it stands, whether its checksum is
// right, and what it says. Fields that its kind does not have are zero.
type DumpRecord struct {
	File   string `json:"file"` // relative to the data directory
	Offset int64  `json:"offset"`
	Length int64  `json:"length"`
	Kind   string `json:"kind"`
	Intact bool   `json:"intact"`

	Space       SpaceID `json:"space,omitempty"`
	Incarnation string  `json:"incarnation,omitempty"`
	// Number counts the pieces of its kind: of a slot the counter, of a segment
	// its number, of a group its place in the generation, of a section its kind.
	Number     uint64          `json:"number,omitempty"`
	Generation uint64          `json:"generation,omitempty"` // of a group
	FirstSeq   uint64          `json:"first_seq,omitempty"`
	Count      uint32          `json:"count,omitempty"` // of operations, frames, sections or files
	Epoch      uint32          `json:"epoch,omitempty"`
	Seq        uint64          `json:"seq,omitempty"`      // of a mark or checkpoint
	Segment    uint64          `json:"segment,omitempty"`  // where the mark is, or the log goes on
	End        int64           `json:"end,omitempty"`      // and its offset there; of a segment, where the one of Follows ends; of a group, the promised one
	Follows    uint64          `json:"follows,omitempty"`  // of a segment: the number of the one before or replaced; of a group: the promised generation
	Checksum   string          `json:"checksum,omitempty"` // of a frame, hexadecimal; of a mark, of the last one before it
	Previous   string          `json:"previous,omitempty"` // of a frame, of the one before it; of a segment, of the last one before it
	Bodies     bool            `json:"bodies,omitempty"`   // of a segment or frame: kind bodies
	Operations []DumpOperation `json:"operations,omitempty"`
}

// DumpOperation is one operation of a frame.
type DumpOperation struct {
	Seq    uint64   `json:"seq"`
	Kind   string   `json:"kind"` // as format.md names it: configure, remember, forget, ...; or unknown
	Intact bool     `json:"intact"`
	IDs    []string `json:"ids,omitempty"`    // of the memories that it names
	Memory *Memory  `json:"memory,omitempty"` // with DumpOptions.Contents
}

// Dump yields the pieces of a space's files, or of the journal's, in the order of
// the files' names and of their places there. It reads what it can of anything
// damaged, and changes no byte. It shares the directory with other readers; a
// registry that has it open for writing is a [LockedError]. An error ends it.
func Dump(ctx context.Context, dir string, opts DumpOptions) iter.Seq2[DumpRecord, error] {
	return func(yield func(DumpRecord, error) bool) {
		d := &dumper{contents: opts.Contents, yield: yield, ctx: ctx}
		if err := d.run(osFS{}, dir, opts.Space); err != nil && !errors.Is(err, errDumpEnds) {
			yield(DumpRecord{}, err)
		}
	}
}

// errDumpEnds says that the reader of a dump has seen enough.
var errDumpEnds = errors.New("dump ends")

type dumper struct {
	ctx      context.Context // of the one call that the dumper serves
	contents bool
	dumped   SpaceID // whose files are; empty: the journal's
	yield    func(DumpRecord, error) bool
	root     vfs.Dir
	identity identity // whose key verifies the frames
}

func (d *dumper) run(system vfs.FS, dir string, space SpaceID) (err error) {
	if space != "" {
		if err := space.Validate(); err != nil {
			return err
		}
	}
	d.root, err = system.OpenDir(dir, false)
	if err != nil {
		return fmt.Errorf("open %s: %w", dir, err)
	}
	defer func() { err = errors.Join(err, d.root.Close()) }()
	lock, holder, err := d.root.Lock(lockFile, true, "")
	if errors.Is(err, vfs.ErrLocked) {
		pid, _ := strconv.Atoi(strings.TrimSpace(holder))
		return &LockedError{Dir: dir, PID: pid}
	}
	if err != nil {
		return fmt.Errorf("lock %s: %w", dir, err)
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	if space == "" {
		return d.journal()
	}
	d.dumped = space
	entries, err := d.root.ReadDir(string(space))
	if errors.Is(err, fs.ErrNotExist) {
		return &SpaceNotFoundError{Space: space}
	}
	if err != nil {
		return fmt.Errorf("list %s: %w", space, err)
	}
	return d.space(string(space), entries)
}

// emit hands one piece to the reader.
func (d *dumper) emit(r DumpRecord) error {
	if err := d.ctx.Err(); err != nil {
		return err
	}
	if !d.yield(r, nil) {
		return errDumpEnds
	}
	return nil
}

// file returns the file's bytes. What is no file of its own is dumped as damage.
func (d *dumper) file(name string, limit int64) ([]byte, error) {
	b, err := readFile(d.root, name, limit)
	if err == nil {
		return b, nil
	}
	if err := notVerdict(err, name); err != nil {
		return nil, err
	}
	return nil, d.emit(DumpRecord{File: name, Kind: DumpDamage})
}

func (d *dumper) space(name string, entries []fs.DirEntry) error {
	if err := d.identify(name); err != nil {
		return err
	}
	for _, e := range entries {
		file := path.Join(name, e.Name())
		var err error
		switch {
		case e.Name() == spaceFile:
			err = d.spaceFile(file)
		case strings.HasPrefix(e.Name(), checkpointPrefix):
			err = d.checkpoint(file)
		case e.Name() == walDir:
			err = d.wal(file)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// identify takes the key from SPACE, or from the first segment that has one.
func (d *dumper) identify(name string) error {
	b, err := readFile(d.root, path.Join(name, spaceFile), spaceFileBytes)
	if unread := notVerdict(err, spaceFile); unread != nil {
		return unread
	}
	for _, at := range []int{0, 3 * pageBytes} {
		if id, err := decodeIdentityPage(b[min(at, len(b)):]); err == nil {
			d.identity = id
			return nil
		}
	}
	entries, err := d.root.ReadDir(path.Join(name, walDir))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, vfs.ErrUnsafe) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list %s: %w", walDir, err)
	}
	for _, e := range entries {
		b, err := readFile(d.root, path.Join(name, walDir, e.Name()), maxSegmentBytes)
		if err := notVerdict(err, e.Name()); err != nil {
			return err
		}
		if h, err := decodeSegmentHeader(b); err == nil {
			d.identity = h.identity
			return nil
		}
	}
	return nil
}

func (d *dumper) spaceFile(name string) error {
	b, err := d.file(name, spaceFileBytes)
	if err != nil {
		return err
	}
	for at := 0; at < len(b); at += pageBytes {
		page := b[at:min(at+pageBytes, len(b))]
		r := DumpRecord{File: name, Offset: int64(at), Length: int64(len(page)), Kind: DumpState}
		if at == 0 || at == 3*pageBytes {
			r.Kind = DumpIdentity
			if id, err := decodeIdentityPage(page); err == nil {
				r.Intact, r.Incarnation = true, id.incarnation.String()
			}
		} else if s, err := decodeSlot(page, d.identity); err == nil {
			r.Intact, r.Space, r.Number = true, s.id, s.counter
			r.Seq, r.Segment, r.End = s.mark.seq, s.mark.segment, s.mark.offset
			r.Checksum = checksumText(s.mark.sum)
		}
		if err := d.emit(r); err != nil {
			return err
		}
	}
	return nil
}

func checksumText(sum uint32) string { return fmt.Sprintf("%08x", sum) }

func (d *dumper) checkpoint(name string) error {
	b, err := d.file(name, maxSegmentBytes)
	if err != nil || b == nil {
		return err
	}
	header := b[:min(checkpointHeaderBytes, len(b))]
	r := DumpRecord{File: name, Length: int64(len(header)), Kind: DumpCheckpoint}
	if len(header) == checkpointHeaderBytes && openBlock(header, checkpointMagic) == nil {
		r.Intact, r.Incarnation = true, decodeIdentity(b[16:]).incarnation.String()
		r.Count = binary.LittleEndian.Uint32(b[12:])
		r.Seq, r.Segment = binary.LittleEndian.Uint64(b[48:]), binary.LittleEndian.Uint64(b[56:])
		r.End = int64(binary.LittleEndian.Uint64(b[64:]))
	}
	if err := d.emit(r); err != nil || !r.Intact {
		return err
	}
	for i := range int(min(r.Count, maxCheckpointSections)) {
		at := checkpointHeaderBytes + i*sectionEntryBytes
		if at+sectionEntryBytes > len(b) {
			return d.emit(DumpRecord{File: name, Offset: int64(at), Kind: DumpDamage})
		}
		kind, body, ok := decodeSectionEntry(b, b[at:])
		s := DumpRecord{File: name, Offset: int64(binary.LittleEndian.Uint64(b[at+8:])), Kind: DumpSection, Number: uint64(kind), Intact: ok}
		s.Length = int64(len(body))
		if err := d.emit(s); err != nil {
			return err
		}
	}
	return nil
}

func (d *dumper) wal(name string) error {
	entries, err := d.root.ReadDir(name)
	if errors.Is(err, vfs.ErrUnsafe) {
		return d.emit(DumpRecord{File: name, Kind: DumpDamage})
	}
	if err != nil {
		return fmt.Errorf("list %s: %w", name, err)
	}
	for _, e := range entries {
		if _, ok := segmentNumber(e.Name()); !ok {
			continue
		}
		if err := d.segment(path.Join(name, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

func (d *dumper) segment(name string) error {
	b, err := d.file(name, maxSegmentBytes)
	if err != nil || b == nil {
		return err
	}
	r := DumpRecord{File: name, Length: int64(min(segmentHeaderBytes, len(b))), Kind: DumpSegment}
	key := d.identity.key
	if h, err := decodeSegmentHeader(b); err == nil {
		r.Intact, r.Incarnation, r.Number = true, h.identity.incarnation.String(), h.number
		r.FirstSeq, r.Follows, r.End, r.Bodies = h.firstSeq, h.prevNumber, h.prevEnd, h.kind == kindBodies
		r.Previous = checksumText(h.prevSum)
		key = h.identity.key
	}
	if err := d.emit(r); err != nil {
		return err
	}
	return d.frames(name, b, int(r.Length), key)
}

// frames dumps the frames of b from there on. Behind damage it looks for the
// next one at every byte, and asks the context wherever one may be.
func (d *dumper) frames(name string, b []byte, at int, key uint64) error {
	damaged := at
	flush := func(to int) error {
		if damaged == to {
			return nil
		}
		return d.emit(DumpRecord{File: name, Offset: int64(damaged), Length: int64(to - damaged), Kind: DumpDamage})
	}
	sums := sumRanges(b)
	for at+frameHeaderBytes <= len(b) {
		if _, ok := looksLikeFrame(b[at:]); !ok {
			at++
			continue
		}
		if err := d.ctx.Err(); err != nil {
			return err
		}
		f, n, err := sums.frame(at, key)
		if err != nil {
			at++
			continue
		}
		if err := flush(at); err != nil {
			return err
		}
		r := d.frame(&f, key, d.dumped)
		r.File, r.Offset, r.Length = name, int64(at), int64(n)
		if err := d.emit(r); err != nil {
			return err
		}
		at += n
		damaged = at
	}
	return flush(len(b))
}

// frame describes an intact frame of the space.
func (d *dumper) frame(f *frame, key uint64, space SpaceID) DumpRecord {
	r := DumpRecord{
		Kind: DumpFrame, Intact: true, FirstSeq: f.firstSeq, Count: f.count, Epoch: f.epoch, Bodies: f.kind == kindBodies,
		Checksum: checksumText(f.checksum), Previous: checksumText(f.prev),
	}
	b := f.payload
	for seq := f.firstSeq; ; seq++ {
		if r.Bodies && len(b) >= 8 {
			seq, b = binary.LittleEndian.Uint64(b), b[8:]
		}
		n, err := splitRecord(b)
		if err != nil {
			return r
		}
		r.Operations = append(r.Operations, d.operation(b[:n], key, seq, space))
		b = b[n:]
	}
}

func (d *dumper) operation(record []byte, key, seq uint64, space SpaceID) DumpOperation {
	names := map[operationKind]string{
		opConfigure: "configure", opRemember: "remember", opForget: "forget", opAssociate: "associate",
		opEmbed: "embed", opEmbedder: "embedder", opReembed: "reembed", opSwitch: "switch", opPartition: "partition",
	}
	o := DumpOperation{Seq: seq, Kind: names[operationKind(record[8])]}
	if o.Kind == "" {
		o.Kind = "unknown"
	}
	op, err := decodeOperation(record, key, seq)
	if err != nil {
		return o
	}
	o.Intact, o.IDs = true, op.ids
	if op.kind == opAssociate {
		o.IDs = []string{op.association.From, op.association.To}
	}
	if op.kind == opEmbed {
		o.IDs = []string{op.memory.ID}
	}
	if op.kind == opRemember {
		o.IDs = []string{op.memory.ID}
		if d.contents {
			op.memory.Space = space
			o.Memory = &op.memory
		}
	}
	return o
}

// journal dumps HEAD, and of each file that it names the groups.
func (d *dumper) journal() error {
	name := path.Join(journalDir, headName)
	b, err := d.file(name, headBytes)
	if err != nil {
		return err
	}
	var newest head
	for at := 0; at < len(b); at += pageBytes {
		slot := b[at:min(at+pageBytes, len(b))]
		r := DumpRecord{File: name, Offset: int64(at), Length: int64(len(slot)), Kind: DumpHead}
		if h, err := decodeHead(slot); err == nil {
			r.Intact, r.Number, r.Epoch, r.Generation, r.Count = true, h.counter, h.epoch, h.generation, uint32(len(h.files))
			if h.counter >= newest.counter {
				newest = h
			}
		}
		if err := d.emit(r); err != nil {
			return err
		}
	}
	slices.SortFunc(newest.files, func(a, b headFile) int { return cmp.Compare(a.number, b.number) })
	for _, f := range newest.files {
		if f.generation == 0 {
			continue
		}
		name := journalFilePath(f.number)
		b, err := d.file(name, maxJournalFileBytes)
		if err != nil {
			return err
		}
		if err := d.groups(name, b, f); err != nil {
			return err
		}
	}
	return nil
}

// groups dumps the groups of a generation, and of each the frames. What stands
// between two groups is damage; behind the last one bytes mean nothing.
func (d *dumper) groups(name string, b []byte, f headFile) error {
	end := 0
	for at, g := range findGroups(b, f.tag) {
		if at > end {
			gap := DumpRecord{File: name, Offset: int64(end), Length: int64(at - end), Kind: DumpDamage, Generation: f.generation}
			if err := d.emit(gap); err != nil {
				return err
			}
		}
		body := b[at:][:min(g.total, len(b)-at)]
		r := DumpRecord{
			File: name, Offset: int64(at), Length: int64(g.total), Kind: DumpGroup, Number: g.number, Generation: f.generation,
			Count: uint32(len(g.entries)), Follows: g.promise.generation, End: g.promise.offset,
			Intact: !slices.ContainsFunc(g.entries, func(e groupEntry) bool { return !e.intact(body) }),
		}
		if err := d.emit(r); err != nil {
			return err
		}
		for i := range g.entries {
			if err := d.groupFrame(name, int64(at), body, &g.entries[i]); err != nil {
				return err
			}
		}
		end = at + len(body)
	}
	return nil
}

// groupFrame dumps a frame of a group. Its operations are read with the key of
// its space, where that is there.
func (d *dumper) groupFrame(name string, at int64, body []byte, e *groupEntry) error {
	r := DumpRecord{Kind: DumpFrame, FirstSeq: e.firstSeq, Count: e.count}
	if e.intact(body) {
		b := body[e.offset:][:e.length]
		file, err := readFile(d.root, path.Join(string(e.id), spaceFile), spaceFileBytes)
		if err := notVerdict(err, spaceFile); err != nil {
			return err
		}
		if id, _, err := decodeSpaceFile(file); err == nil && id.incarnation == e.space {
			if f, _, err := decodeFrame(b, id.key); err == nil {
				r = d.frame(&f, id.key, e.id)
			}
		}
		r.Intact = true
	}
	r.File, r.Offset, r.Length = name, at+e.offset, int64(e.length)
	r.Space, r.Incarnation = e.id, e.space.String()
	return d.emit(r)
}
