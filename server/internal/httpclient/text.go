package httpclient

import (
	"reflect"
	"strings"
	"unicode/utf8"

	"github.com/engramdb/engram"
)

// requireText refuses a body with a string that is not UTF-8: encoding/json would
// send another in its place, which as an id names another memory.
func requireText(body any) error {
	if field := notText("", reflect.ValueOf(body)); field != "" {
		return &engram.InvalidError{Field: field, Reason: "is not valid UTF-8"}
	}
	return nil
}

// notText returns the name of the first field of v that is not UTF-8, "" for none;
// name is that of v itself.
func notText(name string, v reflect.Value) (found string) {
	switch v.Kind() {
	case reflect.String:
		if !utf8.ValidString(v.String()) {
			return name
		}
	case reflect.Interface, reflect.Pointer:
		return notText(name, v.Elem())
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Float32 {
			return "" // an embedding is long
		}
		for i := 0; found == "" && i < v.Len(); i++ {
			found = notText(name, v.Index(i))
		}
	case reflect.Map:
		for entries := v.MapRange(); found == "" && entries.Next(); {
			inside := name
			if name == "" {
				inside = entries.Key().String() // of a body that is a map
			}
			if found = notText(name, entries.Key()); found == "" {
				found = notText(inside, entries.Value())
			}
		}
	case reflect.Struct:
		for i := 0; found == "" && i < v.NumField(); i++ {
			if field := v.Type().Field(i); field.IsExported() {
				inside, _, _ := strings.Cut(field.Tag.Get("json"), ",")
				found = notText(inside, v.Field(i))
			}
		}
	}
	return found
}
