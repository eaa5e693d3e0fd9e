package main

import "testing"

func TestConnectionsLeaveDescriptorsForTheStore(t *testing.T) {
	for _, row := range []struct {
		descriptors     uint64
		addresses       int
		open, ofAddress int
	}{
		{0, 1, 8, 2},
		{64, 1, 8, 2},
		{128, 1, 32, 8},
		{1024, 1, 704, 176},
		{1024, 2, 352, 88},
		{6000, 1, 4096, 1024},
		{65536, 2, 4096, 1024},
		{1 << 62, 1, 4096, 1024},
	} {
		l := connections(row.descriptors, row.addresses)
		if l.Open != row.open || l.OpenPerAddress != row.ofAddress {
			t.Errorf("of %d, %d addresses have %d connections each, %d of one client; want %d, %d", row.descriptors, row.addresses, l.Open, l.OpenPerAddress, row.open, row.ofAddress)
		}
		if l.Waiting < 2 || l.Waiting > l.Open || l.WaitingPerAddress < 2 || l.WaitingPerAddress > l.OpenPerAddress {
			t.Errorf("of %d: %+v", row.descriptors, l)
		}
		if row.descriptors >= 128 && row.descriptors < 1<<20 && l.Open*row.addresses > int(row.descriptors)*3/4-ownDescriptors {
			t.Errorf("of %d descriptors connections take %d", row.descriptors, l.Open*row.addresses)
		}
	}
}
