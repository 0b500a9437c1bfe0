package main

import (
	"context"
	"sync"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// answeringTransport has an input that ends only when every call that was read from
// it has been answered. The SDK gives up what is under way as soon as the input ends,
// but a client may close it right behind its last call.
type answeringTransport struct{ mcp.Transport }

// Connect implements [mcp.Transport].
func (t answeringTransport) Connect(ctx context.Context) (mcp.Connection, error) {
	connection, err := t.Transport.Connect(ctx)
	if err != nil {
		return nil, err
	}
	c := &answeringConn{Connection: connection, waiting: map[jsonrpc.ID]struct{}{}}
	c.changed = sync.NewCond(&c.mu)
	return c, nil
}

type answeringConn struct {
	mcp.Connection

	mu      sync.Mutex // guards the fields below
	changed *sync.Cond // on mu: a call was answered, or the connection closed
	waiting map[jsonrpc.ID]struct{}
	closed  bool
}

// Read implements [mcp.Connection].
func (c *answeringConn) Read(ctx context.Context) (jsonrpc.Message, error) {
	message, err := c.Connection.Read(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		for len(c.waiting) > 0 && !c.closed {
			c.changed.Wait()
		}
		return nil, err
	}
	if request, ok := message.(*jsonrpc.Request); ok && request.IsCall() {
		c.waiting[request.ID] = struct{}{}
	}
	return message, nil
}

// Write implements [mcp.Connection].
func (c *answeringConn) Write(ctx context.Context, message jsonrpc.Message) error {
	err := c.Connection.Write(ctx, message)
	if response, ok := message.(*jsonrpc.Response); ok {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.waiting, response.ID)
		c.changed.Broadcast()
	}
	return err
}

// Close implements [mcp.Connection]. The SDK calls it when nothing is under way any
// more, or nothing can be answered.
func (c *answeringConn) Close() error {
	c.mu.Lock()
	c.closed = true
	c.changed.Broadcast()
	c.mu.Unlock()
	return c.Connection.Close()
}
