package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"iter"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engramdb/engram"
	ni "github.com/engramdb/engram/internal/noninterference"
	"github.com/engramdb/engram/server/client"
	"github.com/engramdb/engram/server/internal/httpclient"
)

var updateFixtures = flag.Bool("update", false, "record testdata/differential again")

// differentialStep is one line of a fixture: an operation, and its answer, or
// the sentinel of its error.
type differentialStep struct {
	Remember  []engram.Memory     `json:"remember,omitempty"`
	Forget    []string            `json:"forget,omitempty"`
	Associate *engram.Association `json:"associate,omitempty"`
	Lookup    string              `json:"lookup,omitempty"`
	Recall    *engram.Cue         `json:"recall,omitempty"`
	List      *engram.Filter      `json:"list,omitempty"`
	From      string              `json:"associations,omitempty"`
	Events    *uint64             `json:"events,omitempty"` // behind this seq

	Answer json.RawMessage `json:"answer,omitempty"`
	Error  string          `json:"error,omitempty"`
}

// player is a space as its caller has it, over one transport.
type player struct {
	space interface {
		Lookup(ctx context.Context, id string) (engram.Memory, error)
		Memories(ctx context.Context, f engram.Filter) iter.Seq2[engram.Memory, error]
		Recall(ctx context.Context, cue engram.Cue) (engram.Recall, error)
		Associations(ctx context.Context, id string) ([]engram.Association, error)
		Subscribe(ctx context.Context, after uint64) iter.Seq2[engram.Event, error]
	}
	remember  func(context.Context, []engram.Memory) ([]engram.Receipt, error)
	forget    func(context.Context, []string) (engram.ForgetReceipt, error)
	associate func(context.Context, engram.Association) (engram.Receipt, error)
}

func overLibrary(s *engram.Space) player {
	return player{
		space: s,
		remember: func(ctx context.Context, ms []engram.Memory) ([]engram.Receipt, error) {
			return s.RememberBatch(ctx, ms)
		},
		forget:    func(ctx context.Context, ids []string) (engram.ForgetReceipt, error) { return s.Forget(ctx, ids) },
		associate: func(ctx context.Context, a engram.Association) (engram.Receipt, error) { return s.Associate(ctx, a) },
	}
}

func overHTTP(s *httpclient.Space) player {
	return player{space: s, remember: s.RememberBatch, forget: s.Forget, associate: s.Associate}
}

func overGRPC(s *client.Space) player {
	return player{
		space: s,
		remember: func(ctx context.Context, ms []engram.Memory) ([]engram.Receipt, error) {
			return s.RememberBatch(ctx, ms)
		},
		forget:    func(ctx context.Context, ids []string) (engram.ForgetReceipt, error) { return s.Forget(ctx, ids) },
		associate: func(ctx context.Context, a engram.Association) (engram.Receipt, error) { return s.Associate(ctx, a) },
	}
}

// play does the step. reached is the seq of the last write, up to which events
// are read.
func (p player) play(ctx context.Context, step *differentialStep, reached *uint64) (answer any, err error) {
	switch {
	case step.Remember != nil:
		receipts, err := p.remember(ctx, step.Remember)
		if err == nil {
			*reached = receipts[len(receipts)-1].Seq
		}
		return receipts, err
	case step.Forget != nil:
		receipt, err := p.forget(ctx, step.Forget)
		if err == nil {
			*reached = receipt.Seq
		}
		return receipt, err
	case step.Associate != nil:
		receipt, err := p.associate(ctx, *step.Associate)
		if err == nil {
			*reached = receipt.Seq
		}
		return receipt, err
	case step.Lookup != "":
		return p.space.Lookup(ctx, step.Lookup)
	case step.Recall != nil:
		return p.space.Recall(ctx, *step.Recall)
	case step.From != "":
		list, err := p.space.Associations(ctx, step.From)
		return append([]engram.Association{}, list...), err
	case step.List != nil:
		list := []engram.Memory{}
		for m, err := range p.space.Memories(ctx, *step.List) {
			if err != nil {
				return nil, err
			}
			list = append(list, m)
		}
		return list, nil
	}
	events := []engram.Event{}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for e, err := range p.space.Subscribe(ctx, *step.Events) {
		if err != nil {
			return nil, err
		}
		if events = append(events, e); e.Seq >= *reached {
			break
		}
	}
	return events, nil
}

// errorName is how a fixture calls an error.
func errorName(err error) string {
	for _, sentinel := range []error{
		engram.ErrMemoryNotFound, engram.ErrInvalid, engram.ErrLimit, engram.ErrQuota, engram.ErrConflict, engram.ErrTrimmed,
	} {
		if errors.Is(err, sentinel) {
			return sentinel.Error()
		}
	}
	return err.Error()
}

// stage is where a fixture is replayed: a registry, reached over one transport,
// that can be opened again.
type stage struct {
	t        *testing.T
	dir      string
	now      time.Time
	over     string
	registry *engram.Registry
	player   func(engram.SpaceID) player
	close    func()
}

func newStage(t *testing.T, over string) *stage {
	s := &stage{t: t, dir: t.TempDir(), over: over}
	s.open()
	return s
}

func (s *stage) open() {
	var err error
	s.registry, err = engram.Open(s.dir, engram.Options{JournalBytes: 1 << 20, Clock: ni.Clock(func() time.Time { return s.now })})
	require.NoError(s.t, err)
	s.close = func() {}
	f := &fixture{t: s.t, registry: s.registry, server: New(s.registry, Options{})}
	switch s.over {
	case "library":
		s.player = func(id engram.SpaceID) player {
			space, err := s.registry.Get(s.t.Context(), id)
			require.NoError(s.t, err)
			return overLibrary(space)
		}
	case "http":
		web := httptest.NewServer(f.server)
		c, err := httpclient.New(web.URL, nil)
		require.NoError(s.t, err)
		s.player = func(id engram.SpaceID) player { return overHTTP(c.Space(id)) }
		s.close = func() {
			f.server.Drain()
			web.Close()
		}
	case "grpc":
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(s.t, err)
		ctx, stop := context.WithCancel(context.Background())
		served := make(chan error, 1)
		go func() { served <- f.server.ServeGRPC(ctx, listener) }()
		c, err := client.Dial(listener.Addr().String(), client.Options{Insecure: true})
		require.NoError(s.t, err)
		s.player = func(id engram.SpaceID) player { return overGRPC(c.Space(id)) }
		s.close = func() {
			require.NoError(s.t, c.Close())
			stop()
			require.NoError(s.t, <-served)
		}
	}
}

func (s *stage) end() {
	s.close()
	require.NoError(s.t, s.registry.Close())
}

// replay plays the steps in each of the spaces, all of them before the next one,
// opens the registry again before every so many (0: never), and returns for each
// space the lines of the fixture that it makes.
func (s *stage) replay(steps []differentialStep, spaces []engram.SpaceID, reopen int) [][]string {
	s.t.Helper()
	s.now = differentialTime(0)
	for _, id := range spaces {
		_, err := s.registry.Create(s.t.Context(), id, engram.SpaceConfig{AutoAssociate: 2})
		require.NoError(s.t, err)
	}
	reached := make([]uint64, len(spaces))
	lines := make([][]string, len(spaces))
	for i := range steps {
		if reopen > 0 && i%reopen == reopen-1 {
			s.end()
			s.open()
		}
		s.now = differentialTime(i)
		for j, id := range spaces {
			step := steps[i]
			answer, err := s.player(id).play(s.t.Context(), &step, &reached[j])
			step.Answer, step.Error = nil, ""
			if err != nil {
				step.Error = errorName(err)
			} else {
				step.Answer, err = json.Marshal(answer)
				require.NoError(s.t, err)
			}
			line, err := json.Marshal(step)
			require.NoError(s.t, err)
			lines[j] = append(lines[j], strings.ReplaceAll(string(line), fmt.Sprintf(`"space":%q`, id), `"space":"the-space"`))
		}
	}
	s.end()
	return lines
}

// differentialTime is when the step is done.
func differentialTime(step int) time.Time {
	return time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC).Add(time.Duration(step) * time.Minute)
}

// Recorded conversations give the recorded answers: in one space alone, in many
// that take turns, in the library, over HTTP and over gRPC, in a registry that
// stays open and in one that is opened again and again.
func TestDifferential(t *testing.T) {
	for _, name := range []string{"dialogue", "vectors"} {
		path := filepath.Join("testdata", "differential", name+".jsonl")
		if *updateFixtures {
			recorded := newStage(t, "library").replay(differentialScript(name), []engram.SpaceID{"alone"}, 0)[0]
			require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
			require.NoError(t, os.WriteFile(path, []byte(strings.Join(recorded, "\n")+"\n"), 0o644))
		}
		content, err := os.ReadFile(path)
		require.NoError(t, err)
		var recorded []string
		var steps []differentialStep
		for line := range bytes.Lines(content) {
			var step differentialStep
			require.NoError(t, json.Unmarshal(line, &step))
			steps = append(steps, step)
			recorded = append(recorded, strings.TrimSuffix(string(line), "\n"))
		}
		require.NotEmpty(t, steps)
		for _, over := range []string{"library", "http", "grpc"} {
			for _, spaces := range [][]engram.SpaceID{{"alone"}, {"many", "many-b", "manyb"}} {
				for _, reopen := range []int{0, 16} {
					t.Run(fmt.Sprintf("%s/%s/spaces=%d/reopen=%d", name, over, len(spaces), reopen), func(t *testing.T) {
						if testing.Short() && reopen == 0 {
							t.Skip("the replays that open the registry again do the same, and more")
						}
						for _, lines := range newStage(t, over).replay(steps, spaces, reopen) {
							require.Equal(t, recorded, lines)
						}
					})
				}
			}
		}
	}
}
