package session

import (
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

// A server that takes the startup packet and is silent: its client is told in time, and the slot is free again.
func TestServerWithoutAFirstByteIsToldInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(c *Config) { c.FirstByteTimeout = time.Minute })
		w.database.play = func(conn net.Conn) { io.Copy(io.Discard, conn) }
		c := w.connect(home)
		c.handshake(pki().app)
		c.send(startupPacket("user", "app"))
		if answer := c.fatal(); answer.Code != "57P03" {
			t.Errorf("the client reads %s %s", answer.Code, answer.Message)
		}
		if took := time.Since(c.since); took != time.Minute {
			t.Errorf("told after %v, want 1m", took)
		}
		c.leave()
		w.wait()
		if w.sessions.Table().Len() != 0 || w.refused("backend_unavailable") != 1 || w.last()["refusal"] != "backend_unavailable" {
			t.Errorf("%d sessions are left, the log has %v", w.sessions.Table().Len(), w.last())
		}
	})
}

// The bound is for the first byte. What a login takes after it, such as a person who types a password, is the server's to bound.
func TestLoginMayTakeLongBehindItsFirstByte(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(c *Config) { c.FirstByteTimeout = time.Minute })
		w.database.play = func(conn net.Conn) {
			readPacket(conn, 0)
			pass(59 * time.Second)
			io.WriteString(conn, message('R', "\x00\x00\x00\x03"))
			pass(time.Hour)
			io.WriteString(conn, loginAnswer)
			io.Copy(io.Discard, conn)
		}
		c := w.connect(home)
		c.handshake(pki().app)
		c.send(startupPacket("user", "app"))
		c.want(message('R', "\x00\x00\x00\x03") + loginAnswer)
		c.leave()
	})
}

func TestServerThatEndsBeforeItsFirstByteIsUnavailable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(c *Config) { c.FirstByteTimeout = time.Minute })
		w.database.play = func(conn net.Conn) { readPacket(conn, 0) }
		c := w.connect(home)
		c.handshake(pki().app)
		c.send(startupPacket("user", "app"))
		if answer := c.fatal(); answer.Code != "57P03" {
			t.Errorf("the client reads %s %s", answer.Code, answer.Message)
		}
		c.leave()
		w.wait()
		if w.refused("backend_unavailable") != 1 || w.last()["refusal"] != "backend_unavailable" {
			t.Errorf("the log has %v", w.last())
		}
	})
}
