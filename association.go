package engram

import (
	"cmp"
	"context"
	"fmt"
	"slices"
)

// Limits of associations.
const (
	MaxAssociations         = 256 // outgoing, of one memory
	MaxAssociationKinds     = 128 // different ones in use in a space, beside AssociationSimilar
	MaxAssociationKindBytes = 64  // of a kind's name
)

// Kinds of association that the library itself knows; callers may use any other.
const (
	AssociationRelated = "related" // what an empty kind means
	AssociationSimilar = "similar" // what [SpaceConfig.AutoAssociate] makes
)

// Association says that one memory brings another one to mind. It is directed:
// two associations make it mutual. A pair of memories may have one of each kind.
type Association struct {
	From string `json:"from"` // id of a memory
	To   string `json:"to"`   // id of another one
	// Kind is the caller's name for what joins the two, at most
	// MaxAssociationKindBytes of UTF-8 without control characters; empty means
	// AssociationRelated.
	Kind string `json:"kind,omitempty"`
	// Weight in (0,1] is the share of its activation that From passes on to To,
	// before decay and fan: see [Spread].
	Weight float64 `json:"weight"`
}

// validate checks a, whose Weight is looked at if weighted, and fills in its kind.
func (a *Association) validate(weighted bool) error {
	if err := validateMemoryID("from", a.From, false); err != nil {
		return err
	}
	if err := validateMemoryID("to", a.To, false); err != nil {
		return err
	}
	if a.From == a.To {
		return &InvalidError{Field: "to", Reason: "is the memory that it comes from"}
	}
	if len(a.Kind) > MaxAssociationKindBytes {
		return &LimitError{What: "association kind bytes", Got: int64(len(a.Kind)), Max: MaxAssociationKindBytes}
	}
	if err := validateName("kind", a.Kind); err != nil {
		return err
	}
	if weighted && !(a.Weight > 0 && a.Weight <= 1) {
		return &InvalidError{Field: "weight", Reason: "must be greater than 0 and at most 1"}
	}
	a.Kind = cmp.Or(a.Kind, AssociationRelated)
	return nil
}

// Associate makes a, or gives the association of its From, To and Kind a new
// Weight. Both memories must exist, or it is [ErrMemoryNotFound]; one more than
// MaxAssociations of From, or another kind than the MaxAssociationKinds in use,
// is [ErrLimit], bad input [ErrInvalid]. The association stays while its
// memories are replaced, and goes when either of them is forgotten: a memory of
// that id that is remembered later does not have it. Durability and
// cancellation are as in Remember. The receipt has the seq only.
func (s *Space) Associate(ctx context.Context, a Association, opts ...WriteOption) (Receipt, error) {
	if err := a.validate(true); err != nil {
		return Receipt{}, err
	}
	o, err := applyWriteOptions(opts)
	if err != nil {
		return Receipt{}, err
	}
	return s.associate(ctx, a, o)
}

// Dissociate removes the association of a's From, To and Kind, whatever its
// Weight; that there is none is not an error. Otherwise it is as Associate.
func (s *Space) Dissociate(ctx context.Context, a Association, opts ...WriteOption) (Receipt, error) {
	if err := a.validate(false); err != nil {
		return Receipt{}, err
	}
	o, err := applyWriteOptions(opts)
	if err != nil {
		return Receipt{}, err
	}
	a.Weight = 0
	if o.requestID == "" && !o.expects && !s.registry.options.ReadOnly {
		seq, skip, err := s.skips(ctx, func(v *view) bool { return v.graph.has(a.From, a.To, a.Kind) })
		if err != nil || skip {
			return Receipt{Seq: seq}, err
		}
	}
	return s.associate(ctx, a, o)
}

// associate commits a; a weight of 0 removes it.
func (s *Space) associate(ctx context.Context, a Association, o writeOptions) (Receipt, error) {
	return s.writeOne(ctx, operation{kind: opAssociate, association: a}, o)
}

// Associations returns the associations of the memory of that id: first those
// that it has to others, in the order of To and Kind, then those that others
// have to it, in the order of From and Kind. There are at most MaxAssociations of
// the former and any number of the latter; it costs in proportion to them, and reads
// no file. An unknown id is [ErrMemoryNotFound].
func (s *Space) Associations(ctx context.Context, id string) ([]Association, error) {
	if err := validateMemoryID("id", id, false); err != nil {
		return nil, err
	}
	a, err := s.use(ctx)
	if err != nil {
		return nil, err
	}
	defer a.done()
	v := a.store.view()
	if _, found := v.lookup(id); !found {
		if damaged := a.damaged(); damaged != nil {
			return nil, damaged
		}
		return nil, fmt.Errorf("memory %q: %w", id, ErrMemoryNotFound)
	}
	return v.graph.associations(id), a.damaged()
}

// admitAssociation checks w against the state that the frame so far leaves.
// What the writes before it in the frame may have changed is reason to wait for
// the next frame, not to refuse.
func (a *awake) admitAssociation(w *write, t *taking) (again bool, err error) {
	err = a.refuseAssociation(&w.operations[0].association, t.edges)
	switch {
	case err == nil:
		t.edges++
		return false, nil
	case t.writes > 0:
		return true, nil
	}
	return false, err
}

// refuseAssociation returns why there cannot be the association that is wanted
// beside so many edges more, of whatever.
func (a *awake) refuseAssociation(wanted *Association, more int) error {
	if wanted.Weight == 0 {
		return nil // removing what is not there changes nothing
	}
	g := &a.store.graph
	for _, id := range []string{wanted.From, wanted.To} {
		if _, found := a.store.sizeOf(id); !found {
			return fmt.Errorf("memory %q: %w", id, ErrMemoryNotFound)
		}
	}
	a.store.mu.Lock() // the end of a checkpoint may renumber the nodes
	defer a.store.mu.Unlock()
	if g.has(wanted.From, wanted.To, wanted.Kind) {
		return nil
	}
	if n := g.outgoing(wanted.From) + more; n >= MaxAssociations {
		return &LimitError{What: "associations of a memory", Got: int64(n + 1), Max: MaxAssociations}
	}
	if n := g.customKinds() + more; n >= MaxAssociationKinds && !slices.Contains(g.kinds, wanted.Kind) {
		return &LimitError{What: "kinds of association", Got: int64(n + 1), Max: MaxAssociationKinds}
	}
	return nil
}
