package engram

import (
	"math"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Limits of one memory and of one write. They are checked before anything is
// allocated or written; exceeding one is a [LimitError].
const (
	MaxIDBytes        = 256      // of a memory id, and of an episode name
	MaxContentBytes   = 1 << 20  // of a memory's content
	MaxDimension      = 4096     // of an embedding
	MinDimension      = 1        // of an embedding
	MaxAttributes     = 64       // of one memory
	MaxAttributeBytes = 1 << 10  // of one attribute's key, and of its value
	MaxBatch          = 1024     // memories in one RememberBatch
	MaxBatchBytes     = 4 << 20  // of one RememberBatch, encoded
	MaxForgetIDs      = 4096     // ids in one Forget
	MaxRequestIDBytes = 128      // of a RequestID
	maxIDList         = MaxBatch // ids in one cue
)

// DefaultSpace is the space that single-tenant programs use by convention.
const DefaultSpace SpaceID = "default"

// Lengths of a SpaceID in bytes.
const (
	minSpaceIDBytes = 3
	maxSpaceIDBytes = 64
)

// SpaceID names a space: 3 to 64 bytes of a-z, 0-9, '_' and '-', the first a
// letter or digit. Device names of Windows ("con", "nul", "com1", ...) are
// refused on every platform, so that a data directory can be moved.
type SpaceID string

// Validate returns nil, or an error that matches [ErrInvalidSpaceID].
func (id SpaceID) Validate() error {
	if len(id) < minSpaceIDBytes || len(id) > maxSpaceIDBytes {
		return &spaceIDError{"must be 3 to 64 bytes long"}
	}
	for i := range len(id) {
		c := id[i]
		alphanumeric := 'a' <= c && c <= 'z' || '0' <= c && c <= '9'
		if !alphanumeric && (i == 0 || c != '_' && c != '-') {
			return &spaceIDError{"may contain a-z, 0-9, '_' and '-', and starts with a letter or digit"}
		}
	}
	if reservedSpaceID(string(id)) {
		return &spaceIDError{"is a device name on some systems"}
	}
	return nil
}

// reservedSpaceID reports the device names that Windows resolves in any
// directory. Its names of one or two letters are too short to be ids.
func reservedSpaceID(id string) bool {
	switch id {
	case "con", "prn", "aux", "nul":
		return true
	}
	return len(id) == 4 && (strings.HasPrefix(id, "com") || strings.HasPrefix(id, "lpt")) &&
		'0' <= id[3] && id[3] <= '9'
}

// spaceIDError does not repeat the id: it may be megabytes of another encoding.
type spaceIDError struct{ reason string }

func (e *spaceIDError) Error() string { return "space id " + e.reason }

func (e *spaceIDError) Is(target error) bool { return target == ErrInvalidSpaceID }

// Kind says what sort of thing a memory is.
type Kind string

// The kinds of memory.
const (
	Episodic Kind = "episodic" // something that happened; the default
	Semantic Kind = "semantic" // something that is known
)

// Memory is one remembered thing.
type Memory struct {
	// ID is unique within the space, 1 to MaxIDBytes of UTF-8 without control
	// characters. Empty on Remember: the space assigns a time-ordered one that no
	// memory has. Remembering an id that exists replaces that memory.
	ID string `json:"id"`
	// Content is what recall by text searches: UTF-8, at most MaxContentBytes.
	// It may be empty only if there is an Embedding.
	Content string `json:"content"`
	// Time is when it happened; default now. From 1677-09-21T00:12:44Z to
	// 2262-04-11T23:47:16Z, kept to the nanosecond, returned in UTC.
	Time time.Time `json:"time,omitzero"`
	// Episode is the conversation, session or task the memory belongs to, a name
	// like an ID, or empty for none. Neighbours in time within an episode help to
	// recall each other.
	Episode string `json:"episode,omitempty"`
	// Attributes are the caller's own pairs, to filter by: at most MaxAttributes, key
	// and value UTF-8 of at most MaxAttributeBytes each, no key empty.
	Attributes map[string]string `json:"attributes,omitempty"`
	// Embedding is an optional vector of MinDimension to MaxDimension elements,
	// finite and not all zero. The first one remembered fixes the dimension of the
	// space.
	Embedding []float32 `json:"embedding,omitempty"`
	// Confidence in (0,1] is how much the memory is to be believed; 0 means 1.
	Confidence float64 `json:"confidence,omitempty"`
	// Kind is Episodic or Semantic; empty means Episodic.
	Kind Kind `json:"kind,omitempty"`

	// Space is set on everything the library returns. Remembering a memory
	// that carries the id of another space is ErrWrongSpace.
	Space SpaceID `json:"space,omitempty"`
	// Seq is the operation that stored this version. Set by the library.
	Seq uint64 `json:"seq,omitempty"`
	// StoredAt is when this version was stored. Set by the library.
	StoredAt time.Time `json:"stored_at,omitzero"`
}

// Receipt says what a write did.
type Receipt struct {
	ID  string `json:"id"`  // of the memory; empty where a write is about none
	Seq uint64 `json:"seq"` // of the operation
}

// ForgetReceipt says what a Forget or ForgetWhere did.
type ForgetReceipt struct {
	// Seq is the seq of the operation; where none was written, as nothing was there to
	// forget and no option asked for it, it is the space's seq at that moment.
	Seq uint64 `json:"seq"`
	// Forgotten is how many memories were forgotten.
	Forgotten int `json:"forgotten"`
}

// Filter narrows a listing, a recall or a ForgetWhere. Zero fields do not narrow, and
// what no memory can have, as a time out of the range of [Memory].Time, is ErrInvalid
// or ErrLimit.
type Filter struct {
	After      time.Time         `json:"after,omitzero"`       // memories at this time or later
	Before     time.Time         `json:"before,omitzero"`      // memories before this time
	Episode    string            `json:"episode,omitempty"`    // memories of this episode
	Attributes map[string]string `json:"attributes,omitempty"` // memories with all of these pairs
	Kind       Kind              `json:"kind,omitempty"`       // memories of this kind
}

// The whole seconds between which 64 bits hold the nanoseconds since 1970.
var (
	earliestTime = time.Unix(math.MinInt64/int64(time.Second), 0).UTC()
	latestTime   = time.Unix(math.MaxInt64/int64(time.Second), 0).UTC()
)

// validate checks m against the limits and the rules of its fields.
func (m *Memory) validate() error {
	if err := validateMemoryID("id", m.ID, true); err != nil {
		return err
	}
	if len(m.Content) > MaxContentBytes {
		return &LimitError{What: "content bytes", Got: int64(len(m.Content)), Max: MaxContentBytes}
	}
	if !utf8.ValidString(m.Content) {
		return &InvalidError{Field: "content", Reason: "is not valid UTF-8"}
	}
	if m.Content == "" && len(m.Embedding) == 0 {
		return &InvalidError{Field: "content", Reason: "is empty, and there is no embedding either"}
	}
	if err := validateTime("time", m.Time); err != nil {
		return err
	}
	if err := validateName("episode", m.Episode); err != nil {
		return err
	}
	if err := validateAttributes("attributes", m.Attributes); err != nil {
		return err
	}
	if err := validateEmbedding(m.Embedding); err != nil {
		return err
	}
	if !(m.Confidence >= 0 && m.Confidence <= 1) {
		return &InvalidError{Field: "confidence", Reason: "must be greater than 0 and at most 1"}
	}
	return validateKind("kind", m.Kind)
}

// IsZero reports whether f narrows nothing: every memory satisfies it.
func (f Filter) IsZero() bool {
	return f.After.IsZero() && f.Before.IsZero() && f.Episode == "" && len(f.Attributes) == 0 && f.Kind == ""
}

func (f *Filter) validate() error {
	if err := validateTime("filter.after", f.After); err != nil {
		return err
	}
	if err := validateTime("filter.before", f.Before); err != nil {
		return err
	}
	if err := validateName("filter.episode", f.Episode); err != nil {
		return err
	}
	if err := validateAttributes("filter.attributes", f.Attributes); err != nil {
		return err
	}
	return validateKind("filter.kind", f.Kind)
}

func validateMemoryID(field, id string, emptyAllowed bool) error {
	if id == "" {
		if emptyAllowed {
			return nil
		}
		return &InvalidError{Field: field, Reason: "is empty"}
	}
	return validateName(field, id)
}

// validateName holds for ids, episodes and other names: short, and without control
// characters.
func validateName(field, s string) error {
	if len(s) > MaxIDBytes {
		return &LimitError{What: field + " bytes", Got: int64(len(s)), Max: MaxIDBytes}
	}
	if !utf8.ValidString(s) {
		return &InvalidError{Field: field, Reason: "is not valid UTF-8"}
	}
	for _, r := range s {
		if unicode.IsControl(r) {
			return &InvalidError{Field: field, Reason: "contains a control character"}
		}
	}
	return nil
}

func validateTime(field string, t time.Time) error {
	if t.IsZero() {
		return nil
	}
	if t.Before(earliestTime) || t.After(latestTime) {
		return &InvalidError{Field: field, Reason: "must be from 1677-09-21T00:12:44Z to 2262-04-11T23:47:16Z"}
	}
	return nil
}

func validateAttributes(field string, attributes map[string]string) error {
	if len(attributes) > MaxAttributes {
		return &LimitError{What: field, Got: int64(len(attributes)), Max: MaxAttributes}
	}
	// In key order, so that the same input always gives the same error.
	for _, key := range sortedKeys(attributes) {
		value := attributes[key]
		if key == "" {
			return &InvalidError{Field: field, Reason: "has an empty key"}
		}
		if n := max(len(key), len(value)); n > MaxAttributeBytes {
			return &LimitError{What: field + " bytes", Got: int64(n), Max: MaxAttributeBytes}
		}
		if !utf8.ValidString(key) || !utf8.ValidString(value) {
			return &InvalidError{Field: field, Reason: "are not valid UTF-8"}
		}
	}
	return nil
}

// sortedKeys returns the keys in order. Of none, as most often, it allocates nothing.
func sortedKeys(attributes map[string]string) []string {
	keys := make([]string, 0, len(attributes))
	for key := range attributes {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

func validateEmbedding(v []float32) error {
	if len(v) == 0 {
		return nil
	}
	if len(v) > MaxDimension {
		return &LimitError{What: "embedding dimension", Got: int64(len(v)), Max: MaxDimension}
	}
	zero := true
	for _, x := range v {
		if math.IsNaN(float64(x)) || math.IsInf(float64(x), 0) {
			return &InvalidError{Field: "embedding", Reason: "contains NaN or infinity"}
		}
		zero = zero && x == 0
	}
	if zero {
		return &InvalidError{Field: "embedding", Reason: "is the zero vector"}
	}
	return nil
}

func validateKind(field string, k Kind) error {
	switch k {
	case "", Episodic, Semantic:
		return nil
	}
	return &InvalidError{Field: field, Reason: `must be "episodic" or "semantic"`}
}
