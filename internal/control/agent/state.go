package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"pgmtls-proxy/internal/atomicfile"
	"pgmtls-proxy/internal/secretfile"
)

// The files of a state directory. They are replaced as a whole: a process that is killed leaves the old one or the new.
const (
	identityFile = "agent.json"  // with the private key
	newestFile   = "newest.json" // the newest generation that was ever had
	maxStateFile = 1 << 20       // bytes
)

// state is the directory that an agent keeps what it must not forget in. One process has it at a time.
type state struct {
	path string
	dir  *os.File // holds the lock
}

// openState opens the directory, made if need be, and locks it.
func openState(path string) (*state, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("create the state directory: %w", err)
	}
	dir, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open the state directory: %w", err)
	}
	s := &state{path, dir}
	if err := s.judge(); err != nil {
		s.close()
		return nil, fmt.Errorf("the state directory %s %w", path, err)
	}
	return s, nil
}

// judge returns the rest of a sentence.
func (s *state) judge() error {
	info, err := s.dir.Stat()
	switch {
	case err != nil:
		return fmt.Errorf("can't be examined: %w", err)
	case !info.IsDir():
		return errors.New("is not a directory")
	case info.Mode().Perm()&0o022 != 0:
		return fmt.Errorf("is writable by its group or by others (mode %04o): chmod 0700 it", info.Mode().Perm())
	}
	err = unix.Flock(int(s.dir.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return errors.New("is in use by another running agent: give each agent its own with --state")
	}
	if err != nil {
		return fmt.Errorf("can't be locked: %w", err)
	}
	return nil
}

func (s *state) close() { s.dir.Close() }

// load reads a file into a value. It is not there before it was saved.
func (s *state) load(name string, into any) (there bool, err error) {
	path := filepath.Join(s.path, name)
	text, err := secretfile.Read(path, maxStateFile)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read the agent's state: %w", err)
	}
	if err := json.Unmarshal(text, into); err != nil {
		return false, s.damaged(name, err)
	}
	return true, nil
}

func (s *state) damaged(name string, err error) error {
	return fmt.Errorf("%s is damaged (%w): move it away and enrol the agent again", filepath.Join(s.path, name), err)
}

// save replaces a file. When it gives nil, a loss of power does not undo it.
func (s *state) save(name string, value any) error {
	text, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return err
	}
	if err := atomicfile.Replace(filepath.Join(s.path, name), append(text, '\n'), 0o600); err != nil {
		return fmt.Errorf("save the agent's state: %w", err)
	}
	return nil
}

// newest is the newest policy that an agent has ever had for a database.
type newest struct {
	Database   string `json:"database"`
	Generation int64  `json:"generation"`
	Digest     string `json:"digest"` // of [api.Digest]
}

// newest returns the newest of a database: one of another database, that the agent was enrolled for before, says nothing.
func (s *state) newest(database string) (newest, error) {
	var n newest
	_, err := s.load(newestFile, &n)
	if err != nil || n.Database != database {
		return newest{Database: database}, err
	}
	return n, nil
}
