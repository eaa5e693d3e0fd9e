package session

import (
	"context"
	"net"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
)

// A client must not look for the fault at the database.
func TestShortageOfOurOwnIsNotToldAsTheDatabases(t *testing.T) {
	for _, shortage := range []syscall.Errno{syscall.EMFILE, syscall.ENFILE} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, nil)
			w.database.refuse = func(context.Context) error {
				return &net.OpError{Op: "dial", Net: "unix", Err: os.NewSyscallError("socket", shortage)}
			}
			c := w.connect(home)
			c.handshake(pki().app)
			c.send(startupPacket("user", "app"))
			c.wantFatal("53300", "sorry, too many clients already")
			c.leave()
			w.wait()
			if w.refused("out_of_descriptors") != 1 || w.metric("backend_dial_errors_total") != 0 {
				t.Errorf("%v: counted as %v shortages and %v failures of the database", shortage, w.refused("out_of_descriptors"), w.metric("backend_dial_errors_total"))
			}
		})
	}
}
