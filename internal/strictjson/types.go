package strictjson

import (
	"encoding"
	"encoding/json"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"
)

// What a value is, in words for an error message.
const (
	anObject = "an object"
	anArray  = "an array"
	aString  = "a string"
	aBoolean = "true or false"
	aNumber  = "a number"
	nothing  = "nothing"
)

// kindOfJSON returns what the value that begins with c is.
func kindOfJSON(c byte) string {
	switch c {
	case '{':
		return anObject
	case '[':
		return anArray
	case '"':
		return aString
	case 't', 'f':
		return aBoolean
	}
	return aNumber
}

// shape is what JSON for a type must be.
type shape struct {
	kind   string
	itself reflect.Type      // the type, if it unmarshals itself
	elem   *shape            // of a list or a map
	fields map[string]*shape // of a struct, by their names in JSON
	given  bool              // neither a null nor an empty text
}

// shapes keeps what shapeOf has found, which never changes: looking for it costs more
// than reading most inputs.
var shapes sync.Map // of reflect.Type to *shape

// shapeOf returns the shape of t, of a pointer that of what it points to. Fields of
// embedded structs count as t's own.
func shapeOf(t reflect.Type) *shape {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if found, ok := shapes.Load(t); ok {
		return found.(*shape)
	}
	s := &shape{kind: kindOfType(t)}
	switch {
	case unmarshalsItself(t):
		s.kind, s.itself = aString, t
	case s.kind == anArray || t.Kind() == reflect.Map:
		s.elem = shapeOf(t.Elem())
	case s.kind == anObject:
		s.fields = map[string]*shape{}
		for _, f := range reflect.VisibleFields(t) {
			if name := nameInJSON(f); name != "" {
				field := *shapeOf(f.Type)
				field.given = f.Tag.Get("strictjson") == "given"
				s.fields[name] = &field
			}
		}
	}
	shapes.Store(t, s)
	return s
}

// kindOfType returns what JSON for t must be, unless it unmarshals itself.
func kindOfType(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Struct, reflect.Map:
		return anObject
	case reflect.Slice, reflect.Array:
		return anArray
	case reflect.String:
		return aString
	case reflect.Bool:
		return aBoolean
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64,
		reflect.Float32, reflect.Float64:
		return aNumber
	}
	return nothing
}

func unmarshalsItself(t reflect.Type) bool {
	p := reflect.PointerTo(t)
	return p.Implements(reflect.TypeFor[json.Unmarshaler]()) || p.Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}

// nameInJSON returns the name under which encoding/json knows the field, or ""
// for none of its own: it is left out, or its own fields stand in its place.
func nameInJSON(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	switch {
	case name == "-" || !f.IsExported():
		return ""
	case name != "":
		return name
	case f.Anonymous:
		return ""
	}
	return f.Name
}

// pathString renders a path: memories[3].time. Keys that are no plain names are
// quoted and cut, since they may be anything.
func pathString(path []step) string {
	var b strings.Builder
	for _, s := range path {
		if s.isIndex {
			b.WriteString("[" + strconv.Itoa(s.index) + "]")
			continue
		}
		if b.Len() > 0 {
			b.WriteByte('.')
		}
		b.WriteString(keyString(s.key))
	}
	return b.String()
}

func keyString(key string) string {
	for i := range len(key) {
		c := key[i]
		plain := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_' || c == '-'
		if !plain || i == maxQuotedBytes {
			return strconv.QuoteToASCII(truncate(key))
		}
	}
	return key
}

// truncate cuts s to a length that fits a message, between two characters.
func truncate(s string) string {
	if len(s) <= maxQuotedBytes {
		return s
	}
	cut := maxQuotedBytes
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + "..."
}
