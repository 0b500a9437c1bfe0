package engram

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/fnv"
	"slices"
	"strings"
)

// This file is what changes a space, on its way to the group commit.

// Remember stores m, or replaces the memory of its id. When it returns nil the
// memory is recallable and, under the default durability, survives power loss.
// m is not kept and not changed; the receipt has the id.
//
// Bad input is [ErrInvalid], [ErrLimit] or [ErrWrongSpace], a used-up quota
// [ErrQuota], no room [ErrDiskFull], and what the options ask for [ErrConflict],
// [ErrRequestReused] or [ErrBusy]; damage of the space is a [CorruptionError], and
// [ErrStopped] says that its writes or the registry's have ended. With each of these
// nothing has changed. ctx cancels the write as long as no group has taken it; after
// that the outcome is known, or [ErrUnknownOutcome] says it is not.
//
// It costs a share of one flush with all writes of the registry that wait at the
// same time, and two writes of the record: to the journal and to the space's log.
func (s *Space) Remember(ctx context.Context, m Memory, opts ...WriteOption) (Receipt, error) {
	receipts, err := s.RememberBatch(ctx, []Memory{m}, opts...)
	if err != nil {
		return Receipt{}, err
	}
	return receipts[0], nil
}

// RememberBatch stores all of ms, at most MaxBatch and MaxBatchBytes, or none:
// also after a crash. No ms are ErrInvalid. Otherwise it is as Remember; receipts are
// in the order of ms. Of several memories with one id the last one stays.
func (s *Space) RememberBatch(ctx context.Context, ms []Memory, opts ...WriteOption) ([]Receipt, error) {
	o, err := batchOptions(ms, opts)
	if err != nil {
		return nil, err
	}
	a, err := s.use(ctx)
	if err != nil {
		return nil, err
	}
	defer a.done()
	analyzer := a.analyzer
	hash := newPayloadHash(opRemember, o)
	operations, err := rememberOperations(s.ID(), ms, nanosOf(s.registry.options.Clock), hash)
	if err != nil {
		return nil, err
	}
	for i := range operations {
		op := &operations[i]
		op.analysis = analyzer.analyzeMemory(op.memory.Content)
		// Of another dimension, or the first, it may be refused: then nothing is made.
		if n := len(op.memory.Embedding); n > 0 && n == int(a.store.embeddingDimension.Load()) {
			op.codes = a.store.rotations.encode(op.memory.Embedding)
		}
	}
	a.linkSimilar(operations)
	w, err := s.write(ctx, operations, hash, o)
	if err != nil {
		return nil, err
	}
	return w.receipts(ms), nil
}

// ValidateBatch returns the error with which [Space.RememberBatch] refuses these
// memories and options in a space of that id whatever the space holds, and nil where
// only that could make it refuse them. Who makes a space for its first memories asks
// before. It costs about as much as encoding the memories.
func ValidateBatch(id SpaceID, ms []Memory, opts ...WriteOption) error {
	if err := id.Validate(); err != nil {
		return err
	}
	o, err := batchOptions(ms, opts)
	if err != nil {
		return err
	}
	operations, err := rememberOperations(id, ms, 0, payloadHash{})
	if err != nil {
		return err
	}
	_, _, err = encodeWrite(operations, o, 0)
	return err
}

// batchOptions returns how a batch is to be written, and refuses one that has no
// memories or too many.
func batchOptions(ms []Memory, opts []WriteOption) (writeOptions, error) {
	if len(ms) == 0 {
		return writeOptions{}, &InvalidError{Field: "memories", Reason: "is empty"}
	}
	if len(ms) > MaxBatch {
		return writeOptions{}, &LimitError{What: "memories in a batch", Got: int64(len(ms)), Max: MaxBatch}
	}
	return applyWriteOptions(opts)
}

// rememberOperations returns the operations that store ms, without what is derived
// from contents and embeddings, and refuses what no space of that id would store.
func rememberOperations(id SpaceID, ms []Memory, now int64, hash payloadHash) ([]operation, error) {
	dimension := 0
	operations := make([]operation, len(ms))
	for i := range ms {
		m := &ms[i]
		if m.Space != "" && m.Space != id {
			return nil, inBatch(ErrWrongSpace, i, len(ms))
		}
		if err := m.validate(); err != nil {
			return nil, inBatch(err, i, len(ms))
		}
		if n := len(m.Embedding); n != 0 && dimension != 0 && n != dimension {
			return nil, inBatch(wrongDimension(n, dimension), i, len(ms))
		}
		dimension = max(dimension, len(m.Embedding))
		hash.addMemory(*m)
		op := &operations[i]
		op.kind, op.storedAt, op.memory = opRemember, now, *m
		op.memory.ID = strings.Clone(m.ID)
		if m.Time.IsZero() {
			op.memory.Time = unixTime(now)
		}
		if m.Confidence == 0 {
			op.memory.Confidence = 1
		}
	}
	return operations, nil
}

func inBatch(err error, i, n int) error {
	if n == 1 {
		return err
	}
	return fmt.Errorf("memory %d: %w", i, err)
}

// receipts of a RememberBatch: of a replayed request, those of the first time.
func (w *write) receipts(ms []Memory) []Receipt {
	receipts := make([]Receipt, len(ms))
	for i := range ms {
		r := Receipt{ID: w.operations[i].memory.ID, Seq: w.seq + uint64(i)}
		if w.replayed.seq != 0 {
			r.Seq = w.replayed.seq + uint64(i)
			if r.ID == "" {
				r.ID = generatedID(w.replayed.storedAt, r.Seq)
			}
		}
		receipts[i] = r
	}
	return receipts
}

// Forget forgets the memories of these ids, 1 to MaxForgetIDs; unknown ones
// are not an error, and where there is none of them nothing is written, unless an
// option asks for it. When it returns they are in no recall, lookup or listing;
// their bytes are gone from the files after a Checkpoint and a Settle, once
// earlier readers have ended. What a large space keeps to find vectors, means of
// eight or more of them, is made anew when it has grown to four times. On a full disk
// it uses a reserve. Durability, errors and cancellation are as in Remember.
func (s *Space) Forget(ctx context.Context, ids []string, opts ...WriteOption) (ForgetReceipt, error) {
	if len(ids) == 0 {
		return ForgetReceipt{}, &InvalidError{Field: "ids", Reason: "is empty"}
	}
	if len(ids) > MaxForgetIDs {
		return ForgetReceipt{}, &LimitError{What: "ids", Got: int64(len(ids)), Max: MaxForgetIDs}
	}
	for _, id := range ids {
		if err := validateMemoryID("ids", id, false); err != nil {
			return ForgetReceipt{}, err
		}
	}
	return s.forget(ctx, operation{kind: opForget, ids: ids}, opts, func(v *view) bool {
		return slices.ContainsFunc(ids, func(id string) bool {
			_, found := v.lookup(id)
			return found
		})
	})
}

// ForgetWhere forgets the memories that satisfy f when the operation is
// committed, as one operation, however many they are. It costs in proportion to
// the memories that the filter has to look at, while the space's other writes wait.
// An empty filter is ErrInvalid: to forget everything, delete the space. Otherwise
// it is as Forget.
func (s *Space) ForgetWhere(ctx context.Context, f Filter, opts ...WriteOption) (ForgetReceipt, error) {
	if err := f.validate(); err != nil {
		return ForgetReceipt{}, err
	}
	if f.IsZero() {
		return ForgetReceipt{}, &InvalidError{Field: "filter", Reason: "is empty"}
	}
	return s.forget(ctx, operation{kind: opForget, filter: &f}, opts, func(v *view) bool {
		any := false
		v.scan(&f, func(uint32) bool {
			any = true
			return false
		})
		return any
	})
}

// forget commits op unless nothing is there to forget and no option asks more
// of it.
func (s *Space) forget(ctx context.Context, op operation, opts []WriteOption, matches func(*view) bool) (ForgetReceipt, error) {
	o, err := applyWriteOptions(opts)
	if err != nil {
		return ForgetReceipt{}, err
	}
	if o.requestID == "" && !o.expects && !s.registry.options.ReadOnly {
		seq, skip, err := s.skips(ctx, matches)
		if errors.Is(err, ErrDiskFull) && s.registry.giveUpReserve() { // waking may need room
			seq, skip, err = s.skips(ctx, matches)
		}
		if err != nil || skip {
			return ForgetReceipt{Seq: seq}, err
		}
	}
	hash := newPayloadHash(opForget, o)
	hash.add(encodeOperation(&op))
	op.storedAt = nanosOf(s.registry.options.Clock)
	w, err := s.write(ctx, []operation{op}, hash, o)
	if errors.Is(err, ErrDiskFull) && s.registry.giveUpReserve() {
		w, err = s.write(ctx, []operation{op}, hash, o)
	}
	switch {
	case err != nil:
		return ForgetReceipt{}, err
	case w.replayed.seq != 0:
		return ForgetReceipt{Seq: w.replayed.seq, Forgotten: int(w.replayed.forgotten)}, nil
	}
	return ForgetReceipt{Seq: w.seq, Forgotten: w.forgotten}, nil
}

// skips reports whether an operation need not be written, as it would change
// nothing of what the space holds, and the seq at which that is so. A damaged space
// has the write say what is wrong.
func (s *Space) skips(ctx context.Context, changes func(*view) bool) (seq uint64, skip bool, err error) {
	a, err := s.use(ctx)
	if err != nil {
		return 0, false, err
	}
	defer a.done()
	v := a.store.view()
	if a.damage != nil || changes(v) {
		return 0, false, nil
	}
	return v.seq, true, nil
}

// Configure replaces the space's configuration by cfg, as one logged operation: what
// is zero in cfg has its default again. A lowered quota forgets nothing; it refuses
// what would grow the space further. A field out of its range is ErrInvalid or
// ErrLimit, another Analyzer ErrInvalid, also none where the space's is not English.
// Otherwise it is as Remember; the receipt has the seq only.
func (s *Space) Configure(ctx context.Context, cfg SpaceConfig, opts ...WriteOption) (Receipt, error) {
	if err := cfg.validate(); err != nil {
		return Receipt{}, err
	}
	o, err := applyWriteOptions(opts)
	if err != nil {
		return Receipt{}, err
	}
	return s.writeOne(ctx, operation{kind: opConfigure, config: cfg.canonical()}, o)
}

// writeOne commits an operation whose receipt is a seq alone. A retry has it
// again, but for the time.
func (s *Space) writeOne(ctx context.Context, op operation, o writeOptions) (Receipt, error) {
	hash := newPayloadHash(op.kind, o)
	hash.add(encodeOperation(&op))
	op.storedAt = nanosOf(s.registry.options.Clock)
	w, err := s.write(ctx, []operation{op}, hash, o)
	switch {
	case err != nil:
		return Receipt{}, err
	case w.replayed.seq != 0:
		return Receipt{Seq: w.replayed.seq}, nil
	}
	return Receipt{Seq: w.seq}, nil
}

// write encodes the operations of one write and commits them.
func (s *Space) write(ctx context.Context, operations []operation, hash payloadHash, o writeOptions) (*write, error) {
	if s.registry.options.ReadOnly {
		return nil, ErrReadOnly
	}
	w := &write{operations: operations, options: o, hash: hash.sum(), signal: make(chan step, 2)}
	var err error
	if w.records, w.bytes, err = encodeWrite(operations, o, w.hash); err != nil {
		return nil, err
	}
	a, err := s.use(ctx)
	if err != nil {
		return nil, err
	}
	defer a.done()
	if a.damage != nil {
		return nil, a.damage
	}
	if err := a.submit(ctx, w); err != nil {
		return nil, err
	}
	return w, nil
}

// encodeWrite returns the records of the operations of one write, and how many bytes
// they have.
func encodeWrite(operations []operation, o writeOptions, hash uint64) (records [][]byte, bytes int, err error) {
	if o.requestID != "" {
		operations[0].request = request{id: strings.Clone(o.requestID), hash: hash, operations: uint32(len(operations))}
	}
	records = make([][]byte, len(operations))
	for i := range operations {
		records[i] = encodeOperation(&operations[i])
		bytes += len(records[i])
	}
	if bytes > MaxBatchBytes {
		return nil, 0, &LimitError{What: "bytes of a write, encoded", Got: int64(bytes), Max: MaxBatchBytes}
	}
	return records, bytes, nil
}

// payloadHash tells whether a repeated request id comes with the same payload.
// A default is the same whether the caller gave it or left it out; an id and a time
// that the space assigns are not those that a caller gives. Without a request id
// there is nothing to tell: the hash is nil and stays zero.
type payloadHash struct{ hash.Hash64 }

func newPayloadHash(kind operationKind, o writeOptions) payloadHash {
	if o.requestID == "" {
		return payloadHash{}
	}
	p := payloadHash{fnv.New64a()}
	p.add([]byte{byte(kind)})
	return p
}

// add adds a piece with its length, so that no two lists of pieces look alike.
func (p payloadHash) add(b []byte) {
	if p.Hash64 == nil {
		return
	}
	var n [8]byte
	binary.LittleEndian.PutUint64(n[:], uint64(len(b)))
	_, _ = p.Write(n[:]) // a hash never fails
	_, _ = p.Write(b)
}

// unsetTime stands for a time that the space assigns. It is in stored hashes, so it is
// not left to UnixNano, which promises nothing of the zero time.
const unsetTime = -6795364578871345152

func (p payloadHash) addMemory(m Memory) {
	if p.Hash64 == nil {
		return
	}
	if m.Confidence == 1 {
		m.Confidence = 0
	}
	if m.Time.IsZero() {
		m.Time = unixTime(unsetTime)
	}
	p.add(appendMemory(nil, &m))
}

func (p payloadHash) sum() uint64 {
	if p.Hash64 == nil {
		return 0
	}
	return p.Sum64()
}
