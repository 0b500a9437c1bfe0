package server

import (
	"context"
	"errors"
	"net/http"
	"reflect"

	"github.com/engramdb/engram"
	"github.com/engramdb/engram/server/internal/wire"
)

// Bounds of bodies. Eight bytes of JSON for each byte that the library takes
// leave room for text that is all escapes (6) and for embeddings printed with
// the digits of a float64 (5.5).
const (
	maxRememberBody = 8 * engram.MaxBatchBytes
	maxRecallBody   = 4 << 20
)

const idempotencyHeader = "Idempotency-Key"

// rememberBody is one memory, or a batch under "memories".
type rememberBody struct {
	engram.Memory

	Memories      *[]engram.Memory `json:"memories"`
	MemorySpaceID *string          `json:"memory_space_id"`
}

// batchAnswer holds the receipts of a batch in the order of its memories.
type batchAnswer struct {
	Receipts []engram.Receipt `json:"receipts"`
}

// recallBody is a cue.
type recallBody struct {
	engram.Cue

	Filter        filterBody `json:"filter"` // instead of the cue's
	MemorySpaceID *string    `json:"memory_space_id"`
}

func (s *Server) remember(x *exchange) error {
	var body rememberBody
	if err := s.decode(x, &body, maxRememberBody); err != nil {
		return err
	}
	if body.Memories != nil && !reflect.ValueOf(body.Memory).IsZero() {
		return refuse(kindMalformed, "memories: give either a batch or the fields of one memory")
	}
	memories := []engram.Memory{body.Memory}
	if body.Memories != nil {
		memories = *body.Memories
	}
	space, header, err := s.selectToWrite(x, body.MemorySpaceID, spaceHeaderOf, memories)
	if err != nil {
		return err
	}
	options := s.spaceOptions(space, header)
	if body.Memories != nil {
		ctx, end := inLibrary(x.r.Context(), "RememberBatch")
		receipts, err := space.RememberBatch(ctx, memories, options...)
		end(err)
		if err != nil {
			return err
		}
		return x.answer(http.StatusCreated, batchAnswer{receipts})
	}
	ctx, end := inLibrary(x.r.Context(), "Remember")
	receipt, err := space.Remember(ctx, body.Memory, options...)
	end(err)
	if err != nil {
		return err
	}
	x.w.Header().Set("Location", spacePath(x.space)+"/memories/"+wire.PathSegment(receipt.ID))
	return x.answer(http.StatusCreated, receipt)
}

// selectToWrite returns the space for a write of memories, and what its header says.
func (s *Server) selectToWrite(
	x *exchange, inBody *string, read func(*http.Request) (writeHeader, error), memories []engram.Memory,
) (*engram.Space, writeHeader, error) {
	id, err := s.selectSpace(x, inBody)
	if err != nil {
		return nil, writeHeader{}, err
	}
	header, err := read(x.r)
	if err != nil {
		return nil, writeHeader{}, err
	}
	space, err := s.getToWrite(x.r.Context(), id, header.match.given, memories, header.options...)
	return space, header, err
}

// getToWrite returns the space for a write of memories, the only request that may
// create one: only if the server was told so, and the write does not expect to find
// something there nor is one that any space refuses. A space that was created for a
// write that fails all the same stays: another one may have been written to it.
func (s *Server) getToWrite(
	ctx context.Context, id engram.SpaceID, expects bool, memories []engram.Memory, options ...engram.WriteOption,
) (*engram.Space, error) {
	space, err := s.registry.Get(ctx, id)
	if !s.options.AutoCreate || expects || !errors.Is(err, engram.ErrSpaceNotFound) {
		return space, err
	}
	if err := engram.ValidateBatch(id, memories, options...); err != nil {
		return nil, err
	}
	return s.registry.GetOrCreate(ctx, id, engram.SpaceConfig{})
}

func (s *Server) lookup(x *exchange) error {
	space, err := s.selectHandle(x, nil)
	if err != nil {
		return err
	}
	memory, err := space.Lookup(x.r.Context(), x.r.PathValue("id"))
	if err != nil {
		return err
	}
	return s.answerTagged(x, s.tag(space.Info().Incarnation, memory.Seq), memory)
}

// putBody is one memory, whose id the path says.
type putBody struct {
	engram.Memory

	MemorySpaceID *string `json:"memory_space_id"`
}

// putMemory remembers a memory under the id of the path, whether there is one or
// not.
func (s *Server) putMemory(x *exchange) error {
	var body putBody
	if err := s.decode(x, &body, maxRememberBody); err != nil {
		return err
	}
	memory := body.Memory
	switch id := x.r.PathValue("id"); memory.ID {
	case "", id:
		memory.ID = id
	default:
		return refuse(kindMalformed, "id: is not the one of the path")
	}
	space, header, err := s.selectToWrite(x, body.MemorySpaceID, memoryHeaderOf, []engram.Memory{memory})
	if err != nil {
		return err
	}
	var receipt engram.Receipt
	err = s.writeMemory(x, space, memory.ID, header, func(options ...engram.WriteOption) (err error) {
		ctx, end := inLibrary(x.r.Context(), "Remember")
		receipt, err = space.Remember(ctx, memory, options...)
		end(err)
		return err
	})
	if err != nil {
		return err
	}
	x.w.Header().Set(tagHeader, s.tag(space.Info().Incarnation, receipt.Seq))
	return x.answer(http.StatusOK, receipt)
}

func (s *Server) recall(x *exchange) error {
	var body recallBody
	if err := s.decode(x, &body, maxRecallBody); err != nil {
		return err
	}
	cue := body.Cue
	cue.Filter = engram.Filter(body.Filter)
	space, err := s.selectHandle(x, body.MemorySpaceID)
	if err != nil {
		return err
	}
	recall, err := s.recallFor(x.r.Context(), &x.request, space, cue)
	if err != nil {
		return err
	}
	return x.answer(http.StatusOK, recall)
}
