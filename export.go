package engram

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/engramdb/engram/internal/strictjson"
)

// An export is JSON Lines; docs/export.md is its normative description.
const (
	exportFormat  = "engram-export"
	exportVersion = 1
	// maxExportLineBytes is more than a memory at every limit takes with each
	// byte of it escaped.
	maxExportLineBytes = 8 << 20
)

// exportHeader is the first line.
type exportHeader struct {
	Format  string `json:"format"`
	Version int    `json:"version"`
	// Memories and Associations are how many follow, so that an export that was
	// cut short is refused. Whoever writes one by hand may leave them out.
	Memories     *int64      `json:"memories,omitempty"`
	Associations *int64      `json:"associations,omitempty"`
	Config       SpaceConfig `json:"config"`
	// Embedder whose vectors the lines hold, where there is one.
	Embedder *exportEmbedder `json:"embedder,omitempty"`
}

type exportEmbedder struct {
	ID        string `json:"id"`
	Dimension int    `json:"dimension"`
}

func (e *exportEmbedder) validate() error {
	if e == nil {
		return nil
	}
	if err := validateEmbedderDimension(e.Dimension); err != nil {
		return err
	}
	return validateEmbedderID(e.ID)
}

// exportLine is a memory, with the vector that the embedder made of it.
type exportLine struct {
	Memory
	Vector []float32 `json:"vector,omitempty"`
}

// associationField is the only field of a line that is no memory's.
const associationField = "association"

// exportedAssociation is such a line.
type exportedAssociation struct {
	Association Association `json:"association"`
}

// Export writes one snapshot of the space to dst as JSON Lines: a header with
// the configuration, a line for each memory, in the order in which they were
// stored, and a line for each association, in the order of the memories that
// they start from. It returns the seq of the snapshot, from which Subscribe goes
// on. Neither that seq, nor the space's id, nor the time is written: equal states
// give equal bytes. docs/export.md has the schema, [Registry.Import] reads it.
//
// What is exported is durable when Export returns nil; with Interval or None
// the space is settled for that. Writes go on meanwhile. Of a quarantined space
// what precedes the damage is written, and the error says what is damaged.
func (s *Space) Export(ctx context.Context, dst io.Writer) (seq uint64, err error) {
	a, err := s.use(ctx)
	if err != nil {
		return 0, err
	}
	defer a.done()
	r := a.read()
	defer r.close()
	if a.damage == nil && s.registry.options.Durability != Sync && !s.registry.options.ReadOnly {
		if err := a.settleForExport(); err != nil {
			return 0, err
		}
	}
	if err := r.export(ctx, dst); err != nil {
		return 0, err
	}
	return r.view.seq, a.damaged()
}

// settleForExport is settle for who makes no other change: Close waits for it.
func (a *awake) settleForExport() error {
	r, s := a.registry, a.space
	if err := r.admit(); err != nil {
		return err
	}
	defer r.work.Done()
	_, err := a.settle()
	if err == nil {
		return nil
	}
	if gone := s.gone(); gone != nil {
		return gone // its files were closed or removed meanwhile
	}
	return fmt.Errorf("export of space %q: %w", string(s.ID()), err)
}

func (r *reader) export(ctx context.Context, dst io.Writer) error {
	w := bufio.NewWriter(dst)
	err := r.exportLines(ctx, w)
	if err == nil || errors.Is(err, ErrCorrupt) { // what precedes the damage is written too
		if failed := w.Flush(); failed != nil {
			err = errors.Join(err, fmt.Errorf("write export: %w", failed))
		}
	}
	return err
}

func (r *reader) exportLines(ctx context.Context, w io.Writer) error {
	lines := json.NewEncoder(w)
	lines.SetEscapeHTML(false)
	v := r.view
	header := exportHeader{
		Format: exportFormat, Version: exportVersion, Memories: &v.live, Associations: &v.graph.edges, Config: v.config,
	}
	if v.generation > 0 {
		header.Embedder = &exportEmbedder{v.embedder, v.dimension}
	}
	if err := lines.Encode(header); err != nil {
		return fmt.Errorf("write export: %w", err)
	}
	living := v.living()
	for _, d := range living {
		if err := ctx.Err(); err != nil {
			return err
		}
		m, err := r.memory(d)
		if err != nil {
			return err
		}
		vector, err := r.derivedVector(d)
		if err != nil {
			return err
		}
		m.Space, m.Seq = "", 0
		if err := lines.Encode(&exportLine{m, vector}); err != nil {
			return fmt.Errorf("write export: %w", err)
		}
	}
	if v.graph.edges == 0 {
		return nil
	}
	return v.exportAssociations(ctx, lines, living)
}

// exportAssociations writes those of the memories to others: the numbers of the
// graph, which say in which order associations were made, are not used.
func (v *view) exportAssociations(ctx context.Context, lines *json.Encoder, living []uint32) error {
	for _, d := range living {
		n := v.graph.of(string(v.id(d)))
		if n == nil {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		for _, a := range v.graph.outgoingOf(n) {
			if err := lines.Encode(exportedAssociation{a}); err != nil {
				return fmt.Errorf("write export: %w", err)
			}
		}
	}
	return nil
}

// Import creates a space of that id from an export. When it returns nil the
// space is there, whole and durable; with an error, and after a crash before that,
// it is not there at all, but for [ErrUnknownOutcome]: then the next Open finds it,
// whole, or not. The memories, and then the associations, get new seqs, in the
// order of their lines; memories keep the times at which they were stored, where
// the line says it. Quotas of the configuration do not bind what is imported.
// AutoAssociate makes no associations of it: those that there were are in it.
//
// A line that is not as docs/export.md says, that exceeds a limit, repeats an
// id or an association, or associates a memory that is not there, is an
// [ImportError] with its number, and so is an export that was cut short. An id that
// is taken is ErrSpaceExists, before src is read. What is in memory of src at a time
// is one frame. Close of the registry waits for the line that is being read.
func (r *Registry) Import(ctx context.Context, id SpaceID, src io.Reader) (*Space, error) {
	s, created, err := r.createWith(ctx, id, func(s *Space) error {
		in := &importer{
			registry: r, lines: bufio.NewReaderSize(src, 64<<10),
			ids: make(map[string]bool), edges: make(map[Association]bool),
		}
		header, err := in.header()
		if err != nil {
			return err
		}
		return r.build(s, header.Config, func(a *awake) error { return in.fill(ctx, a, header) })
	})
	if err != nil {
		return nil, fmt.Errorf("import %q: %w", string(id), err)
	}
	if !created {
		return nil, fmt.Errorf("import %q: %w", string(id), ErrSpaceExists)
	}
	if r.options.Embedder != nil {
		r.embedding.want(s)
	}
	return s, nil
}

// importer reads an export into a space that nobody else has yet.
type importer struct {
	registry *Registry
	lines    *bufio.Reader
	line     int // number of the last one read
	long     []byte

	buf        []byte // the frame that is being made
	operations []operation
	offsets    []int
	ids        map[string]bool      // in the frame
	edges      map[Association]bool // in the frame, without their weights
	dimension  int
	embedded   bool // the header names an embedder

	memories, associations int64 // of the lines read
}

// at says which line an error concerns.
func (in *importer) at(err error) error {
	if err == nil {
		return nil
	}
	return &ImportError{Line: in.line, Err: err}
}

func (in *importer) header() (exportHeader, error) {
	var h exportHeader
	line, err := in.read()
	if errors.Is(err, io.EOF) {
		return h, in.at(&InvalidError{Field: "export", Reason: "is empty"})
	}
	if err == nil {
		// Of another version nothing but the version is known.
		err = json.Unmarshal(line, &struct {
			Format  *string `json:"format"`
			Version *int    `json:"version"`
		}{&h.Format, &h.Version})
		switch {
		case h.Format != exportFormat:
			err = &InvalidError{Field: "format", Reason: `is not "` + exportFormat + `"`}
		case err != nil:
			err = &InvalidError{Field: "version", Reason: "is not a whole number"}
		}
	}
	switch {
	case err != nil:
	case h.Version != exportVersion:
		err = fmt.Errorf("version %d: %w", h.Version, ErrVersion)
	default:
		if err = decodeLine(line, &h); err == nil {
			err = errors.Join(h.Config.validate(), h.Embedder.validate())
		}
	}
	return h, in.at(err)
}

// read returns the next line, valid until the next call, or io.EOF.
func (in *importer) read() ([]byte, error) {
	in.line++
	in.long = in.long[:0]
	for {
		part, err := in.lines.ReadSlice('\n')
		n := len(in.long) + len(part)
		if err == nil {
			n-- // the line feed ends the line
		}
		if n > maxExportLineBytes {
			return nil, &LimitError{What: "bytes of a line", Got: int64(n), Max: maxExportLineBytes}
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			in.long = append(in.long, part...)
		case errors.Is(err, io.EOF) && len(in.long)+len(part) == 0:
			return nil, io.EOF
		case err != nil && !errors.Is(err, io.EOF):
			return nil, fmt.Errorf("read: %w", err)
		case len(in.long) == 0:
			return part, nil
		default:
			in.long = append(in.long, part...)
			return in.long, nil
		}
	}
}

// decodeLine decodes exactly one JSON value with no field that is unknown or
// given twice.
func decodeLine(line []byte, v any) error {
	if err := strictjson.Unmarshal(line, v); err != nil {
		return &InvalidError{Field: "line", Reason: err.Error()}
	}
	return nil
}

// fill makes the frames of the lines, and leaves the space's files flushed.
func (in *importer) fill(ctx context.Context, a *awake, h exportHeader) error {
	if h.Embedder != nil {
		if err := in.append(a, &operation{
			kind: opEmbedder, generation: 1, embedder: h.Embedder.ID, dimension: h.Embedder.Dimension,
			storedAt: a.identity.created,
		}); err != nil {
			return err
		}
		in.dimension, in.embedded = h.Embedder.Dimension, true
	}
	for {
		if err := in.registry.usable(ctx); err != nil {
			return err
		}
		line, err := in.read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			err = in.add(a, line)
		}
		if err != nil {
			return in.at(err)
		}
	}
	for _, said := range []struct {
		field string
		want  *int64
		got   int64
	}{{"memories", h.Memories, in.memories}, {"associations", h.Associations, in.associations}} {
		if said.want != nil && *said.want != said.got {
			return in.at(&InvalidError{Field: said.field, Reason: fmt.Sprintf("are %d, not %d as the header says", said.got, *said.want)})
		}
	}
	if err := in.flush(a); err != nil {
		return err
	}
	return a.seal()
}

// add puts what the line says into the frame.
func (in *importer) add(a *awake, line []byte) error {
	if firstField(line) == associationField {
		var e exportedAssociation
		if err := decodeLine(line, &e); err != nil {
			return err
		}
		in.associations++
		return in.addAssociation(a, e.Association)
	}
	var m exportLine
	if err := decodeLine(line, &m); err != nil {
		return err
	}
	if in.associations > 0 {
		return &InvalidError{Field: "memory", Reason: "stands behind an association"}
	}
	in.memories++
	if err := in.addMemory(a, m.Memory); err != nil || m.Vector == nil {
		return err
	}
	return in.addVector(a, m.Vector)
}

// firstField returns the name of the first field of a JSON object, "" where
// there is none.
func firstField(line []byte) string {
	d := json.NewDecoder(bytes.NewReader(line))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return ""
	}
	t, err := d.Token()
	name, isName := t.(string)
	if err != nil || !isName {
		return ""
	}
	return name
}

// addMemory puts a memory into the frame.
func (in *importer) addMemory(a *awake, m Memory) error {
	if m.Space != "" || m.Seq != 0 {
		return &InvalidError{Field: "space and seq", Reason: "are no part of an export"}
	}
	if err := m.validate(); err != nil {
		return err
	}
	if err := validateTime("stored_at", m.StoredAt); err != nil {
		return err
	}
	if n := len(m.Embedding); n != 0 && in.dimension != 0 && n != in.dimension {
		return wrongDimension(n, in.dimension)
	}
	in.dimension = max(in.dimension, len(m.Embedding))
	op := in.operation(m, in.nextSeq(a))
	op.analysis = a.analyzer.analyzeMemory(m.Content)
	if version, _ := a.store.version(op.memory.ID); version != 0 || in.ids[op.memory.ID] {
		return &InvalidError{Field: "id", Reason: "is that of an earlier line"}
	}
	if err := in.append(a, &op); err != nil {
		return err
	}
	in.ids[op.memory.ID] = true
	return nil
}

// addAssociation puts an association into the frame, or into the next one where
// what the frame holds may be in its way.
func (in *importer) addAssociation(a *awake, e Association) error {
	if err := e.validate(true); err != nil {
		return err
	}
	err := a.refuseAssociation(&e, len(in.edges))
	if err != nil && len(in.operations) > 0 {
		if err := in.flush(a); err != nil {
			return err
		}
		err = a.refuseAssociation(&e, 0)
	}
	if err != nil {
		return err
	}
	edge := e
	edge.Weight = 0
	if in.edges[edge] || a.store.graph.has(e.From, e.To, e.Kind) {
		return &InvalidError{Field: associationField, Reason: "is that of an earlier line"}
	}
	op := &operation{kind: opAssociate, association: e, storedAt: nanosOf(in.registry.options.Clock)}
	if err := in.append(a, op); err != nil {
		return err
	}
	in.edges[edge] = true
	return nil
}

// nextSeq is that of the operation that is added next.
func (in *importer) nextSeq(a *awake) uint64 { return a.store.seq + uint64(len(in.operations)) + 1 }

// addVector puts the vector of the memory that was added last into the frame.
func (in *importer) addVector(a *awake, vector []float32) error {
	last := in.operations[len(in.operations)-1]
	switch {
	case !in.embedded:
		return &InvalidError{Field: "vector", Reason: "is of no embedder that the header names"}
	case len(last.memory.Embedding) > 0:
		return &InvalidError{Field: "vector", Reason: "stands beside an embedding"}
	}
	if err := checkVector(vector, in.dimension); err != nil {
		if invalid := new(InvalidError); errors.As(err, &invalid) {
			invalid.Field = "vector" // as the line has it
		}
		return err
	}
	return in.append(a, &operation{
		kind: opEmbed, generation: 1, version: last.seq, storedAt: last.storedAt,
		memory: Memory{ID: last.memory.ID, Embedding: vector},
	})
}

// append puts the operation into the frame, or into the next one if this one is full.
func (in *importer) append(a *awake, op *operation) error {
	op.seq = in.nextSeq(a)
	record := encodeOperation(op)
	sealOperation(record, a.identity.key, op.seq, "", false)
	if len(in.operations) > 0 && len(in.buf)+len(record) > softFrameBytes {
		if err := in.flush(a); err != nil {
			return err
		}
	}
	if len(in.operations) == 0 {
		in.buf, in.offsets = append(in.buf[:0], make([]byte, frameHeaderBytes)...), in.offsets[:0]
	}
	op.record.length = len(record)
	in.offsets = append(in.offsets, len(in.buf))
	in.operations = append(in.operations, *op)
	in.buf = append(in.buf, record...)
	return nil
}

// operation remembers m as operation seq, with the defaults filled in.
func (in *importer) operation(m Memory, seq uint64) operation {
	op := operation{kind: opRemember, seq: seq, memory: m, storedAt: m.StoredAt.UnixNano()}
	if m.StoredAt.IsZero() {
		op.storedAt = nanosOf(in.registry.options.Clock)
	}
	if m.Time.IsZero() {
		op.memory.Time = unixTime(op.storedAt)
	}
	if m.Confidence == 0 {
		op.memory.Confidence = 1
	}
	if m.ID == "" {
		op.memory.ID = generatedID(op.storedAt, op.seq)
	}
	return op
}

// flush appends the frame to the space's log, past the journal: the space is
// not there before its log is flushed.
func (in *importer) flush(a *awake) error {
	if len(in.operations) == 0 {
		return nil
	}
	f := frame{
		prev: a.log.lastSum, count: uint32(len(in.operations)), firstSeq: in.operations[0].seq,
		epoch: in.registry.epoch, kind: kindLog,
	}
	in.buf = sealFrame(in.buf, a.identity.key, &f)
	segment, offset, err := a.log.append(in.buf, &f)
	if err != nil {
		return err
	}
	for i := range in.operations {
		op := &in.operations[i]
		op.record.segment, op.record.offset = segment, offset+int64(in.offsets[i])
		a.store.apply(op)
	}
	a.log.advance(a.store.position())
	a.store.publish()
	a.maintenance.logged += int64(len(in.buf))
	a.maintenance.frames++
	in.operations = in.operations[:0]
	clear(in.ids)
	clear(in.edges)
	return nil
}

// seal makes the files of a space that was filled durable, with a checkpoint where one
// would be due if it had been written one memory at a time.
func (a *awake) seal() error {
	if a.checkpointDue(smallFrames) {
		job, err := a.beginCheckpoint(false)
		if err == nil {
			err = a.finishCheckpoint(job)
		}
		if err != nil {
			return err
		}
	} else if _, err := a.settle(); err != nil {
		return err
	}
	a.report.LastSeq, a.report.MarkSeq = a.store.seq, a.store.seq
	a.space.feed.begin(a.store.seq, nil)
	return nil
}
