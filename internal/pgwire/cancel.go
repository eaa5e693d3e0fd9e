package pgwire

import (
	"encoding/binary"
	"io"
)

// Lengths of a CancelRequest with its length word. Up to protocol 3.0 the key has 4 bytes, since 3.2 up to 256.
const (
	minCancel = 8 + 4 + 4
	maxCancel = 8 + 4 + 256
)

// Key is what a server gives a session to cancel its queries with: BackendKeyData. Secret is as good as a
// password for that purpose and is never logged.
type Key struct {
	PID    uint32
	Secret []byte
}

// Cancel is a client's CancelRequest.
type Cancel struct {
	Raw []byte // with the length word, to be forwarded
	Key Key
}

// ReadCancel reads the CancelRequest that the opening announced. Errors are as for [ReadStartup].
func ReadCancel(r io.Reader, o Opening) (*Cancel, error) {
	packet, err := o.readBody(r, minCancel, maxCancel)
	if err != nil {
		return nil, err
	}
	return &Cancel{Raw: packet, Key: Key{PID: binary.BigEndian.Uint32(packet[8:]), Secret: packet[12:]}}, nil
}

// CancelPacket is the CancelRequest for a key.
func CancelPacket(key Key) []byte {
	packet := make([]byte, 0, minCancel-4+len(key.Secret))
	packet = binary.BigEndian.AppendUint32(packet, uint32(minCancel-4+len(key.Secret)))
	packet = binary.BigEndian.AppendUint32(packet, CancelRequestCode)
	packet = binary.BigEndian.AppendUint32(packet, key.PID)
	return append(packet, key.Secret...)
}
