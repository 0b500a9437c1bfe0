package server

import (
	"errors"
	"math"
	"net/http"
	"strconv"
	"strings"

	"github.com/engramdb/engram"
	"github.com/engramdb/engram/server/internal/local"
)

const tagHeader = "Etag" // as net/http writes it

// maxTagAttempts bounds how often a write with the tag of a memory is tried
// again because other writes came between looking and writing.
const maxTagAttempts = 32

// errTagMismatch: the write's condition on a memory does not hold.
var errTagMismatch = refuse(kindChanged, "the memory is not the one that If-Match or If-None-Match describes")

// tag returns the entity tag of what the operation seq left. The incarnation
// tells spaces from others that had their id, the epoch tells a seq from one that
// was lost with the operating system and given again. Neither depends on other
// spaces.
func (s *Server) tag(incarnation string, seq uint64) string {
	tag := make([]byte, 0, 64)
	tag = append(tag, '"')
	tag = append(tag, incarnation[:min(len(incarnation), 16)]...)
	tag = append(tag, '-')
	tag = strconv.AppendUint(tag, uint64(s.epoch), 10)
	tag = append(tag, '-')
	tag = strconv.AppendUint(tag, seq, 10)
	return string(append(tag, '"'))
}

// answerTagged sends v with its tag, or 304 if the client has it.
func (s *Server) answerTagged(x *exchange, tag string, v any) error {
	x.w.Header().Set(tagHeader, tag)
	given, err := tagsOf(x.r, "If-None-Match")
	if err != nil {
		return err
	}
	if given.matches(tag) {
		return x.answerEmpty(http.StatusNotModified)
	}
	return x.answer(http.StatusOK, v)
}

// tags are those of an If-Match or If-None-Match.
type tags struct {
	given bool
	any   bool // "*": whatever there is
	list  []string
}

// matches compares without regard to weakness: a proxy that compresses marks a
// tag as weak, and each names one operation all the same.
func (t tags) matches(tag string) bool {
	if t.any {
		return true
	}
	for _, given := range t.list {
		if given == tag {
			return true
		}
	}
	return false
}

func tagsOf(r *http.Request, header string) (tags, error) {
	values := r.Header.Values(header)
	if len(values) == 0 {
		return tags{}, nil
	}
	t := tags{given: true}
	for _, part := range strings.Split(strings.Join(values, ","), ",") {
		part = strings.TrimSpace(part)
		if part == "*" {
			t.any = true
			continue
		}
		part = strings.TrimPrefix(part, "W/")
		if len(part) < 2 || part[0] != '"' || part[len(part)-1] != '"' {
			return tags{}, refuse(kindMalformedRequest, "the header "+header+" must be * or a list of quoted tags")
		}
		t.list = append(t.list, part)
	}
	return t, nil
}

// refusePreconditions refuses conditions where nothing could hold them: to
// ignore one would be to write against the client's word.
func refusePreconditions(r *http.Request) error {
	for _, header := range []string{"If-Match", "If-None-Match"} {
		if len(r.Header.Values(header)) > 0 {
			return refuse(kindMalformedRequest, "the header "+header+" is not supported here")
		}
	}
	return nil
}

// writeHeader is what the header of a write says.
type writeHeader struct {
	options     []engram.WriteOption // the id of a retried write
	match, none tags                 // If-Match and If-None-Match
}

// memoryHeaderOf reads the header of a write to one memory.
func memoryHeaderOf(r *http.Request) (h writeHeader, err error) {
	if h.options, err = requestOptions(r); err != nil {
		return h, err
	}
	if h.match, err = tagsOf(r, "If-Match"); err != nil {
		return h, err
	}
	h.none, err = tagsOf(r, "If-None-Match")
	return h, err
}

// spaceHeaderOf reads the header of a write to a space, whose If-Match holds the tag
// of the space as it must be.
func spaceHeaderOf(r *http.Request) (writeHeader, error) {
	h, err := memoryHeaderOf(r)
	switch {
	case err != nil:
		return h, err
	case h.none.given:
		return h, refuse(kindMalformedRequest, "the header If-None-Match is not supported here")
	case !h.match.any && len(h.match.list) > 1:
		return h, refuse(kindMalformedRequest, "the header If-Match must hold one tag here")
	}
	return h, nil
}

// spaceOptions returns how the header of a write to a space says that it is to be
// written.
func (s *Server) spaceOptions(space *engram.Space, h writeHeader) []engram.WriteOption {
	if !h.match.given || h.match.any {
		return h.options
	}
	seq, ok := seqOf(h.match.list[0])
	if !ok || h.match.list[0] != s.tag(space.Info().Incarnation, seq) {
		// Of another life of the space. A retry of a write that took effect still
		// gets its receipt, everything else a conflict.
		seq = math.MaxUint64
	}
	return append(h.options, engram.ExpectSeq(seq))
}

// seqOf returns the seq that ends a tag.
func seqOf(tag string) (uint64, bool) {
	tag = strings.Trim(tag, `"`)
	seq, err := strconv.ParseUint(tag[strings.LastIndexByte(tag, '-')+1:], 10, 64)
	return seq, err == nil
}

// requestOptions reads the id of a retried write.
func requestOptions(r *http.Request) ([]engram.WriteOption, error) {
	keys := r.Header.Values(idempotencyHeader)
	switch {
	case len(keys) == 0:
		return nil, nil
	case len(keys) > 1 || keys[0] == "":
		return nil, refuse(kindMalformedRequest, "the header "+idempotencyHeader+" must be given once and not be empty")
	}
	return []engram.WriteOption{engram.RequestID(keys[0])}, nil
}

// writeMemory carries out a write to one memory under the conditions of its
// header: If-Match holds if the memory has one of the tags, If-None-Match: * if
// there is no such memory. The library compares the seq of the whole space; so
// the memory is looked at, the write made to expect the seq before that look,
// and all of it done again where another write came between.
func (s *Server) writeMemory(
	x *exchange, space *engram.Space, id string, h writeHeader, write func(...engram.WriteOption) error,
) error {
	if !h.match.given && !h.none.given {
		return write(h.options...)
	}
	for range maxTagAttempts {
		seq, holds, err := s.holds(x, space, id, h)
		if err != nil {
			return err
		}
		if !holds {
			// It may be the retry of a write that took effect: then the library
			// knows its id, and answers before it compares the seq.
			seq = math.MaxUint64
		}
		err = write(append(h.options[:len(h.options):len(h.options)], engram.ExpectSeq(seq))...)
		switch {
		case !errors.Is(err, engram.ErrConflict):
			return err
		case !holds:
			return errTagMismatch
		}
	}
	return engram.ErrBusy
}

// holds reports whether the conditions hold, and the seq at which they were
// looked at, or an earlier one.
func (s *Server) holds(x *exchange, space *engram.Space, id string, h writeHeader) (uint64, bool, error) {
	if err := local.Wake(x.r.Context(), space); err != nil {
		return 0, false, err
	}
	info := space.Info()
	memory, err := space.Lookup(x.r.Context(), id)
	if errors.Is(err, engram.ErrMemoryNotFound) {
		return info.Seq, !h.match.given, nil
	}
	if err != nil {
		return 0, false, err
	}
	tag := s.tag(info.Incarnation, memory.Seq)
	return info.Seq, (!h.match.given || h.match.matches(tag)) && (!h.none.given || !h.none.matches(tag)), nil
}
