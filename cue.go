package engram

import (
	"unicode/utf8"
)

// Limits of one recall.
const (
	MaxCueTextBytes = 64 << 10 // of Cue.Text
	MaxLimit        = 1000     // recollections of one recall
	DefaultLimit    = 10       // where Cue.Limit is 0
)

// Cue is what a recall is asked with. Text, Embedding and IDs may be combined;
// a cue with none of them returns the newest memories that satisfy the filter.
type Cue struct {
	Text          string    `json:"text,omitempty"`           // at most MaxCueTextBytes of UTF-8
	Embedding     []float32 `json:"embedding,omitempty"`      // of the space's dimension, finite, not zero
	IDs           []string  `json:"ids,omitempty"`            // these memories, at most MaxBatch, and what they bring to mind; unknown ids bring nothing
	Filter        Filter    `json:"filter,omitzero"`          // only these memories are recalled
	Limit         int       `json:"limit,omitempty"`          // 1 to MaxLimit; 0 means DefaultLimit
	MinActivation float64   `json:"min_activation,omitempty"` // in [0,1]: weaker recollections are left out
	Spread        Spread    `json:"spread,omitzero"`          // how far activation spreads over associations

	// Admit is told how many bytes the memories of the answer take, as they are stored,
	// before the answer is made of them; its error is the recall's. A thousand memories
	// may have a GiB. It is called by the goroutine of the recall, once at most, and must
	// not use the space. Default none.
	Admit func(bytes int64) error `json:"-"`
}

// Recall is the answer to a cue.
type Recall struct {
	// Recollections, the most activated first. Equal activations are ordered by
	// Seq, the newer first; those of a cue that is only a filter by Time, newest first.
	Recollections []Recollection `json:"recollections"`
	// Seq of the snapshot that was asked: every operation up to it is seen, none after it.
	Seq  uint64 `json:"seq"`
	Plan Plan   `json:"plan"`
}

// Plan says how a recall was answered.
type Plan struct {
	// Terms are the distinct terms that the cue's text was analyzed into, in
	// order of appearance.
	Terms []string `json:"terms,omitempty"`
	// Scanned is how many memories the text matches, by themselves or by their
	// episode, and how many embeddings were compared in full; of a cue that is only a
	// filter, how many are returned.
	Scanned int `json:"scanned"`
	// Degraded says why the cue's text was not, or not fully, compared by meaning,
	// and Unembedded how many memories have no vector then.
	Degraded   Degradation `json:"degraded,omitempty"`
	Unembedded int64       `json:"unembedded,omitempty"`
	// Spread says what spreading over associations did; zero where there are none.
	Spread Spreading `json:"spread,omitzero"`
}

// Recollection is one answer.
type Recollection struct {
	Memory Memory `json:"memory"`
	// Activation in [0,1] is how strongly the cue brings this memory to mind.
	// It is the sum of the shares in Why, or 1 where that is more.
	Activation float64 `json:"activation"`
	// Confidence in [0,1] is the memory's own confidence times the probability
	// that it answers the cue, provided that something in the space does: how far
	// it stands out from the others.
	Confidence float64 `json:"confidence"`
	Why        Why     `json:"why"`
}

// Why splits an activation into where it came from.
type Why struct {
	Cued       float64 `json:"cued,omitempty"`       // the cue names this memory by its id
	Text       float64 `json:"text,omitempty"`       // its own words match
	Vector     float64 `json:"vector,omitempty"`     // its own embedding is near
	Contiguity float64 `json:"contiguity,omitempty"` // its neighbours in the episode match
	Episode    float64 `json:"episode,omitempty"`    // its episode as a whole matches
	Label      float64 `json:"label,omitempty"`      // the cue names who or what it is labelled with ("Ann: ...")
	Time       float64 `json:"time,omitempty"`       // it is near one of the first 32 dates that the cue names, or tells when, where or who as the cue asks
	Feedback   float64 `json:"feedback,omitempty"`   // it shares words with the best matches
	// Association: others that match, or are activated themselves, have
	// associations to it. Path are the ids of the memories over which the most of
	// it came, from one that matches the cue to this one.
	Association float64  `json:"association,omitempty"`
	Path        []string `json:"path,omitempty"`
	Filter      float64  `json:"filter,omitempty"` // the cue is nothing but a filter, which it satisfies
}

func (c *Cue) validate() error {
	if len(c.Text) > MaxCueTextBytes {
		return &LimitError{What: "cue text bytes", Got: int64(len(c.Text)), Max: MaxCueTextBytes}
	}
	if !utf8.ValidString(c.Text) {
		return &InvalidError{Field: "text", Reason: "is not valid UTF-8"}
	}
	if err := validateEmbedding(c.Embedding); err != nil {
		return err
	}
	if len(c.IDs) > maxIDList {
		return &LimitError{What: "cue ids", Got: int64(len(c.IDs)), Max: maxIDList}
	}
	for _, id := range c.IDs {
		if err := validateMemoryID("ids", id, false); err != nil {
			return err
		}
	}
	if c.Limit < 0 {
		return &InvalidError{Field: "limit", Reason: "is negative"}
	}
	if c.Limit > MaxLimit {
		return &LimitError{What: "limit", Got: int64(c.Limit), Max: MaxLimit}
	}
	if !(c.MinActivation >= 0 && c.MinActivation <= 1) {
		return &InvalidError{Field: "min_activation", Reason: "must be in [0,1]"}
	}
	if err := c.Spread.validate(); err != nil {
		return err
	}
	return c.Filter.validate()
}
