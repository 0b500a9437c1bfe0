package noninterference

import (
	"bytes"
	"sync"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// Log keeps all that an instance logs, at every level and without the time. It is
// safe for concurrent use.
type Log struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

// Logger returns one that logs to l.
func (l *Log) Logger() *zap.Logger {
	return zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(zapcore.EncoderConfig{MessageKey: "m"}), l, zapcore.DebugLevel))
}

// Write implements [zapcore.WriteSyncer].
func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// Sync implements [zapcore.WriteSyncer].
func (*Log) Sync() error { return nil }

// String returns what was logged.
func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
