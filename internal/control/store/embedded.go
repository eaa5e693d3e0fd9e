package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"syscall"

	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
	"golang.org/x/sys/unix"
)

const (
	// memberName and memberURL are what the one member calls itself. Nobody dials the URL, and nothing listens there.
	memberName = "pgmtls"
	memberURL  = "unix://pgmtls"

	// quota is the largest size of the database, the largest that etcd recommends.
	quota = 8 << 30
	// history is how long changes are kept for those who watch. Whoever was away for longer lists again. Fifty changes a second
	// of large documents write some gigabytes an hour.
	history = "10m"

	// etcd keeps the last changes in memory until it writes a snapshot, and some longer for members that lag. Here
	// there is none that could.
	changesInMemory = 500
	changesForOther = 10

	// The member elects itself, but only after the time that others would have to object: with the times that are meant for
	// networks a start takes most of a second. Shorter ticks cost more wake-ups of an idle daemon than they win.
	tickMillis     = 50
	electionMillis = 250

	// defragAt is how many MiB may be unused in the file before it is written anew at a start.
	defragAt = 100
)

// embedded is the etcd inside this process. It listens nowhere: it has no authentication, so whoever could connect
// could read and write everything. The Store calls its functions.
type embedded struct {
	server *embed.Etcd
	lock   *os.File // the data directory, locked
}

func (s *Store) embed(ctx context.Context, options Options) error {
	lock, err := lockDirectory(options.DataDir)
	if err != nil {
		return err
	}
	server, err := start(ctx, options)
	if err != nil {
		lock.Close()
		return fmt.Errorf("start etcd in %s: %w", options.DataDir, err)
	}
	s.embedded = &embedded{server: server, lock: lock}
	s.client = v3client.New(server.Server)
	return nil
}

func start(ctx context.Context, options Options) (*embed.Etcd, error) {
	peer, err := url.Parse(memberURL)
	if err != nil {
		return nil, err
	}
	config := embed.NewConfig()
	config.Name = memberName
	config.Dir = options.DataDir
	config.ListenPeerUrls, config.ListenClientUrls, config.AdvertiseClientUrls = nil, nil, nil
	config.AdvertisePeerUrls = []url.URL{*peer}
	config.InitialCluster = config.InitialClusterFromName(memberName)
	config.InitialClusterToken = memberName
	config.TickMs, config.ElectionMs = tickMillis, electionMillis
	config.EnableGRPCGateway = false
	config.AuthToken = "" // nobody can log in
	config.AutoCompactionMode = embed.CompactorModePeriodic
	config.AutoCompactionRetention = history
	config.QuotaBackendBytes = quota
	config.SnapshotCount = changesInMemory
	config.SnapshotCatchUpEntries = changesForOther
	config.BootstrapDefragThresholdMegabytes = defragAt
	config.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zapLogger(options.Log))

	server, err := embed.StartEtcd(config)
	if err != nil {
		return nil, err
	}
	select {
	case <-server.Server.ReadyNotify():
		return server, nil
	case <-server.Server.StopNotify():
		err = errors.New("it stopped by itself; its log says why")
	case <-ctx.Done():
		err = ctx.Err()
	}
	server.Close()
	return nil, err
}

func (e *embedded) stop() {
	e.server.Close()
	e.lock.Close()
}

// lockDirectory makes the directory if there is none, checks that nobody else can read it, and locks it until the file
// is closed or the process ends.
func lockDirectory(path string) (*os.File, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("make data directory: %w", err)
	}
	directory, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open data directory: %w", err)
	}
	if err := checkDirectory(directory); err != nil {
		directory.Close()
		return nil, fmt.Errorf("data directory %s: %w", path, err)
	}
	return directory, nil
}

func checkDirectory(directory *os.File) error {
	info, err := directory.Stat()
	if err != nil {
		return err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case !ok:
		return errors.New("its owner is unknown on this system")
	case !info.IsDir():
		return errors.New("not a directory")
	case int(stat.Uid) != os.Geteuid():
		return fmt.Errorf("must be owned by the daemon's user (uid %d), not by uid %d; chown it", os.Geteuid(), stat.Uid)
	case info.Mode().Perm()&0o077 != 0:
		return fmt.Errorf("has group or world access (mode %04o); chmod 0700 it", info.Mode().Perm())
	}
	if err := lock(directory); err != nil {
		return err
	}
	// An etcd that is not ours does not lock the directory, and would keep us waiting at its database.
	database, err := os.Open(filepath.Join(directory.Name(), "member", "snap", "db"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer database.Close()
	return lock(database)
}

// lock takes the lock of an open file. It is gone when the file is closed, or the process ends in any way.
func lock(file *os.File) error {
	err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return errors.New("in use by another daemon; stop that one, or give this one a directory of its own")
	}
	if err != nil {
		return fmt.Errorf("lock it: %w", err)
	}
	return nil
}
