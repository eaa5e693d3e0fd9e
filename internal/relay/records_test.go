package relay

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"
	"sync"
	"testing"
)

// forger writes a client's TLS 1.3 records itself, to send what crypto/tls never would. Package crypto/tls still reads.
type forger struct {
	t      *testing.T
	l      *link
	secret []byte
	aead   cipher.AEAD
	iv     []byte
	seq    uint64
}

// Content types and messages: RFC 8446, appendices B.1 to B.3.
const (
	typeAlert       = 21
	typeHandshake   = 22
	typeApplication = 23
)

// keyUpdate asks the other side to update its key, too.
var keyUpdate = []byte{24, 0, 0, 1, 1}

// eachForger runs a test with both engines.
func eachForger(t *testing.T, test func(f *forger)) {
	eachEngine(t, func(t *testing.T, engine Engine) {
		var keys bytes.Buffer
		l := startLogged(t, engine, &keys)
		if suite := l.client.ConnectionState().CipherSuite; suite != tls.TLS_AES_128_GCM_SHA256 {
			t.Skipf("the forger knows AES-128 only, not %s: this processor has no AES", tls.CipherSuiteName(suite))
		}
		f := &forger{t: t, l: l}
		for line := range strings.Lines(keys.String()) {
			if fields := strings.Fields(line); fields[0] == "CLIENT_TRAFFIC_SECRET_0" {
				f.secret, _ = hex.DecodeString(fields[2])
			}
		}
		f.rekey()
		test(f)
	})
}

// rekey derives key and nonce from the secret: RFC 8446, section 7.3.
func (f *forger) rekey() {
	block, err := aes.NewCipher(f.expand("key", 16))
	if err != nil {
		f.t.Fatal(err)
	}
	if f.aead, err = cipher.NewGCM(block); err != nil {
		f.t.Fatal(err)
	}
	f.iv, f.seq = f.expand("iv", 12), 0
}

// expand is HKDF-Expand-Label with an empty context: RFC 8446, section 7.1.
func (f *forger) expand(label string, length int) []byte {
	label = "tls13 " + label
	info := binary.BigEndian.AppendUint16(nil, uint16(length))
	info = append(append(append(info, byte(len(label))), label...), 0)
	out, err := hkdf.Expand(sha256.New, f.secret, string(info), length)
	if err != nil {
		f.t.Fatal(err)
	}
	return out
}

// record seals one.
func (f *forger) record(contentType byte, content []byte) []byte {
	inner := append(bytes.Clone(content), contentType)
	header := []byte{typeApplication, 3, 3, 0, 0}
	binary.BigEndian.PutUint16(header[3:], uint16(len(inner)+f.aead.Overhead()))
	nonce := bytes.Clone(f.iv)
	for i := range 8 {
		nonce[4+i] ^= byte(f.seq >> (56 - 8*i))
	}
	f.seq++
	return f.aead.Seal(header, nonce, inner, header)
}

// update is a KeyUpdate, with the new key from then on.
func (f *forger) update() []byte {
	r := f.record(typeHandshake, keyUpdate)
	f.secret = f.expand("traffic upd", 32)
	f.rekey()
	return r
}

func (f *forger) send(records ...[]byte) { send(f.t, f.l.socket, bytes.Join(records, nil)) }

func TestKeyUpdateIsFollowedAndAnswered(t *testing.T) {
	eachForger(t, func(f *forger) {
		f.send(f.record(typeApplication, []byte("before ")), f.update(), f.record(typeApplication, []byte("after")))
		f.l.want(f.l.server, []byte("before after"))
		send(f.t, f.l.server, ready()) // sealed with the key that the answer has announced
		f.l.want(f.l.client, ready())
	})
}

// Each KeyUpdate is answered with a record, in between of what the server sends.
func TestManyKeyUpdatesBetweenBytesKeepBothStreams(t *testing.T) {
	eachForger(t, func(f *forger) {
		for i := range 2000 {
			f.send(f.update(), f.record(typeApplication, []byte{byte(i)}))
			f.l.want(f.l.server, []byte{byte(i)})
			if i%8 == 7 { // the reader takes 16 records without content in a row, and no more
				send(f.t, f.l.server, ready())
				f.l.want(f.l.client, ready())
			}
		}
	})
}

func TestFloodOfKeyUpdatesEndsTheSession(t *testing.T) {
	eachForger(t, func(f *forger) {
		var flood [][]byte
		for range 200 {
			flood = append(flood, f.update())
		}
		f.send(flood...)
		if r := f.l.result(); r.End != ClientLost || r.Err == nil {
			t.Errorf("got %v, %v", r.End, r.Err)
		}
	})
}

func TestRecordsWithoutContentPass(t *testing.T) {
	eachForger(t, func(f *forger) {
		empty := f.record(typeApplication, nil)
		f.send(empty, f.record(typeApplication, nil), f.record(typeApplication, []byte("x")), f.record(typeApplication, nil))
		f.l.want(f.l.server, []byte("x"))
		f.send(f.record(typeApplication, []byte("y")))
		f.l.want(f.l.server, []byte("y"))
	})
}

func TestFatalAlertIsALostClient(t *testing.T) {
	eachForger(t, func(f *forger) {
		f.send(f.record(typeApplication, []byte("x")), f.record(typeAlert, []byte{2, 80}))
		f.l.want(f.l.server, []byte("x"))
		if r := f.l.result(); r.End != ClientLost || r.Err == nil {
			t.Errorf("got %v, %v", r.End, r.Err)
		}
	})
}

func TestNothingBehindACloseNotifyCounts(t *testing.T) {
	eachForger(t, func(f *forger) {
		f.send(f.record(typeApplication, []byte("x")), f.record(typeAlert, []byte{1, 0}), f.record(typeApplication, []byte("y")))
		f.l.want(f.l.server, []byte("x"))
		f.l.server.Close()
		if r := f.l.result(); r.End != ClientClosed || f.l.bytes.ToServer.Load() != 1 {
			t.Errorf("got %v, %d bytes", r.End, f.l.bytes.ToServer.Load())
		}
	})
}

// Descriptors and slots are used again at once. No byte of one session may come out of another.
func TestSessionsThatComeAndGoStayApart(t *testing.T) {
	eachEngine(t, func(t *testing.T, engine Engine) {
		lasting := start(t, engine, 0)
		var crowd sync.WaitGroup
		for worker := range 8 {
			crowd.Go(func() {
				for i := range 25 {
					l := start(t, engine, 0)
					word := fmt.Appendf(nil, "worker %d, session %d", worker, i)
					send(t, l.client, word)
					l.want(l.server, word)
					send(t, l.server, message('D', string(word)))
					l.want(l.client, message('D', string(word)))
					switch i % 4 {
					case 0:
						l.socket.Close()
					case 1:
						l.server.Close()
					case 2:
						l.relay.Abort()
					case 3:
						l.relay.Stop(AtBoundary, ready())
						l.socket.Close()
					}
				}
			})
		}
		crowd.Wait()
		send(t, lasting.client, []byte("mine"))
		lasting.want(lasting.server, []byte("mine"))
	})
}
