package engram

import (
	"time"

	"go.uber.org/zap"

	"github.com/engramdb/engram/internal/vfs"
)

// Durability says when a write is acknowledged. See docs/durability.md for what
// each may lose.
type Durability time.Duration

// The durabilities that are not an [Interval].
const (
	// Sync acknowledges a write when it is on stable storage: nothing
	// acknowledged is lost by a kill, a crash of the system or a power loss.
	Sync Durability = 0
	// None acknowledges a write when the operating system has it: a kill loses
	// nothing, a crash of the system or a power loss may lose every write since
	// the last Settle, checkpoint or change of journal file.
	None Durability = -1
)

// Interval acknowledges a write when the operating system has it, and makes it
// durable within d: a kill loses nothing, a crash of the system or a power loss
// may lose the writes of the last d. A d of zero or less is Sync.
func Interval(d time.Duration) Durability { return Durability(max(d, 0)) }

// Limits and defaults of Options.
const (
	defaultJournalBytes = 64 << 20
	minJournalBytes     = 1 << 20
	maxJournalBytes     = 1 << 30
)

// Options of a registry. The zero value is the safe default.
type Options struct {
	// Durability of every write; default Sync.
	Durability Durability
	// JournalBytes is the size at which a journal file is full and the other
	// one is taken, 1 MiB to 1 GiB; default 64 MiB. A smaller journal settles
	// the spaces more often.
	JournalBytes int64
	// MemoryBudget is how many bytes of memory the spaces that are awake may take:
	// their indexes, as estimated. Where they take more, those that were not used for
	// the longest fall asleep, as soon as nobody uses them; the next use wakes them.
	// A space that is in use, one whose writes are stopped, and the one that was used
	// last, stay awake at any size, so the budget should have room for those that are
	// used at a time. Default half of the process's memory limit where it has one
	// (GOMEMLIMIT), else 1 GiB.
	MemoryBudget int64
	// ReadOnly opens without changing a byte and shares the directory with
	// other readers. Damaged spaces can be read as far as they are good.
	ReadOnly bool
	// Embedder makes vectors of memories and cues; default none. Writes do not
	// wait for it: the vector follows as an operation of its own.
	Embedder Embedder
	// Clock tells the time; default the system's.
	Clock Clock
	// Logger hears of recoveries, damage and failures; default none. Contents
	// are never logged.
	Logger *zap.Logger

	seams seams
}

// seams are what tests replace. The zero value is the production setting.
type seams struct {
	fs              vfs.FS                   // default the operating system
	newIdentity     func() (identity, error) // default random
	segmentBytes    int64                    // rotation limit of a log; default defaultSegmentBytes
	checkpointBytes int64                    // least log bytes between checkpoints; default defaultCheckpointBytes
	extentBytes     int64                    // zeroed ahead in a journal file; default defaultExtentBytes
	partitionRows   int64                    // least vectors that are partitioned; default defaultPartitionRows
	settleHang      time.Duration            // after which a space that is settled hangs; default defaultSettleHang
	closeHang       time.Duration            // that Close waits for those that hang; default closePatience times settleHang
}

func (o Options) withDefaults() Options {
	if o.JournalBytes == 0 {
		o.JournalBytes = defaultJournalBytes
	}
	if o.MemoryBudget == 0 {
		o.MemoryBudget = memoryBudget()
	}
	if o.Clock == nil {
		o.Clock = systemClock{}
	}
	if o.Logger == nil {
		o.Logger = zap.NewNop()
	}
	if o.seams.fs == nil {
		o.seams.fs = osFS{}
	}
	if o.seams.newIdentity == nil {
		o.seams.newIdentity = randomIdentity
	}
	if o.seams.segmentBytes == 0 {
		o.seams.segmentBytes = defaultSegmentBytes
	}
	if o.seams.checkpointBytes == 0 {
		o.seams.checkpointBytes = defaultCheckpointBytes
	}
	if o.seams.extentBytes == 0 {
		o.seams.extentBytes = defaultExtentBytes
	}
	if o.seams.partitionRows == 0 {
		o.seams.partitionRows = defaultPartitionRows
	}
	if o.seams.settleHang == 0 {
		o.seams.settleHang = defaultSettleHang
	}
	if o.seams.closeHang == 0 {
		o.seams.closeHang = closePatience * o.seams.settleHang
	}
	return o
}

func (o Options) validate() error {
	if o.Durability < None {
		return &InvalidError{Field: "durability", Reason: "is not Sync, None or an Interval"}
	}
	if o.JournalBytes < minJournalBytes {
		return &InvalidError{Field: "journal_bytes", Reason: "is less than 1 MiB"}
	}
	if o.JournalBytes > maxJournalBytes {
		return &LimitError{What: "journal bytes", Got: o.JournalBytes, Max: maxJournalBytes}
	}
	if o.MemoryBudget < 0 {
		return &InvalidError{Field: "memory_budget", Reason: "is negative"}
	}
	return validateEmbedder(o.Embedder)
}

// Defaults of SpaceConfig's text scoring, chosen on the tuning half of the data
// sets (docs/benchmarks.md).
const (
	defaultTextK1 = 1.3
	defaultTextB  = 0.5
)

// SpaceConfig is what a space is created with and [Space.Configure] changes.
// The zero value is the default.
type SpaceConfig struct {
	// MaxMemories is the most memories the space may hold; 0 means no quota.
	MaxMemories int64 `json:"max_memories,omitempty"`
	// MaxBytes is the most encoded bytes its memories may take; 0 means no quota.
	MaxBytes int64 `json:"max_bytes,omitempty"`
	// TextK1 is BM25's term frequency saturation, 0 to 10; 0 means the default.
	TextK1 float64 `json:"text_k1,omitempty"`
	// TextB is BM25's length normalisation, 0 to 1; 0 means the default.
	TextB float64 `json:"text_b,omitempty"`
	// AutoAssociate is with how many earlier memories, at most, a remembered one
	// is associated: the most similar ones by their words, in both directions, as
	// AssociationSimilar with the similarity, 0.1 at least, as weight. One that has 16
	// of them to others gets none to later ones, and none goes beyond
	// MaxAssociations. 0, the default, is off; at most MaxAutoAssociate. While it is
	// on, replacing a memory makes its associations of that kind anew.
	AutoAssociate int `json:"auto_associate,omitempty"`
	// Analyzer makes terms of texts; default English. It is fixed when the space
	// is created: Configure refuses another.
	Analyzer Analyzer `json:"analyzer,omitempty"`
}

func (c SpaceConfig) validate() error {
	if c.MaxMemories < 0 {
		return &InvalidError{Field: "max_memories", Reason: "is negative"}
	}
	if c.MaxBytes < 0 {
		return &InvalidError{Field: "max_bytes", Reason: "is negative"}
	}
	if !(c.TextK1 >= 0 && c.TextK1 <= 10) {
		return &InvalidError{Field: "text_k1", Reason: "must be in [0,10]"}
	}
	if !(c.TextB >= 0 && c.TextB <= 1) {
		return &InvalidError{Field: "text_b", Reason: "must be in [0,1]"}
	}
	if c.AutoAssociate < 0 {
		return &InvalidError{Field: "auto_associate", Reason: "is negative"}
	}
	if c.AutoAssociate > MaxAutoAssociate {
		return &LimitError{What: "auto_associate", Got: int64(c.AutoAssociate), Max: MaxAutoAssociate}
	}
	if c.Analyzer.number() == 0 {
		return &InvalidError{Field: "analyzer", Reason: "must be english, english-all, plain or cjk"}
	}
	return nil
}

// canonical is the configuration as it reads back from the log.
func (c SpaceConfig) canonical() SpaceConfig {
	c.Analyzer, _ = analyzerOf(c.Analyzer.number())
	return c
}

// textParameters returns BM25's k1 and b with the defaults filled in.
func (c SpaceConfig) textParameters() (k1, b float64) {
	k1, b = c.TextK1, c.TextB
	if k1 == 0 {
		k1 = defaultTextK1
	}
	if b == 0 {
		b = defaultTextB
	}
	return k1, b
}

// WriteOption changes how one write is done.
type WriteOption func(*writeOptions)

type writeOptions struct {
	requestID string
	requested bool // with that id
	expectSeq uint64
	expects   bool
	failFast  bool
}

// RequestID makes a retried write take effect once: a write that carries the
// id of one of the space's last 4,096 requests changes nothing and returns that
// request's receipt, or ErrRequestReused if the payload differs. It does not where
// the one gives a Kind, a Confidence or an Analyzer and the other leaves that default
// out. The id is part of the logged operation, so this holds over restarts. 1 to
// MaxRequestIDBytes of UTF-8 without control characters.
func RequestID(id string) WriteOption {
	return func(o *writeOptions) { o.requestID, o.requested = id, true }
}

// ExpectSeq makes a write conditional: it takes effect only if seq is the last
// operation of the space, else it is a [ConflictError]. The vectors that an
// Embedder makes are operations too, which come when they are ready.
func ExpectSeq(seq uint64) WriteOption {
	return func(o *writeOptions) { o.expectSeq, o.expects = seq, true }
}

// FailFast returns ErrBusy where the write would wait for room in the space's queue,
// which holds 8 MiB of encoded writes that no group has taken.
func FailFast() WriteOption {
	return func(o *writeOptions) { o.failFast = true }
}

func applyWriteOptions(opts []WriteOption) (writeOptions, error) {
	var o writeOptions
	for _, opt := range opts {
		opt(&o)
	}
	if o.requested && o.requestID == "" {
		return o, &InvalidError{Field: "request_id", Reason: "is empty"}
	}
	if len(o.requestID) > MaxRequestIDBytes {
		return o, &LimitError{What: "request id bytes", Got: int64(len(o.requestID)), Max: MaxRequestIDBytes}
	}
	return o, validateName("request_id", o.requestID)
}
