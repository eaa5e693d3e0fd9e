package store

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/etcd/etcdutl/v3/snapshot"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"pgmtls-proxy/internal/atomicfile"
)

// sector divides the size of a database. A snapshot is one, and then its SHA-256.
const sector = 512

// SaveSnapshot writes the whole state as it is now, of a cluster also what others keep there. It reports a stream that
// ended early, so what was written without an error is complete.
func (s *Store) SaveSnapshot(ctx context.Context, w io.Writer) error {
	if err := s.saveSnapshot(ctx, w); err != nil {
		return s.wrap(err, "save snapshot")
	}
	return nil
}

func (s *Store) saveSnapshot(ctx context.Context, w io.Writer) error {
	leave, err := s.enter()
	if err != nil {
		return err
	}
	defer leave()
	// However long it takes: it depends on the size.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	stream, err := s.client.Snapshot(ctx)
	if err != nil {
		return err
	}
	defer stream.Close()
	check := digest{hash: sha256.New()}
	if _, err := io.Copy(io.MultiWriter(w, &check), stream); err != nil {
		return err
	}
	return check.verdict()
}

// RestoreSnapshot makes the data directory of an etcd inside the daemon from the file of a snapshot. The directory must
// not exist, or be empty; after an error it is as it was. Every revision afterwards is greater than any before, and
// whoever watches from one of before gets ErrCompacted.
func RestoreSnapshot(ctx context.Context, file, dataDir string) (err error) {
	if err := checkSnapshot(ctx, file); err != nil {
		return fmt.Errorf("restore snapshot %s: %w", file, err)
	}
	if err := checkEmpty(dataDir); err != nil {
		return fmt.Errorf("restore snapshot into %s: %w", dataDir, err)
	}
	dataDir = filepath.Clean(dataDir)
	if err := os.MkdirAll(filepath.Dir(dataDir), 0o700); err != nil {
		return fmt.Errorf("restore snapshot: %w", err)
	}
	// Made beside it and renamed, it is there as a whole or not at all.
	made, err := os.MkdirTemp(filepath.Dir(dataDir), "."+filepath.Base(dataDir)+"-restore-")
	if err != nil {
		return fmt.Errorf("restore snapshot: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(made)) }() // after the rename there is nothing
	err = snapshot.NewV3(zap.NewNop()).Restore(snapshot.RestoreConfig{
		SnapshotPath:        file,
		Name:                memberName,
		OutputDataDir:       made,
		PeerURLs:            []string{memberURL},
		InitialCluster:      memberName + "=" + memberURL,
		InitialClusterToken: memberName,
		RevisionBump:        leap(time.Now()),
		MarkCompacted:       true,
	})
	if err != nil {
		return fmt.Errorf("restore snapshot %s: %w", file, err)
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("restore snapshot %s: %w", file, err)
	}
	// os.Rename refuses to replace a directory. The kernel does it, if the directory is empty.
	if err := unix.Rename(made, dataDir); err != nil {
		return fmt.Errorf("restore snapshot: rename %s to %s: %w", made, dataDir, err)
	}
	return atomicfile.SyncDirectory(filepath.Dir(dataDir))
}

// leap is how far the revision jumps with a restore. What was committed after the snapshot had revisions too, also after
// an earlier restore of the same one, and none of them may come again for something else. They are passed by
// milliseconds unless there were a thousand commits in each second in between.
func leap(now time.Time) uint64 { return uint64(now.UnixMilli()) }

// checkSnapshot refuses a file that is not what SaveSnapshot wrote. etcd checks it too, but panics at a database that
// it can't read.
func checkSnapshot(ctx context.Context, path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	check := digest{hash: sha256.New()}
	if _, err := io.Copy(&check, &reader{ctx: ctx, from: file}); err != nil {
		return err
	}
	if err := check.verdict(); err != nil {
		return err
	}
	if _, err := snapshot.NewV3(zap.NewNop()).Status(path); err != nil {
		return fmt.Errorf("not a snapshot: %w", err)
	}
	return nil
}

func checkEmpty(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if len(entries) > 0 {
		return errors.New("directory is not empty; move it away first, and keep it until the restored one works")
	}
	return nil
}

// digest is told a snapshot, and compares its end with the hash of the rest.
type digest struct {
	hash hash.Hash
	tail []byte // what may be the hash at the end, of its size at most
	size int64
}

func (d *digest) Write(p []byte) (int, error) {
	d.size += int64(len(p))
	d.tail = append(d.tail, p...)
	if over := len(d.tail) - sha256.Size; over > 0 {
		d.hash.Write(d.tail[:over])
		d.tail = append(d.tail[:0], d.tail[over:]...)
	}
	return len(p), nil
}

func (d *digest) verdict() error {
	if d.size <= sha256.Size || d.size%sector != sha256.Size {
		return fmt.Errorf("incomplete snapshot: %d bytes; take another one", d.size)
	}
	if string(d.hash.Sum(nil)) != string(d.tail) {
		return errors.New("damaged snapshot: the checksum does not match; take another one")
	}
	return nil
}

// reader ends with a ctx.
type reader struct {
	ctx  context.Context
	from io.Reader
}

func (r *reader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.from.Read(p)
}
