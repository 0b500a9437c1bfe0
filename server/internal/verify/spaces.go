package verify

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/engramdb/engram"
)

// ErrNotOurs says that a space which the run would make is there already. It is
// left as it is, and the run ends.
var ErrNotOurs = errors.New("a space of that id exists and is not this run's")

// prefixOfSpaces begins the id of every space that a run makes, behind the prefix
// that the keys may demand.
const prefixOfSpaces = "verify-"

// maxNonces bounds how many are drawn that begin as a tenant's spaces do.
const maxNonces = 1000

// cleanupTimeout bounds the deletion of all spaces of a run.
const cleanupTimeout = time.Minute

// resembling end the ids of spaces: ids that begin alike, and that differ in what
// separates things elsewhere.
func resembling() []string {
	return []string{"aaa", "aaab", "aaa-b", "aaa_b", "aaa1", "aaa-", "aab", "aaab1"}
}

// spaces are those that the run has made and has not deleted. It is safe for
// concurrent use.
type spaces struct {
	prefix string

	mu    sync.Mutex // guards the fields below
	sets  int
	owned map[engram.SpaceID]transport
}

// newSpaces returns a run's spaces. Their ids begin as the operator's key demands, and
// not as what a tenant's key sees, unless tenants leave next to nothing else.
func newSpaces(keys roles, nonce string) *spaces {
	begin := keys.prefix + prefixOfSpaces
	for try := 0; nonce == "" || keys.tenantSees(begin+nonce) && try < maxNonces; try++ {
		nonce = strings.ToLower(rand.Text()[:12]) // 60 bits
	}
	return &spaces{prefix: begin + nonce + "-", owned: map[engram.SpaceID]transport{}}
}

// next returns ids of n spaces that were never made.
func (s *spaces) next(n int) []engram.SpaceID { return s.nextWith("", n) }

// nextWith is next for ids that begin as a tenant's must.
func (s *spaces) nextWith(tenant string, n int) []engram.SpaceID {
	s.mu.Lock()
	s.sets++
	begin := s.prefix + strconv.Itoa(s.sets) + "-"
	s.mu.Unlock()
	if tenant != "" {
		begin = tenant + strings.TrimPrefix(begin, commonPrefix(tenant, begin))
	}
	ids := make([]engram.SpaceID, n)
	for i := range ids {
		ends := resembling()
		end := ends[i%len(ends)]
		if i >= len(ends) {
			end += strconv.Itoa(i)
		}
		ids[i] = engram.SpaceID(begin + end)
	}
	return ids
}

func commonPrefix(a, b string) string {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return a[:n]
}

// make creates n spaces.
func (s *spaces) make(ctx context.Context, over transport, n int) ([]space, error) {
	ids := s.next(n)
	made := make([]space, n)
	for i, id := range ids {
		if err := s.create(ctx, over, id); err != nil {
			return nil, err
		}
		made[i] = over.space(id)
	}
	return made, nil
}

// create makes a space. Where the outcome is not known it counts as made: nobody
// else draws the same id.
func (s *spaces) create(ctx context.Context, over transport, id engram.SpaceID) error {
	err := over.create(ctx, id)
	if errors.Is(err, engram.ErrSpaceExists) {
		return fmt.Errorf("%w: %s", ErrNotOurs, id)
	}
	s.own(id, over)
	if err != nil {
		return fmt.Errorf("create space %s over %s: %w", id, over.name(), err)
	}
	return nil
}

// own notes a space that the run has brought about.
func (s *spaces) own(id engram.SpaceID, over transport) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.owned[id] = over
}

// over returns those that were made over a transport.
func (s *spaces) over(over transport) []engram.SpaceID {
	s.mu.Lock()
	defer s.mu.Unlock()
	var ids []engram.SpaceID
	for id, by := range s.owned {
		if by == over {
			ids = append(ids, id)
		}
	}
	return ids
}

func (s *spaces) isOwned(id engram.SpaceID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.owned[id] != nil
}

// remove deletes a space of the run, and refuses any other.
func (s *spaces) remove(ctx context.Context, over transport, id engram.SpaceID) error {
	if !s.isOwned(id) {
		return fmt.Errorf("delete %s: %w", id, ErrNotOurs)
	}
	err := over.Delete(ctx, id)
	if err == nil || errors.Is(err, engram.ErrSpaceNotFound) {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.owned, id)
		return nil
	}
	return fmt.Errorf("delete space %s over %s: %w", id, over.name(), err)
}

// rename renames a space of the run. Both ids count as its own until it is known
// which of them is there.
func (s *spaces) rename(ctx context.Context, over transport, from, to engram.SpaceID) error {
	if !s.isOwned(from) {
		return fmt.Errorf("rename %s: %w", from, ErrNotOurs)
	}
	err := over.Rename(ctx, from, to)
	if errors.Is(err, engram.ErrSpaceExists) {
		return fmt.Errorf("%w: %s", ErrNotOurs, to)
	}
	s.own(to, over)
	return err
}

// cleanUp deletes what is left, also when ctx has ended, and returns the ids that
// it could not delete.
func (s *spaces) cleanUp(ctx context.Context) (left []engram.SpaceID, err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
	defer cancel()
	s.mu.Lock()
	owned := make(map[engram.SpaceID]transport, len(s.owned))
	for id, over := range s.owned {
		owned[id] = over
	}
	s.mu.Unlock()
	for id, over := range owned {
		if removeErr := s.remove(ctx, over, id); removeErr != nil {
			left, err = append(left, id), errors.Join(err, removeErr)
		}
	}
	slices.Sort(left)
	return left, err
}
