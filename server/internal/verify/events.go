package verify

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/engramdb/engram"
)

// events are the claims about streams, positions and cursors.
func events() []assertion {
	return []assertion{
		{"events/sequence", "a stream has the space's own operations, each once, in order, over random disconnects while other spaces are written to", 0, trySequence},
		{"events/foreign-position", "a position that only another space has reached is refused", 0, tryForeignPosition},
		{"events/last-event-id", "a stream resumes exactly behind Last-Event-ID, and a foreign one is refused", needHTTP, tryLastEventID},
		{"events/foreign-cursor", "a listing does not go on from another space's cursor", needPages, tryForeignCursor},
	}
}

func trySequence(ctx context.Context, c *check) error {
	spaces, err := c.make(ctx, writersAtOnce)
	if err != nil {
		return err
	}
	histories := c.newHistories(spaces)
	streams, ended := make([][]engram.Event, len(histories)), make([]error, len(histories))
	following, leave := context.WithCancel(ctx)
	defer leave()
	var readers sync.WaitGroup
	for i, h := range histories {
		random := rand.New(rand.NewPCG(c.random.Uint64(), 1))
		readers.Go(func() { streams[i], ended[i] = h.follow(following, random) })
	}
	err = writeAll(ctx, histories)
	for _, h := range histories {
		if err == nil {
			err = h.end(ctx)
		}
	}
	if err != nil {
		leave()
	}
	readers.Wait()
	if err != nil {
		return err
	}
	for i, h := range histories {
		c.follows(h, histories, streams[i])
		if ended[i] != nil {
			c.fail(fmt.Errorf("the stream of space %s ends with %s", h.space.ID(), answerOf(ended[i])))
		}
	}
	return nil
}

// firstOf returns the first event of a stream, or why there is none.
func firstOf(ctx context.Context, s space, after uint64) (engram.Event, error) {
	for event, err := range s.Subscribe(ctx, after) {
		return event, err
	}
	return engram.Event{}, errors.New("the stream ends without a reason")
}

func tryForeignPosition(ctx context.Context, c *check) error {
	pair, err := c.make(ctx, 2)
	if err != nil {
		return err
	}
	var far engram.Receipt
	for i := range 8 {
		m := engram.Memory{ID: memoryID(i), Content: "An event that only one space has."}
		if far, err = pair[0].remember(ctx, m, write{}); err != nil {
			return err
		}
	}
	if _, err := pair[1].remember(ctx, engram.Memory{ID: "near", Content: "The only one."}, write{}); err != nil {
		return err
	}
	// A stream that is not refused waits for what may never come, until the
	// assertion's time is up.
	for _, after := range []uint64{far.Seq, far.Seq - 1} {
		asked, leave := context.WithCancel(ctx)
		event, err := firstOf(asked, pair[1], after)
		leave()
		c.that(err != nil && positionRefused(err), "space %s, which has one operation, streams from seq %d of space %s: %s %q, %s",
			pair[1].ID(), after, pair[0].ID(), event.Kind, event.IDs, answerOf(err))
	}
	return nil
}

func positionRefused(err error) bool {
	return reasonOf(err) == "position-unknown" || errors.Is(err, engram.ErrInvalid)
}

// tryLastEventID reads streams as a browser does.
func tryLastEventID(ctx context.Context, c *check) error {
	pair, err := c.make(ctx, 2)
	if err != nil {
		return err
	}
	const written = 6
	for i := range written {
		for k, s := range pair[:1+min(1, written-1-i)] { // the first gets one more
			m := engram.Memory{ID: memoryID(i), Content: fmt.Sprintf("Event %d of %s.", i, canaryOf(c.random.Uint64(), k))}
			if _, err := s.remember(ctx, m, write{}); err != nil {
				return err
			}
		}
	}
	server := c.over.(*web)
	for last := range written {
		id, err := server.firstID(ctx, pair[0].ID(), strconv.Itoa(last))
		if err != nil {
			return err
		}
		c.that(id == strconv.Itoa(last+1), "a stream with Last-Event-ID %d goes on with id %q", last, id)
	}
	info, err := c.over.Info(ctx, pair[0].ID())
	if err != nil {
		return err
	}
	for _, foreign := range []uint64{info.Seq, info.Seq + 1000} {
		stream, err := server.resume(ctx, pair[1].ID(), strconv.FormatUint(foreign, 10))
		if err != nil {
			return err
		}
		c.that(stream.StatusCode == http.StatusGone, "a stream of space %s with a Last-Event-ID of another space, %d, is answered with status %d",
			pair[1].ID(), foreign, stream.StatusCode)
		if err := stream.Body.Close(); err != nil {
			return err
		}
	}
	return nil
}

// resume opens a stream as a browser does that had one. Its body is the caller's
// to close.
func (w *web) resume(ctx context.Context, id engram.SpaceID, last string) (*http.Response, error) {
	sent, err := w.prepare(ctx, request{http.MethodGet, scoped(id, "/events"), map[string]string{"Last-Event-ID": last}, ""})
	if err != nil {
		return nil, err
	}
	return w.http.Do(sent)
}

// firstID returns the id of the first event of a stream that resumes.
func (w *web) firstID(ctx context.Context, id engram.SpaceID, last string) (first string, err error) {
	ctx, leave := context.WithCancel(ctx)
	defer leave()
	response, err := w.resume(ctx, id, last)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, response.Body.Close()) }()
	var read []byte
	for chunk := make([]byte, 1<<10); ; {
		n, err := response.Body.Read(chunk)
		read = append(read, chunk[:n]...)
		for line := range strings.Lines(string(read)) {
			if id, found := strings.CutPrefix(line, "id: "); found && strings.HasSuffix(id, "\n") {
				return strings.TrimSpace(id), nil
			}
		}
		if err != nil {
			return "", fmt.Errorf("the stream of space %s ends before its first event: %w", id, err)
		}
	}
}

func tryForeignCursor(ctx context.Context, c *check) error {
	for i, space := range c.stage.spaces {
		other := c.stage.spaces[(i+1)%len(c.stage.spaces)]
		first, cursor, err := other.(pager).page(ctx, "", 5)
		if err != nil {
			return err
		}
		c.that(len(first) == 5 && cursor != "", "a page of 5 of space %s has %d memories and the cursor %q", other.ID(), len(first), cursor)
		got, _, err := space.(pager).page(ctx, cursor, 5)
		c.that(err != nil && reasonOf(err) == "cursor-foreign", "space %s goes on from a cursor of space %s with %d memories, %s",
			space.ID(), other.ID(), len(got), answerOf(err))
		second, _, err := other.(pager).page(ctx, cursor, 5)
		if err != nil {
			return err
		}
		want := c.stage.all((i + 1) % len(c.stage.spaces))[5:10]
		c.that(sameContents(second, contents(want)), "the second page: %s", difference(other.ID(), second, contents(want)))
	}
	return nil
}
