package verify

import (
	"context"
	"crypto/tls"
	"errors"
	"strconv"

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

func (r *rpc) space(id engram.SpaceID) space { return rpcSpace{r.Space(id), r} }

// rpcSpace is a space over gRPC.
type rpcSpace struct {
	*client.Space

	rpc *rpc
}

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

// The client's writes take options besides.

func (s rpcSpace) RememberBatch(ctx context.Context, ms []engram.Memory) ([]engram.Receipt, error) {
	return s.Space.RememberBatch(ctx, ms)
}

func (s rpcSpace) Forget(ctx context.Context, ids []string) (engram.ForgetReceipt, error) {
	return s.Space.Forget(ctx, ids)
}

func (s rpcSpace) Associate(ctx context.Context, a engram.Association) (engram.Receipt, error) {
	return s.Space.Associate(ctx, a)
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
