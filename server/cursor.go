package server

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	"github.com/engramdb/engram"
)

// Layout of a cursor before it is spelt in base64, little endian:
//
//	0       1              17             25     33          41
//	version  incarnation    filter's hash  time   seq of the memory
const (
	cursorVersion = 1
	cursorBytes   = 41
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
	buf := make([]byte, 0, cursorBytes)
	buf = append(buf, cursorVersion)
	incarnation, _ := hex.DecodeString(c.incarnation)
	buf = append(buf, append(incarnation, make([]byte, 16)...)[:16]...)
	buf = append(buf, c.filter[:]...)
	buf = binary.LittleEndian.AppendUint64(buf, uint64(c.time.UnixNano()))
	buf = binary.LittleEndian.AppendUint64(buf, c.seq)
	return base64.RawURLEncoding.EncodeToString(buf)
}

// parseCursor reads a cursor of this listing of this space; any other is refused.
func parseCursor(text, incarnation string, filter [8]byte) (cursor, error) {
	buf, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(buf) != cursorBytes || buf[0] != cursorVersion {
		return cursor{}, refuse(kindCursor, "the cursor is none of this server's")
	}
	c := cursor{
		incarnation: hex.EncodeToString(buf[1:17]),
		filter:      [8]byte(buf[17:25]),
		time:        time.Unix(0, int64(binary.LittleEndian.Uint64(buf[25:]))).UTC(),
		seq:         binary.LittleEndian.Uint64(buf[33:]),
	}
	switch {
	case c.incarnation != incarnation:
		return cursor{}, refuse(kindCursor, "the cursor is none of this space's")
	case c.filter != filter:
		return cursor{}, refuse(kindCursor, "the cursor is that of another filter")
	}
	return c, nil
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
