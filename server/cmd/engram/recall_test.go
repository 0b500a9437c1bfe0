package main

import (
	"reflect"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engramdb/engram"
)

// TestWhyIsWhole: whatever an activation can come from is shown.
func TestWhyIsWhole(t *testing.T) {
	kind := reflect.TypeFor[engram.Why]()
	for i := range kind.NumField() {
		if field := kind.Field(i); field.Type.Kind() == reflect.Float64 {
			var why engram.Why
			reflect.ValueOf(&why).Elem().Field(i).SetFloat(0.5)
			require.Equal(t, strings.ToLower(field.Name)+" 0.500", formatWhy(why))
		}
	}
}
