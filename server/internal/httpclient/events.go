package httpclient

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strconv"

	"github.com/engramdb/engram"
)

// maxEventBytes bounds one line of an event stream: a memory of the greatest
// size, as JSON.
const maxEventBytes = 16 << 20

const endEvent = "end"

// Subscribe yields every operation of the space after a seq, those that are there
// and then those that follow. The error comes last: what the server says that
// the stream ends for, or io.ErrUnexpectedEOF where it does not say. To go on,
// subscribe after the last event's Seq.
func (s *Space) Subscribe(ctx context.Context, after uint64) iter.Seq2[engram.Event, error] {
	return func(yield func(engram.Event, error) bool) {
		response, err := s.client.send(ctx, call{
			method: http.MethodGet, path: spacePath(s.id) + "/events", accept: "text/event-stream",
			query: url.Values{"after": {strconv.FormatUint(after, 10)}},
		})
		if err != nil {
			yield(engram.Event{}, err)
			return
		}
		if err := requireType(response, "text/event-stream"); err != nil {
			yield(engram.Event{}, errors.Join(err, response.Body.Close()))
			return
		}
		wanted, err := readEvents(response.Body, yield)
		closed := response.Body.Close()
		switch {
		case !wanted:
		case ctx.Err() != nil:
			yield(engram.Event{}, ctx.Err())
		case err != nil:
			yield(engram.Event{}, err)
		case closed != nil:
			yield(engram.Event{}, closed)
		default:
			yield(engram.Event{}, io.ErrUnexpectedEOF)
		}
	}
}

// readEvents yields the events of a stream until it ends. It reports whether the
// consumer still wants to hear of it.
func readEvents(stream io.Reader, yield func(engram.Event, error) bool) (bool, error) {
	lines := bufio.NewScanner(stream)
	lines.Buffer(make([]byte, 0, 64<<10), maxEventBytes)
	var name string
	var data []byte
	for lines.Scan() {
		field, value, _ := bytes.Cut(lines.Bytes(), []byte(":"))
		value = bytes.TrimPrefix(value, []byte(" "))
		switch {
		case string(field) == "event":
			name = string(value)
		case string(field) == "data":
			data = append(data, value...)
		case len(lines.Bytes()) == 0 && data != nil:
			event, err := eventOf(name, data)
			if err != nil {
				return true, err
			}
			if !yield(event, nil) {
				return false, nil
			}
			name, data = "", nil
		}
	}
	return true, lines.Err()
}

// eventOf decodes an event. The last one of a stream is an error.
func eventOf(name string, data []byte) (engram.Event, error) {
	if name == endEvent {
		var end struct {
			Problem Problem `json:"problem"`
		}
		if err := json.Unmarshal(data, &end); err != nil {
			return engram.Event{}, fmt.Errorf("read end of events: %w", err)
		}
		return engram.Event{}, &end.Problem
	}
	var event engram.Event
	if err := json.Unmarshal(data, &event); err != nil {
		return engram.Event{}, fmt.Errorf("read event: %w", err)
	}
	return event, nil
}
