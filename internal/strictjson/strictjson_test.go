package strictjson

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

type inner struct {
	Text  string            `json:"text"`
	Time  time.Time         `json:"time,omitzero"`
	Pairs map[string]string `json:"pairs,omitempty"`
	Vec   []float32         `json:"vec,omitempty"`
}

type outer struct {
	inner
	Inner

	ID     *string `json:"id"`
	Items  []inner `json:"items"`
	Count  int     `json:"count"`
	Flag   bool    `json:"flag"`
	Hidden string  `json:"-"`
	Plain  uint8

	Given string    `json:"given,omitempty" strictjson:"given"`
	When  time.Time `json:"when,omitzero" strictjson:"given"`
}

// Inner is exported so that encoding/json may set it through the embedding.
type Inner struct {
	Depth float64 `json:"depth"`
}

func TestUnmarshalAccepts(t *testing.T) {
	id := "x"
	moment := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	cases := map[string]struct {
		in   string
		want outer
	}{
		"empty object":     {"{}", outer{}},
		"null":             {" null ", outer{}},
		"null fields":      {`{"id":null,"items":null,"count":null,"flag":null}`, outer{}},
		"pointer":          {`{"id":"x"}`, outer{ID: &id}},
		"scalars":          {"{\"count\" : -3 ,\n\"flag\":true,\t\"Plain\":255}", outer{Count: -3, Flag: true, Plain: 255}},
		"given":            {`{"given":" ","when":"2026-01-02T03:04:05Z"}`, outer{Given: " ", When: moment}},
		"embedded":         {`{"depth":1.5e2}`, outer{Inner: Inner{Depth: 150}}},
		"nested":           {`{"items":[{"text":"a"},{"text":"b","vec":[1,-2.5]}]}`, outer{Items: []inner{{Text: "a"}, {Text: "b", Vec: []float32{1, -2.5}}}}},
		"empty containers": {`{"items":[ ]}`, outer{Items: []inner{}}},
		"map keys differ in case": {
			`{"items":[{"pairs":{"a":"1","A":"2","":"3"}}]}`,
			outer{Items: []inner{{Pairs: map[string]string{"a": "1", "A": "2", "": "3"}}}},
		},
		"time":           {`{"items":[{"time":"2026-01-02T03:04:05Z"}]}`, outer{Items: []inner{{Time: moment}}}},
		"escapes":        {`{"id":"\u0078"}`, outer{ID: &id}},
		"escaped key":    {`{"\u0069d":"x"}`, outer{ID: &id}},
		"surrogate pair": {`{"items":[{"text":"\ud83d\ude00 \"\\ \ud83d\ude00"}]}`, outer{Items: []inner{{Text: "😀 \"\\ 😀"}}}},
		"escaped slash":  {`{"items":[{"text":"\\ud83d"}]}`, outer{Items: []inner{{Text: `\ud83d`}}}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			var got outer
			require.NoError(t, Unmarshal([]byte(c.in), &got))
			require.Equal(t, c.want, got)
		})
	}
}

func TestUnmarshalRefuses(t *testing.T) {
	long := strings.Repeat("k", 500)
	cases := map[string]struct{ in, path string }{
		"nothing":                 {"", ""},
		"only space":              {"  ", ""},
		"truncated":               {`{"count":1`, ""},
		"trailing value":          {`{} {}`, ""},
		"trailing text":           {`{}x`, ""},
		"array":                   {`[]`, ""},
		"number":                  {`1`, ""},
		"invalid UTF-8":           {"{\"id\":\"\xff\"}", ""},
		"null for a given text":   {`{"given":null}`, "given"},
		"null for a given time":   {`{"when": null}`, "when"},
		"empty given text":        {`{"given":""}`, "given"},
		"unknown field":           {`{"nope":1}`, "nope"},
		"unknown nested field":    {`{"items":[{},{"txet":"a"}]}`, "items[1].txet"},
		"other case":              {`{"Count":1}`, "Count"},
		"hidden field":            {`{"Hidden":"x"}`, "Hidden"},
		"unexported embedding":    {`{"inner":{}}`, "inner"},
		"given twice":             {`{"count":1,"count":1}`, "count"},
		"given twice, escaped":    {`{"count":1,"c\u006funt":1}`, "count"},
		"given twice in a map":    {`{"items":[{"pairs":{"a b":"1","a b":"1"}}]}`, `items[0].pairs."a b"`},
		"null item":               {`{"items":[null]}`, "items[0]"},
		"null number":             {`{"items":[{"vec":[1,null]}]}`, "items[0].vec[1]"},
		"null map value":          {`{"items":[{"pairs":{"a":null}}]}`, "items[0].pairs.a"},
		"string for number":       {`{"count":"1"}`, "count"},
		"number for string":       {`{"id":1}`, "id"},
		"object for list":         {`{"items":{}}`, "items"},
		"list for map":            {`{"items":[{"pairs":[]}]}`, "items[0].pairs"},
		"number for boolean":      {`{"flag":1}`, "flag"},
		"number for time":         {`{"items":[{"time":1}]}`, "items[0].time"},
		"malformed time":          {`{"items":[{"time":"yesterday"}]}`, "items[0].time"},
		"zero time":               {`{"items":[{"time":"0001-01-01T00:00:00Z"}]}`, "items[0].time"},
		"zero time elsewhere":     {`{"items":[{"time":"0001-01-01T01:00:00+01:00"}]}`, "items[0].time"},
		"fraction for an integer": {`{"count":1.5}`, ""},
		"out of range":            {`{"items":[{"vec":[1e39]}]}`, ""},
		"high surrogate":          {`{"id":"\ud83d"}`, "id"},
		"high surrogate, then x":  {`{"id":"\ud83dx\ude00"}`, "id"},
		"two high surrogates":     {`{"id":"\ud83d\ud83d"}`, "id"},
		"low surrogate":           {`{"id":"\ude00"}`, "id"},
		"surrogate in a key":      {`{"items":[{"pairs":{"\ude00":"x"}}]}`, "items[0].pairs"},
		"long key":                {`{"` + long + `":1}`, `"` + long[:maxQuotedBytes] + `..."`},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			err := Unmarshal([]byte(c.in), new(outer))
			var refusal *Error
			require.ErrorAs(t, err, &refusal)
			require.Equal(t, c.path, refusal.Path, refusal.Reason)
			require.NotEmpty(t, refusal.Reason)
			require.Less(t, len(err.Error()), 300)
		})
	}
}

// TestElementsAreBounded: what has too many is refused before it takes memory.
func TestElementsAreBounded(t *testing.T) {
	const most = 10
	for name, c := range map[string]struct {
		in       string
		path     string // of what is one too many
		elements int
	}{
		"objects in a list": {`{"items":[{}` + strings.Repeat(",{}", most) + `]}`, "items[10]", most},
		"members of a map":  {`{"items":[{"pairs":{"a":"","b":""}},{"pairs":{"a":"","b":""}}]}`, "items[1].pairs.b", 5},
	} {
		t.Run(name, func(t *testing.T) {
			var got outer
			require.NoError(t, UnmarshalBounded([]byte(c.in), &got, c.elements+1))
			require.NotEmpty(t, got.Items)
			require.NoError(t, Unmarshal([]byte(c.in), &got))
			got = outer{}
			var refusal *Error
			require.ErrorAs(t, UnmarshalBounded([]byte(c.in), &got, c.elements), &refusal)
			require.Equal(t, c.path, refusal.Path)
			require.Nil(t, got.Items, "nothing of it is decoded")
		})
	}
	var numbers outer
	require.NoError(t, UnmarshalBounded([]byte(`{"items":[{"vec":[1,2,-3,4,5,6,7,8,9]}]}`), &numbers, 1))
}

// FuzzUnmarshal: what is accepted is accepted by encoding/json with the same
// result, survives a round trip, and nothing panics.
func FuzzUnmarshal(f *testing.F) {
	f.Fuzz(func(t *testing.T, data []byte) {
		var strict outer
		if err := Unmarshal(data, &strict); err != nil {
			var refusal *Error
			require.ErrorAs(t, err, &refusal)
			return
		}
		var lax outer
		require.NoError(t, json.Unmarshal(data, &lax))
		require.Equal(t, lax, strict)
		again, err := json.Marshal(strict)
		require.NoError(t, err)
		var back outer
		require.NoError(t, Unmarshal(again, &back))
	})
}
