package noninterference

// Kind says what an operation does.
type Kind string

// What a tenant does with its space.
const (
	Remember    Kind = "remember" // Memories, as a batch
	Forget      Kind = "forget"   // IDs
	ForgetWhere Kind = "forget where"
	Lookup      Kind = "lookup" // IDs[0]
	List        Kind = "list"
	Recall      Kind = "recall" // Text, Vector, IDs and Filter, as far as they are there
	Associate   Kind = "associate"
	Dissociate  Kind = "dissociate"
	Associated  Kind = "associated" // IDs[0]
	Configure   Kind = "configure"
	Events      Kind = "events" // that are there behind After
	Export      Kind = "export"
	Figures     Kind = "figures" // counts and description
	Probe       Kind = "probe"   // Other, which is not the tenant's space, with IDs[0]
	Stall       Kind = "stall"   // begin to read memories and events, and do not go on
)

// What is done to a space: by its tenant where a layer lets it, else by its host.
const (
	Create     Kind = "create"
	Delete     Kind = "delete"
	Rename     Kind = "rename" // to Other
	Reimport   Kind = "reimport"
	Checkpoint Kind = "checkpoint"
	Verify     Kind = "verify"
	Sleep      Kind = "sleep"
	Damage     Kind = "damage"  // change a byte of its files
	Restart    Kind = "restart" // of all there is
	Kill       Kind = "kill"    // of all there is, and start it again
)

// Op is one operation. It is data alone, so that each layer can put it in its
// own terms.
type Op struct {
	Kind   Kind   `json:"kind"`
	Tenant int    `json:"tenant"` // 0 is A
	Space  string `json:"space"`  // the tenant's, as it is called now
	// Generation of the tenant's space: it grows with each creation. Canary
	// marks every value of it.
	Generation int    `json:"generation"`
	Canary     string `json:"canary"`

	Other       string      `json:"other,omitempty"`
	Memories    []Memory    `json:"memories,omitempty"`
	IDs         []string    `json:"ids,omitempty"`
	Text        string      `json:"text,omitempty"`
	Vector      []float32   `json:"vector,omitempty"`
	Filter      Filter      `json:"filter,omitzero"`
	Limit       int         `json:"limit,omitempty"`
	Association Association `json:"association,omitzero"`
	Config      Config      `json:"config,omitzero"`
	After       uint64      `json:"after,omitempty"`
	Request     string      `json:"request,omitempty"` // id of a retried write
	Expect      uint64      `json:"expect,omitempty"`  // the seq that a write is conditional on; 0: it is not
	Unused      bool        `json:"unused,omitempty"`  // Other is nobody's, ever

	step int // of A, that this mirrors
}

// Memory is what is remembered.
type Memory struct {
	ID         string            `json:"id,omitempty"`
	Content    string            `json:"content"`
	Second     int               `json:"second,omitempty"` // of the time it happened at; 0: now
	Episode    string            `json:"episode,omitempty"`
	Attributes map[string]string `json:"attributes,omitempty"`
	Vector     []float32         `json:"vector,omitempty"`
	Semantic   bool              `json:"semantic,omitempty"`
}

// Filter narrows what is listed, recalled or forgotten.
type Filter struct {
	Episode    string            `json:"episode,omitempty"`
	Attributes map[string]string `json:"attributes,omitempty"`
	From       int               `json:"from,omitempty"` // second
	Semantic   bool              `json:"semantic,omitempty"`
}

// Association leads from one memory to another.
type Association struct {
	From   string  `json:"from"`
	To     string  `json:"to"`
	Kind   string  `json:"kind,omitempty"`
	Weight float64 `json:"weight"`
}

// Config of a space.
type Config struct {
	MaxMemories   int64 `json:"max_memories,omitempty"`
	AutoAssociate int   `json:"auto_associate,omitempty"`
}

// acts reports whether the operation is on the whole system: nobody else does
// anything meanwhile.
func (k Kind) acts() bool { return k == Restart || k == Kill }
