package main

import (
	"io"
	"time"

	"github.com/rs/zerolog"

	"pgmtls-proxy/internal/config"
	"pgmtls-proxy/internal/sockopt"
)

// newLogger makes the one logger. It is handed on as a value.
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
