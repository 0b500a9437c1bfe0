// Package strictjson reads JSON that leaves no doubt about what was meant. What
// encoding/json lets pass silently is refused here with the place where it
// stands: unknown fields, fields in another case, fields given twice, text that
// is not valid Unicode, nulls inside lists and maps, the zero time, and anything
// that follows the value.
package strictjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"reflect"
	"strconv"
	"time"
	"unicode/utf8"
)

// maxQuotedBytes bounds how much of an unknown key an error repeats.
const maxQuotedBytes = 64

// Error says what is wrong with the input.
type Error struct {
	Path   string // of the value, "memories[3].time"; empty for the input as a whole
	Reason string
	Zero   bool // the value is the zero time, which would say that there is none
}

func (e *Error) Error() string {
	if e.Path == "" {
		return e.Reason
	}
	return e.Path + ": " + e.Reason
}

// Unmarshal stores data in v, a pointer to a struct of structs, slices, maps
// with string keys, strings, booleans and numbers, none of which holds its own
// type. A type that unmarshals itself must be a string in JSON. A null leaves a
// field as it is; one with the tag strictjson:"given" refuses it, and an empty text.
// On an error, always an [Error], what v holds is undefined.
func Unmarshal(data []byte, v any) error { return UnmarshalBounded(data, v, math.MaxInt) }

// UnmarshalBounded is Unmarshal for what strangers send: it decodes nothing of an input
// whose lists and maps have more elements than that, all together. Numbers are not
// counted; any other element may take a hundred times its length once it is decoded.
func UnmarshalBounded(data []byte, v any, elements int) error {
	if !utf8.Valid(data) {
		return &Error{Reason: "is not valid UTF-8"}
	}
	// What is short has no more. Decoding it finds whether it is valid, which is not
	// looked at twice then.
	short := len(data)/len(`{},`) <= elements
	var decoded error
	if short {
		decoded = json.Unmarshal(data, v)
	}
	if !short || decoded != nil {
		if err := syntax(data); err != nil {
			return err
		}
	}
	w := walker{data: data, elements: elements}
	if err := w.value(shapeOf(reflect.TypeOf(v).Elem())); err != nil {
		return err
	}
	if !short {
		decoded = json.Unmarshal(data, v)
	}
	if decoded != nil {
		return unmarshalError(decoded)
	}
	return nil
}

// syntax returns what is wrong with data as JSON text. The walker relies on valid
// data: it looks for no end of the input.
func syntax(data []byte) error {
	if json.Valid(data) {
		return nil
	}
	var discard json.RawMessage
	err := json.Unmarshal(data, &discard)
	var syntaxErr *json.SyntaxError
	if errors.As(err, &syntaxErr) {
		return &Error{Reason: fmt.Sprintf("malformed JSON at byte %d: %s", syntaxErr.Offset, syntaxErr)}
	}
	return &Error{Reason: fmt.Sprintf("malformed JSON: %v", err)}
}

// unmarshalError words what only the conversion finds: numbers out of range.
func unmarshalError(err error) error {
	var typeErr *json.UnmarshalTypeError
	if errors.As(err, &typeErr) {
		return &Error{Reason: fmt.Sprintf("the %s before byte %d does not fit", truncate(typeErr.Value), typeErr.Offset)}
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return &Error{Reason: "ends too early"}
	}
	return &Error{Reason: err.Error()}
}

// step is one element of the path to a value: a key, or an index.
type step struct {
	key     string
	index   int
	isIndex bool
}

// walker compares valid JSON with the type it is meant for. It descends only
// where the type does, so the input cannot make it recurse deeper than the type.
type walker struct {
	data     []byte
	pos      int
	path     []step
	elements int // that may come
}

// value checks the value at pos and leaves pos behind it.
func (w *walker) value(s *shape) error {
	w.skipSpace()
	if w.atNull() {
		if s.given {
			return w.errorf("is null")
		}
		w.pos += len("null")
		return nil
	}
	if got := kindOfJSON(w.data[w.pos]); got != s.kind {
		return w.errorf("must be %s, not %s", s.kind, got)
	}
	switch w.data[w.pos] {
	case '{':
		return w.object(s)
	case '[':
		return w.array(s.elem)
	case '"':
		return w.text(s)
	}
	w.skipScalar()
	return nil
}

func (w *walker) object(s *shape) error {
	seen := map[string]struct{}{}
	w.pos++ // the brace
	for !w.closes('}') {
		key, err := w.key()
		if err != nil {
			return err
		}
		w.path = append(w.path, step{key: key})
		if _, twice := seen[key]; twice {
			return w.errorf("is given twice")
		}
		seen[key] = struct{}{}
		w.skipSpace()
		w.pos++ // the colon
		if err := w.member(s, key); err != nil {
			return err
		}
		w.path = w.path[:len(w.path)-1]
	}
	return nil
}

func (w *walker) member(s *shape, key string) error {
	if s.elem != nil {
		w.skipSpace()
		if w.atNull() {
			return w.errorf("is null")
		}
		if err := w.count(); err != nil {
			return err
		}
		return w.value(s.elem)
	}
	field := s.fields[key]
	if field == nil {
		return w.errorf("unknown field")
	}
	return w.value(field)
}

func (w *walker) array(elem *shape) error {
	w.pos++ // the bracket
	w.path = append(w.path, step{isIndex: true})
	last := len(w.path) - 1
	for ; !w.closes(']'); w.path[last].index++ {
		w.skipSpace()
		if w.atNull() {
			// encoding/json would leave a zero, and what JavaScript writes for
			// NaN is null.
			return w.errorf("is null")
		}
		if err := w.count(); err != nil {
			return err
		}
		if err := w.value(elem); err != nil {
			return err
		}
	}
	w.path = w.path[:last]
	return nil
}

// count counts the element at pos, but for a number.
func (w *walker) count() error {
	if kindOfJSON(w.data[w.pos]) == aNumber {
		return nil
	}
	if w.elements--; w.elements < 0 {
		return w.errorf("is one element more than lists and maps may have together")
	}
	return nil
}

// closes reports whether the object or array ends here, and steps over the
// delimiter or the comma.
func (w *walker) closes(delimiter byte) bool {
	w.skipSpace()
	switch w.data[w.pos] {
	case delimiter:
		w.pos++
		return true
	case ',':
		w.pos++
	}
	return false
}

// key reads the key at pos.
func (w *walker) key() (string, error) {
	w.skipSpace()
	start := w.pos
	if err := w.skipString(); err != nil {
		return "", err
	}
	return w.unquote(start)
}

// text checks a string, with the type's own rules where it has any.
func (w *walker) text(s *shape) error {
	start := w.pos
	if err := w.skipString(); err != nil {
		return err
	}
	if s.given && w.pos-start == len(`""`) {
		return w.errorf("is empty")
	}
	if s.itself == nil {
		return nil
	}
	v := reflect.New(s.itself).Interface()
	if err := json.Unmarshal(w.data[start:w.pos], v); err != nil {
		return w.errorf("%s", truncate(err.Error()))
	}
	if t, ok := v.(*time.Time); ok && t.IsZero() {
		return &Error{Path: pathString(w.path), Reason: "is the zero time, which stands for none", Zero: true}
	}
	return nil
}

func (w *walker) unquote(start int) (string, error) {
	quoted := w.data[start+1 : w.pos-1]
	if bytes.IndexByte(quoted, '\\') < 0 {
		return string(quoted), nil // it is valid, and nothing in it is escaped
	}
	var s string
	if err := json.Unmarshal(w.data[start:w.pos], &s); err != nil {
		return "", w.errorf("malformed string")
	}
	return s, nil
}

// skipString steps over a string and refuses escaped halves of surrogate
// pairs: encoding/json would put another character in their place.
func (w *walker) skipString() error {
	for w.pos++; w.data[w.pos] != '"'; w.pos++ {
		if w.data[w.pos] != '\\' {
			continue
		}
		w.pos++
		if w.data[w.pos] != 'u' {
			continue
		}
		switch unit := w.codeUnit(w.pos - 1); {
		case unit >= 0xDC00 && unit <= 0xDFFF:
			return w.errorf("contains half of a surrogate pair")
		case unit >= 0xD800 && unit <= 0xDBFF:
			if low := w.codeUnit(w.pos + 5); low < 0xDC00 || low > 0xDFFF {
				return w.errorf("contains half of a surrogate pair")
			}
			w.pos += 6
		}
		w.pos += 4
	}
	w.pos++
	return nil
}

// codeUnit returns the value of the \u escape at position at, or 0 if none is there.
func (w *walker) codeUnit(at int) uint64 {
	if at+6 > len(w.data) || w.data[at] != '\\' || w.data[at+1] != 'u' {
		return 0
	}
	unit, err := strconv.ParseUint(string(w.data[at+2:at+6]), 16, 16)
	if err != nil {
		return 0
	}
	return unit
}

func (w *walker) skipSpace() {
	for {
		switch w.data[w.pos] {
		case ' ', '\t', '\r', '\n':
			w.pos++
		default:
			return
		}
	}
}

// skipScalar steps over a number, true or false.
func (w *walker) skipScalar() {
	for ; w.pos < len(w.data); w.pos++ {
		switch w.data[w.pos] {
		case ',', ']', '}', ' ', '\t', '\r', '\n':
			return
		}
	}
}

func (w *walker) atNull() bool { return w.data[w.pos] == 'n' }

func (w *walker) errorf(format string, args ...any) error {
	return &Error{Path: pathString(w.path), Reason: fmt.Sprintf(format, args...)}
}
