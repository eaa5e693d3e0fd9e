package store

import (
	"slices"
	"sync"

	"github.com/rs/zerolog"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// remark is a message of etcd, with the error in it if it has one.
type remark struct{ message, problem string }

// beside are remarks that say nothing about this etcd.
var beside = []remark{
	// It listens nowhere.
	{"Running http and grpc server on single port. This is not recommended for production.", ""},
	// In its first second, also after a kill in it, the version of the format may not be written yet; it looks again after
	// four.
	{"Failed to detect storage schema version. Please wait till wal snapshot before upgrading cluster.", ""},
	{"Failed to detect schema version", "missing term information"},
	{"failed to update storage version", "cannot detect storage schema version: missing term information"},
	// It was closed in that second.
	{"failed to update cluster version", "context canceled"},
	{"failed to update cluster version", "etcdserver: request cancelled"},
}

// zapLogger hands warnings and errors of etcd on to another logger. What etcd tells beyond them is about itself, and
// for its makers.
func zapLogger(log zerolog.Logger) *zap.Logger {
	return zap.New(&core{log: log})
}

// core is a zapcore.Core.
type core struct {
	log    zerolog.Logger
	fields []zapcore.Field
	held   *held // nil: nothing is held
}

// held are messages that wait until it is known whether they are worth telling.
type held struct {
	mu       sync.Mutex
	released bool
	messages []func()
}

// maxHeld bounds them; a start has a handful.
const maxHeld = 100

// hold keeps a message, and reports whether it does.
func (h *held) hold(message func()) bool {
	if h == nil {
		return false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.released {
		return false
	}
	if len(h.messages) < maxHeld {
		h.messages = append(h.messages, message)
	}
	return true
}

// release logs everything that was held, and holds nothing any more.
func (h *held) release() {
	h.mu.Lock()
	messages := h.messages
	h.released, h.messages = true, nil
	h.mu.Unlock()
	for _, message := range messages {
		message()
	}
}

func (c *core) Enabled(level zapcore.Level) bool { return level >= zapcore.WarnLevel }

func (c *core) With(fields []zapcore.Field) zapcore.Core {
	return &core{log: c.log, fields: slices.Concat(c.fields, fields), held: c.held}
}

func (c *core) Check(entry zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(entry.Level) {
		return checked.AddCore(entry, c)
	}
	return checked
}

// Write logs one entry. What etcd calls fatal or a panic is an error here; [fatal] says what follows.
func (c *core) Write(entry zapcore.Entry, fields []zapcore.Field) error {
	level := zerolog.ErrorLevel
	if entry.Level == zapcore.WarnLevel {
		level = zerolog.WarnLevel
	}
	values := zapcore.NewMapObjectEncoder()
	for _, field := range c.fields {
		field.AddTo(values)
	}
	for _, field := range fields {
		field.AddTo(values)
	}
	problem, _ := values.Fields["error"].(string)
	if slices.Contains(beside, remark{entry.Message, problem}) {
		return nil
	}
	tell := func() { c.log.WithLevel(level).Fields(values.Fields).Msg("etcd: " + entry.Message) }
	if !c.held.hold(tell) {
		tell()
	}
	return nil
}

func (c *core) Sync() error { return nil }
