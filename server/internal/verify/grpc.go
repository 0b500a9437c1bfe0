package verify

import (
	"context"
	"crypto/tls"
	"errors"
	"iter"
	"strconv"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/engramdb/engram"
	"github.com/engramdb/engram/server/client"
	"github.com/engramdb/engram/server/engramv1"
	"github.com/engramdb/engram/server/internal/wire"
)

// rpc is a server over gRPC.
type rpc struct {
	*client.Client

	conn     *grpc.ClientConn // of requests that the client would not send
	memories engramv1.MemoryServiceClient
}

// openRPC returns the server at an address, host:port. Without a configuration
// for TLS there is none. An empty key shows none.
func openRPC(address, key string, config *tls.Config) (*rpc, error) {
	options := client.Options{TLS: config, Insecure: config == nil}
	transport := insecure.NewCredentials()
	if config != nil {
		transport = credentials.NewTLS(config)
	}
	dial := []grpc.DialOption{grpc.WithTransportCredentials(transport)}
	if key != "" {
		options.Credentials = bearer{key: key, secure: config != nil}
		dial = append(dial, grpc.WithPerRPCCredentials(options.Credentials))
	}
	dialled, err := client.Dial(address, options)
	if err != nil {
		return nil, err
	}
	conn, err := grpc.NewClient(address, dial...)
	if err != nil {
		return nil, errors.Join(err, dialled.Close())
	}
	return &rpc{Client: dialled, conn: conn, memories: engramv1.NewMemoryServiceClient(conn)}, nil
}

// bearer shows a key with each call.
type bearer struct {
	key    string
	secure bool
}

func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + b.key}, nil
}

func (b bearer) RequireTransportSecurity() bool { return b.secure }

func (r *rpc) close() error { return errors.Join(r.Close(), r.conn.Close()) }

func (r *rpc) name() string { return overGRPC }

func (r *rpc) create(ctx context.Context, id engram.SpaceID) error {
	_, err := r.Create(ctx, id, engram.SpaceConfig{})
	return err
}

func (r *rpc) info(ctx context.Context, id engram.SpaceID) (engram.SpaceInfo, error) {
	return r.Info(ctx, id)
}

func (r *rpc) spaces(ctx context.Context) iter.Seq2[engram.SpaceID, error] { return r.Spaces(ctx, "") }

func (r *rpc) rename(ctx context.Context, from, to engram.SpaceID) error {
	return r.Rename(ctx, from, to)
}

func (r *rpc) remove(ctx context.Context, id engram.SpaceID) error { return r.Delete(ctx, id) }

func (r *rpc) space(id engram.SpaceID) space { return rpcSpace{r.Space(id), r} }

// rpcSpace is a space over gRPC.
type rpcSpace struct {
	*client.Space

	rpc *rpc
}

func (s rpcSpace) id() engram.SpaceID { return s.ID() }

func (s rpcSpace) remember(ctx context.Context, m engram.Memory, how write) (engram.Receipt, error) {
	var options []client.WriteOption
	if how.requestID != "" {
		options = append(options, client.RequestID(how.requestID))
	}
	if how.version != "" {
		seq, err := strconv.ParseUint(how.version, 10, 64)
		if err != nil {
			return engram.Receipt{}, err
		}
		options = append(options, client.ExpectSeq(seq))
	}
	return s.Remember(ctx, m, options...)
}

func (s rpcSpace) rememberBatch(ctx context.Context, ms []engram.Memory) ([]engram.Receipt, error) {
	return s.RememberBatch(ctx, ms)
}

func (s rpcSpace) lookup(ctx context.Context, id string) (engram.Memory, error) {
	return s.Lookup(ctx, id)
}

func (s rpcSpace) memories(ctx context.Context, f engram.Filter) iter.Seq2[engram.Memory, error] {
	return s.Memories(ctx, f)
}

func (s rpcSpace) recall(ctx context.Context, cue engram.Cue) (engram.Recall, error) {
	return s.Recall(ctx, cue)
}

func (s rpcSpace) forget(ctx context.Context, ids ...string) (engram.ForgetReceipt, error) {
	return s.Forget(ctx, ids)
}

func (s rpcSpace) associate(ctx context.Context, a engram.Association) (engram.Receipt, error) {
	return s.Associate(ctx, a)
}

func (s rpcSpace) associations(ctx context.Context, id string) ([]engram.Association, error) {
	return s.Associations(ctx, id)
}

func (s rpcSpace) subscribe(ctx context.Context, after uint64) iter.Seq2[engram.Event, error] {
	return s.Subscribe(ctx, after)
}

func (s rpcSpace) export(ctx context.Context) (string, error) {
	var text strings.Builder
	_, err := s.Export(ctx, &text)
	return text.String(), err
}

func (s rpcSpace) version(ctx context.Context) (string, error) {
	info, err := s.Info(ctx)
	return strconv.FormatUint(info.Seq, 10), err
}

func (s rpcSpace) page(ctx context.Context, cursor string, limit int) ([]engram.Memory, string, error) {
	answer, err := s.rpc.memories.ListMemories(ctx, &engramv1.ListMemoriesRequest{
		MemorySpaceId: string(s.ID()), After: cursor, Limit: int64(limit),
	})
	if err != nil {
		return nil, "", err
	}
	memories := make([]engram.Memory, len(answer.GetMemories()))
	for i, m := range answer.GetMemories() {
		if memories[i], err = wire.ToMemory(m); err != nil {
			return nil, "", err
		}
	}
	return memories, answer.GetNext(), nil
}
