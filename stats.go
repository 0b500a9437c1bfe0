package engram

import "time"

// SpaceState says how much of a space is in memory.
type SpaceState string

// The states of a space.
const (
	Asleep      SpaceState = "asleep"      // only its row in the catalogue
	Awake       SpaceState = "awake"       // loaded
	Quarantined SpaceState = "quarantined" // damaged: refuses writes, reads as far as it is good
)

// SpaceInfo describes a space. Of a sleeping space, configuration, counts, bytes,
// dimension and Seq are those of its mark: operations that still wait in the journal
// for its next waking are not in them.
type SpaceInfo struct {
	ID          SpaceID     `json:"id"`
	Incarnation string      `json:"incarnation"` // 32 hex digits, new for each creation
	Created     time.Time   `json:"created"`
	Config      SpaceConfig `json:"config"`
	Dimension   int         `json:"dimension,omitempty"` // of embeddings; 0 until the first
	Memories    int64       `json:"memories"`
	Bytes       int64       `json:"bytes"` // of the memories, encoded
	Seq         uint64      `json:"seq"`   // of the last operation
	State       SpaceState  `json:"state"`
}

// SpaceStats are the figures of a space.
type SpaceStats struct {
	Content  ContentStats  `json:"content"`
	Operator OperatorStats `json:"operator"`
}

// ContentStats depend on nothing but the space's own operations: a tenant may see them.
type ContentStats struct {
	Memories     int64  `json:"memories"`
	Bytes        int64  `json:"bytes"` // of the memories, encoded
	Episodes     int64  `json:"episodes"`
	Associations int64  `json:"associations"`
	Dimension    int    `json:"dimension,omitempty"`
	Seq          uint64 `json:"seq"`
	Embedder     string `json:"embedder,omitempty"`   // id of the one whose vectors the space has
	Unembedded   int64  `json:"unembedded,omitempty"` // memories that have no vector of it yet
}

// OperatorStats depend on the registry around the space: they are for its host.
type OperatorStats struct {
	State         SpaceState     `json:"state"`
	Segments      int            `json:"segments"`          // files of the log
	LogBytes      int64          `json:"log_bytes"`         // in them
	MarkSeq       uint64         `json:"mark_seq"`          // settled up to here
	CheckpointSeq uint64         `json:"checkpoint_seq"`    // of the installed checkpoint; 0 for none
	Stopped       string         `json:"stopped,omitempty"` // why writes are refused
	Recovery      RecoveryReport `json:"recovery"`          // of the last wake
}

// RegistryStats are the figures of a registry.
type RegistryStats struct {
	Spaces            int    `json:"spaces"`
	Awake             int    `json:"awake"`
	AwakeBytes        int64  `json:"awake_bytes"`        // of memory that these take, as estimated
	Wakings           uint64 `json:"wakings"`            // of sleeping spaces since Open
	Epoch             uint32 `json:"epoch"`              // raised by each writable open
	JournalFiles      int    `json:"journal_files"`      // in use, waiting for spaces to settle, or free
	JournalBytes      int64  `json:"journal_bytes"`      // written to the current file
	JournalGeneration uint64 `json:"journal_generation"` // of the current file
	Groups            uint64 `json:"groups"`             // written since Open
	Frames            uint64 `json:"frames"`             // in them
	Flushes           uint64 `json:"flushes"`            // of the journal since Open
	Stopped           string `json:"stopped,omitempty"`  // why writes are refused
}

// Verdict sums up a recovery.
type Verdict string

// The verdicts of a recovery.
const (
	Clean     Verdict = "clean"     // the log ended at its mark, nothing else was there
	Completed Verdict = "completed" // operations above the mark were recovered
	TornTail  Verdict = "torn tail" // bytes that nothing vouches for were cut
	Refused   Verdict = "refused"   // damaged: quarantined
)

// RecoveryReport says what waking a space found.
type RecoveryReport struct {
	Space         SpaceID       `json:"space"`
	CheckpointSeq uint64        `json:"checkpoint_seq"` // where replay started; 0: from the beginning
	Segments      int           `json:"segments"`       // of the log, read
	Frames        int           `json:"frames"`         // replayed
	Operations    int           `json:"operations"`     // in them
	FromJournal   int           `json:"from_journal"`   // frames above the mark that the journal held
	LastSeq       uint64        `json:"last_seq"`
	MarkSeq       uint64        `json:"mark_seq"`         // as found
	CutBytes      int64         `json:"cut_bytes"`        // of a torn tail
	Verdict       Verdict       `json:"verdict"`          // empty where the space could not be read
	Damage        string        `json:"damage,omitempty"` // why it was refused
	Duration      time.Duration `json:"duration"`
}
