package wire

import (
	"reflect"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/engramdb/engram"
)

// TestEveryFieldCrosses fills every field of each type, also those that are
// added to the library later, and sends it over and back.
func TestEveryFieldCrosses(t *testing.T) {
	crosses(t, func(m engram.Memory) (engram.Memory, error) { return ToMemory(FromMemory(&m)) })
	crosses(t, func(r engram.Receipt) (engram.Receipt, error) { return ToReceipt(FromReceipt(r)), nil })
	crosses(t, func(r engram.ForgetReceipt) (engram.ForgetReceipt, error) {
		return ToForgetReceipt(FromForgetReceipt(r)), nil
	})
	crosses(t, func(f engram.Filter) (engram.Filter, error) { return ToFilter(FromFilter(f)) })
	crosses(t, func(a engram.Association) (engram.Association, error) { return ToAssociation(FromAssociation(a)), nil })
	crosses(t, func(c engram.SpaceConfig) (engram.SpaceConfig, error) { return ToConfig(FromConfig(c)), nil })
	crosses(t, func(c engram.Cue) (engram.Cue, error) { return ToCue(FromCue(c)) })
	crosses(t, func(r engram.Recall) (engram.Recall, error) {
		got, err := ToRecall(FromRecall(r))
		require.NotNil(t, got.Recollections)
		if r.Recollections == nil {
			got.Recollections = nil
		}
		return got, err
	})
	crosses(t, func(e engram.Event) (engram.Event, error) { return ToEvent(FromEvent(&e)) })
	crosses(t, func(i engram.SpaceInfo) (engram.SpaceInfo, error) { return ToInfo(FromInfo(i)) })
	crosses(t, func(r engram.VerifyReport) (engram.VerifyReport, error) {
		return ToVerifyReport(FromVerifyReport(r)), nil
	})
	crosses(t, func(s engram.SpaceStats) (engram.SpaceStats, error) { return ToSpaceStats(FromSpaceStats(s)), nil })
	crosses(t, func(s engram.RegistryStats) (engram.RegistryStats, error) {
		return ToRegistryStats(FromRegistryStats(s)), nil
	})
}

func crosses[T any](t *testing.T, over func(T) (T, error)) {
	t.Helper()
	var full T
	n := 0
	fillIn(reflect.ValueOf(&full).Elem(), &n)
	got, err := over(full)
	require.NoError(t, err)
	require.Equal(t, full, got)
	var zero T
	got, err = over(zero)
	require.NoError(t, err)
	require.EqualExportedValues(t, zero, got)
}

// fillIn gives every field a value of its own.
func fillIn(v reflect.Value, n *int) {
	*n++
	switch v.Interface().(type) {
	case time.Time:
		v.Set(reflect.ValueOf(time.Unix(int64(*n), int64(*n)).UTC()))
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for _, field := range v.Fields() {
			fillIn(field, n)
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fillIn(v.Elem(), n)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		fillIn(v.Index(0), n)
		fillIn(v.Index(1), n)
	case reflect.Map:
		v.Set(reflect.ValueOf(map[string]string{"key": "value"}))
	case reflect.String:
		v.SetString(string(rune('a'+*n%26)) + "-text")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(int64(*n))
	case reflect.Uint32, reflect.Uint64:
		v.SetUint(uint64(*n))
	case reflect.Float32, reflect.Float64:
		v.SetFloat(float64(*n))
	case reflect.Func: // none crosses: Cue.Admit is for who recalls in the same process
	default:
		panic("a kind of field that no test fills: " + v.Kind().String())
	}
}

func TestInvalidTimesAreRefused(t *testing.T) {
	for _, message := range []*timestamppb.Timestamp{{Nanos: -1}, timestamppb.New(time.Time{})} {
		_, err := ToTime("time", message)
		var invalid *engram.InvalidError
		require.ErrorAs(t, err, &invalid)
		require.Equal(t, "time", invalid.Field)
		require.ErrorIs(t, err, engram.ErrInvalid)
	}
}
