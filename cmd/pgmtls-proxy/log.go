package main

import (
	"io"
	"os"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/term"

	"pgmtls-proxy/internal/config"
	"pgmtls-proxy/internal/logqueue"
	"pgmtls-proxy/internal/sockopt"
)

// lossMessage is logged when lines were lost and the log can be written again.
const lossMessage = "lines of the log were lost: its reader was too slow or gone, or its disk was full"

// flushLimit is how long the last lines of the log, and the last words to the supervisor, have at the end.
const flushLimit = time.Second

// openLog makes the one logger, which is handed on as a value, and the queue beneath it, which its owner closes last. Nothing that
// logs waits for the reader of w.
func openLog(cfg config.Log, w io.Writer) (zerolog.Logger, *logqueue.Writer) {
	var log zerolog.Logger
	lines := logqueue.New(w, logqueue.Options{OnLoss: func(lines uint64) {
		log.Warn().Uint64("lines", lines).Msg(lossMessage)
	}})
	cfg.Format = cfg.FormatFor(terminal(w))
	log = newLogger(cfg, lines)
	return log, lines
}

// terminal reports whether a writer is one, so that people read what is written.
func terminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}

// newLogger makes a logger that writes to w.
func newLogger(cfg config.Log, w io.Writer) zerolog.Logger {
	if cfg.Format == config.LogConsole {
		w = zerolog.ConsoleWriter{Out: w, TimeFormat: time.TimeOnly}
	}
	level, err := zerolog.ParseLevel(string(cfg.Level))
	if err != nil {
		level = zerolog.InfoLevel
	}
	return zerolog.New(w).Level(level).With().Timestamp().Logger()
}

// socketOptions are those of both legs of a session.
func socketOptions(cfg config.TCP) sockopt.TCP {
	return sockopt.TCP{
		KeepAliveIdle:     cfg.KeepalivesIdle,
		KeepAliveInterval: cfg.KeepalivesInterval,
		KeepAliveCount:    cfg.KeepalivesCount,
		UserTimeout:       cfg.UserTimeout,
	}
}
