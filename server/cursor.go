package server

import (
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	"github.com/engramdb/engram"
)

// Layout of a cursor before it is spelt in base64, little endian. What follows the hash
// is the place: of a memory in a listing, or of an association among those of a memory,
// whose id is hashed then.
//
//	0       1              17             25     33          41
//	version  incarnation    filter's hash  time   seq of the memory
//
//	0       1              17             25         26              27
//	version  incarnation    memory's hash  direction  length of kind  kind, id of the other memory
const (
	cursorVersion            = 1
	associationCursorVersion = 2

	cursorHeadBytes = 25
	cursorBytes     = 41
)

// cursor is the place of a memory in a listing: the listing goes on behind it,
// whatever was remembered or forgotten meanwhile.
type cursor struct {
	incarnation string // of the space: a space of the same id later is another one
	filter      [8]byte
	time        time.Time
	seq         uint64
}

func (c cursor) String() string {
	buf := appendCursorHead(cursorVersion, c.incarnation, c.filter)
	buf = binary.LittleEndian.AppendUint64(buf, uint64(c.time.UnixNano()))
	buf = binary.LittleEndian.AppendUint64(buf, c.seq)
	return base64.RawURLEncoding.EncodeToString(buf)
}

func appendCursorHead(version byte, incarnation string, hash [8]byte) []byte {
	buf := append(make([]byte, 0, cursorBytes), version)
	decoded, _ := hex.DecodeString(incarnation)
	buf = append(buf, append(decoded, make([]byte, 16)...)[:16]...)
	return append(buf, hash[:]...)
}

// parseCursor reads a cursor of this listing of this space; any other is refused.
func parseCursor(text, incarnation string, filter [8]byte) (cursor, error) {
	c := cursor{incarnation: incarnation, filter: filter}
	place, err := placeOf(text, cursorVersion, incarnation, filter, "filter")
	if err != nil {
		return cursor{}, err
	}
	if len(place) != cursorBytes-cursorHeadBytes {
		return cursor{}, refuseCursor()
	}
	c.time = time.Unix(0, int64(binary.LittleEndian.Uint64(place))).UTC()
	c.seq = binary.LittleEndian.Uint64(place[8:])
	return c, nil
}

// placeOf returns what stands behind the head of a cursor, which must be this one; what
// says of what the hash is.
func placeOf(text string, version byte, incarnation string, hash [8]byte, what string) ([]byte, error) {
	buf, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(buf) < cursorHeadBytes || buf[0] != version {
		return nil, refuseCursor()
	}
	switch {
	case hex.EncodeToString(buf[1:17]) != incarnation:
		return nil, refuse(kindCursor, "the cursor is none of this space's")
	case [8]byte(buf[17:cursorHeadBytes]) != hash:
		return nil, refuse(kindCursor, "the cursor is that of another "+what)
	}
	return buf[cursorHeadBytes:], nil
}

func refuseCursor() error { return refuse(kindCursor, "the cursor is none of this server's") }

// associationCursor is the place of an association among those of a memory, which are
// in this order: those that it has to others, and then those that others have to it,
// each by the id of the other memory and the kind.
type associationCursor struct {
	incoming    bool
	other, kind string
}

func associationCursorOf(id string, a engram.Association) associationCursor {
	if a.To == id {
		return associationCursor{true, a.From, a.Kind}
	}
	return associationCursor{false, a.To, a.Kind}
}

// compare orders two places.
func (c associationCursor) compare(d associationCursor) int {
	if c.incoming != d.incoming {
		if d.incoming {
			return -1
		}
		return 1
	}
	return cmp.Or(cmp.Compare(c.other, d.other), cmp.Compare(c.kind, d.kind))
}

func (c associationCursor) encode(incarnation, id string) string {
	buf := appendCursorHead(associationCursorVersion, incarnation, hashID(id))
	direction := byte(0)
	if c.incoming {
		direction = 1
	}
	buf = append(buf, direction, byte(len(c.kind)))
	buf = append(append(buf, c.kind...), c.other...)
	return base64.RawURLEncoding.EncodeToString(buf)
}

// parseAssociationCursor reads a cursor among the associations of this memory.
func parseAssociationCursor(text, incarnation, id string) (c associationCursor, err error) {
	place, err := placeOf(text, associationCursorVersion, incarnation, hashID(id), "memory")
	if err != nil {
		return c, err
	}
	if len(place) < 2 || place[0] > 1 || len(place) < 2+int(place[1]) {
		return c, refuseCursor()
	}
	names := string(place[2:])
	return associationCursor{place[0] == 1, names[place[1]:], names[:place[1]]}, nil
}

func hashID(id string) [8]byte {
	sum := sha256.Sum256([]byte(id))
	return [8]byte(sum[:8])
}

// hashFilter tells filters apart. Their times count as instants: JSON has no word
// for some of those that the library is yet to refuse.
func hashFilter(f engram.Filter) ([8]byte, error) {
	times := [...]int64{f.After.Unix(), int64(f.After.Nanosecond()), f.Before.Unix(), int64(f.Before.Nanosecond())}
	f.After, f.Before = time.Time{}, time.Time{}
	text, err := json.Marshal(struct {
		engram.Filter
		Times any
	}{f, times})
	if err != nil {
		return [8]byte{}, fmt.Errorf("encode filter: %w", err)
	}
	sum := sha256.Sum256(text)
	return [8]byte(sum[:8]), nil
}
