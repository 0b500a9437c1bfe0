package engram

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/engramdb/engram/internal/vfs"
)

// SPACE holds what a space is and how far it is settled: four pages, of which
// the first and last repeat its identity and the middle two are state slots,
// written in turn. The valid slot with the higher counter holds, so a write
// that is cut short leaves the one before it.
const (
	spaceFile      = "SPACE"
	pageBytes      = 4096
	spaceFileBytes = 4 * pageBytes
	spaceMagic     = "ENGRAMID"
	slotMagic      = "ENGRAMST"
)

// mark says up to where the space's own log is whole and flushed.
type mark struct {
	seq     uint64
	segment uint64
	offset  int64  // in segment, behind the frame that ends with seq
	sum     uint32 // checksum of that frame
}

// checkpointRef names the installed checkpoint; seq 0 means none.
type checkpointRef struct {
	seq     uint64
	segment uint64 // in which the log goes on behind it
	size    int64
	sum     uint32 // of the whole file
}

func (c checkpointRef) name() string { return checkpointName(c.seq, c.segment) }

func checkpointName(seq, segment uint64) string {
	return fmt.Sprintf("%s%d-%d", checkpointPrefix, seq, segment)
}

// spaceState is the content of a state slot.
type spaceState struct {
	counter    uint64
	id         SpaceID
	next       SpaceID // during a rename, the new id
	mark       mark
	checkpoint checkpointRef
	config     SpaceConfig
	dimension  int
	memories   int64 // at the mark, as are the bytes
	bytes      int64
}

// names returns an error unless the state is that of the space of that id: a
// directory that was copied or moved is another's.
func (s *spaceState) names(id SpaceID) error {
	if s.id == id || s.next == id {
		return nil
	}
	return &CorruptionError{File: spaceFile, Offset: pageBytes, Reason: "names another space", Foreign: true}
}

// stateFile is an open space's SPACE. Its methods are not concurrent.
type stateFile struct {
	dir      vfs.Dir
	identity identity
	state    spaceState
	// vouched: this process wrote the state and flushed it. What it has only read
	// may never have reached the disk: nothing may be let go on its word, and the
	// other slot, which then is the only one, must not be touched.
	vouched bool
	// tried says that one behind this one was written in vain: it may stand in the other
	// slot, until that is written again.
	tried bool
}

func randomIdentity() (identity, error) {
	var b [24]byte
	if _, err := rand.Read(b[:]); err != nil {
		return identity{}, fmt.Errorf("random identity: %w", err)
	}
	id := identity{key: binary.LittleEndian.Uint64(b[16:])}
	copy(id.incarnation[:], b[:])
	return id, nil
}

func encodeIdentityPage(id identity) []byte {
	b := make([]byte, 0, pageBytes)
	b = append(b, spaceMagic...)
	b = binary.LittleEndian.AppendUint32(b, formatVersion)
	b = binary.LittleEndian.AppendUint32(b, 0)
	b = appendIdentity(b, id)
	return sealBlock(b[:pageBytes])
}

func decodeIdentityPage(b []byte) (identity, error) {
	if len(b) < pageBytes {
		return identity{}, errBlock
	}
	if err := openBlock(b[:pageBytes], spaceMagic); err != nil {
		return identity{}, err
	}
	return decodeIdentity(b[16:]), nil
}

func encodeSlot(id identity, s spaceState) []byte {
	b := make([]byte, 0, pageBytes)
	b = append(b, slotMagic...)
	b = binary.LittleEndian.AppendUint32(b, formatVersion)
	b = binary.LittleEndian.AppendUint32(b, uint32(s.dimension))
	b = append(b, id.incarnation[:]...)
	b = binary.LittleEndian.AppendUint64(b, s.counter)
	b = binary.LittleEndian.AppendUint64(b, s.mark.seq)
	b = binary.LittleEndian.AppendUint64(b, s.mark.segment)
	b = binary.LittleEndian.AppendUint64(b, uint64(s.mark.offset))
	b = binary.LittleEndian.AppendUint64(b, s.checkpoint.seq)
	b = binary.LittleEndian.AppendUint64(b, s.checkpoint.segment)
	b = binary.LittleEndian.AppendUint64(b, uint64(s.checkpoint.size))
	b = binary.LittleEndian.AppendUint32(b, s.mark.sum)
	b = binary.LittleEndian.AppendUint32(b, s.checkpoint.sum)
	b = binary.LittleEndian.AppendUint64(b, uint64(s.memories))
	b = binary.LittleEndian.AppendUint64(b, uint64(s.bytes))
	b = binary.LittleEndian.AppendUint64(b, uint64(s.config.MaxMemories))
	b = binary.LittleEndian.AppendUint64(b, uint64(s.config.MaxBytes))
	b = binary.LittleEndian.AppendUint64(b, math.Float64bits(s.config.TextK1))
	b = binary.LittleEndian.AppendUint64(b, math.Float64bits(s.config.TextB))
	for _, name := range []SpaceID{s.id, s.next} {
		b = append(b, byte(len(name)))
		b = append(b, name...)
		b = append(b, make([]byte, maxSpaceIDBytes-len(name))...)
	}
	b = binary.LittleEndian.AppendUint32(b, s.config.Analyzer.number())
	b = append(b, byte(s.config.AutoAssociate))
	return sealBlock(b[:pageBytes])
}

func decodeSlot(b []byte, id identity) (spaceState, error) {
	if len(b) < pageBytes {
		return spaceState{}, errBlock
	}
	b = b[:pageBytes]
	if err := openBlock(b, slotMagic); err != nil {
		return spaceState{}, err
	}
	if string(b[16:32]) != string(id.incarnation[:]) {
		return spaceState{}, errForeignSlot
	}
	u64 := func(at int) uint64 { return binary.LittleEndian.Uint64(b[at:]) }
	s := spaceState{
		counter:   u64(32),
		dimension: int(binary.LittleEndian.Uint32(b[12:])),
		mark: mark{
			seq: u64(40), segment: u64(48), offset: int64(u64(56)),
			sum: binary.LittleEndian.Uint32(b[88:]),
		},
		checkpoint: checkpointRef{
			seq: u64(64), segment: u64(72), size: int64(u64(80)),
			sum: binary.LittleEndian.Uint32(b[92:]),
		},
		memories: int64(u64(96)),
		bytes:    int64(u64(104)),
		config: SpaceConfig{
			MaxMemories: int64(u64(112)),
			MaxBytes:    int64(u64(120)),
			TextK1:      math.Float64frombits(u64(128)),
			TextB:       math.Float64frombits(u64(136)),

			AutoAssociate: int(b[150+2*maxSpaceIDBytes]),
		},
	}
	s.id = slotName(b[144:])
	s.next = slotName(b[145+maxSpaceIDBytes:])
	if s.id.Validate() != nil || s.next != "" && s.next.Validate() != nil {
		return spaceState{}, errBlock
	}
	var known bool
	if s.config.Analyzer, known = analyzerOf(binary.LittleEndian.Uint32(b[146+2*maxSpaceIDBytes:])); !known {
		return spaceState{}, errUnknownVersion
	}
	return s, nil
}

func slotName(b []byte) SpaceID {
	return SpaceID(b[1 : 1+min(int(b[0]), maxSpaceIDBytes)])
}

var errForeignSlot = errors.New("state of another space")

// encodeSpaceFile is a new SPACE: the state stands in both slots.
func encodeSpaceFile(id identity, s spaceState) []byte {
	b := make([]byte, 0, spaceFileBytes)
	page := encodeIdentityPage(id)
	b = append(b, page...)
	s.counter = 1
	b = append(b, encodeSlot(id, s)...)
	s.counter = 2
	b = append(b, encodeSlot(id, s)...)
	return append(b, page...)
}

// decodeSpaceFile returns the identity and the newest valid state of SPACE.
// The error is a *CorruptionError or *VersionError without its Space.
func decodeSpaceFile(b []byte) (identity, spaceState, error) {
	damaged := func(offset int64, reason string) error {
		return &CorruptionError{File: spaceFile, Offset: offset, Reason: reason}
	}
	later := func(page int) error {
		return &VersionError{File: spaceFile, Version: blockVersion(b[page*pageBytes:])}
	}
	if len(b) != spaceFileBytes {
		return identity{}, spaceState{}, damaged(int64(min(len(b), spaceFileBytes)), "has the wrong length")
	}
	id, err := decodeIdentityPage(b)
	second, err2 := decodeIdentityPage(b[3*pageBytes:])
	switch {
	case errors.Is(err, errUnknownVersion):
		return identity{}, spaceState{}, later(0)
	case errors.Is(err2, errUnknownVersion):
		return identity{}, spaceState{}, later(3)
	case err != nil && err2 != nil:
		return identity{}, spaceState{}, damaged(0, "both copies of the identity are damaged")
	case err != nil:
		id = second
	case err2 == nil && id != second:
		return identity{}, spaceState{}, damaged(3*pageBytes, "the copies of the identity differ")
	}
	first, err := decodeSlot(b[pageBytes:], id)
	other, err2 := decodeSlot(b[2*pageBytes:], id)
	switch {
	case errors.Is(err, errForeignSlot) || errors.Is(err2, errForeignSlot):
		return id, spaceState{}, damaged(pageBytes, "holds the state of another space")
	case errors.Is(err, errUnknownVersion):
		return id, spaceState{}, later(1)
	case errors.Is(err2, errUnknownVersion):
		return id, spaceState{}, later(2)
	case err != nil && err2 != nil:
		return id, spaceState{}, damaged(pageBytes, "both state slots are damaged")
	case err != nil || err2 == nil && other.counter > first.counter:
		return id, other, nil
	}
	return id, first, nil
}

// readStateFile reads the SPACE of the directory. Damage is a *CorruptionError
// without its Space, anything else that goes wrong says nothing about the space.
func readStateFile(dir vfs.Dir) (*stateFile, error) {
	b, err := readFile(dir, spaceFile, spaceFileBytes)
	if err != nil {
		return nil, damageOrError(err, spaceFile)
	}
	id, state, err := decodeSpaceFile(b)
	if err != nil {
		return nil, err
	}
	return &stateFile{dir: dir, identity: id, state: state}, nil
}

// write makes s the space's state, in the slot that does not hold the present
// one, and returns when it is flushed.
func (f *stateFile) write(s spaceState) error {
	if err := f.vouch(); err != nil {
		return err
	}
	s.counter = f.state.counter + 1
	f.tried = true
	if err := f.writeSlot(s); err != nil {
		return err
	}
	f.state, f.tried = s, false
	return nil
}

// mayHold reports whether SPACE may say this: the present state, or one that was tried.
func (f *stateFile) mayHold(s spaceState) bool {
	return s == f.state || f.tried && s.counter == f.state.counter+1
}

// vouch writes the present state again, where it stands, unless this process
// wrote it. Where it was on the disk before, the same bytes change nothing.
func (f *stateFile) vouch() error {
	if f.vouched {
		return nil
	}
	if err := f.writeSlot(f.state); err != nil {
		return err
	}
	f.vouched = true
	return nil
}

// settledSeq is the seq of the mark, 0 where this process has only read it.
func (f *stateFile) settledSeq() uint64 {
	if !f.vouched {
		return 0
	}
	return f.state.mark.seq
}

// writeSlot writes s to the slot of its counter and flushes it.
func (f *stateFile) writeSlot(s spaceState) error {
	file, err := f.dir.Open(spaceFile, true)
	if err != nil {
		return fmt.Errorf("open %s: %w", spaceFile, err)
	}
	at := int64(pageBytes)
	if s.counter%2 == 0 {
		at += pageBytes
	}
	_, err = file.WriteAt(encodeSlot(f.identity, s), at)
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return diskFull(fmt.Errorf("write %s: %w", spaceFile, err))
	}
	return nil
}
