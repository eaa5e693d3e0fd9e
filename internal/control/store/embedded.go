package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"syscall"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
	"go.uber.org/zap"
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

	// readyTimeout bounds the time from when everything was read until the member has elected itself.
	readyTimeout = 10 * time.Second

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
	if err := examine(options.DataDir); err != nil {
		lock.Close()
		return startError(options.DataDir, err)
	}
	fatals := make(chan error, 1)
	log := &core{log: options.Log, held: &held{}}
	server, err := start(ctx, options, zap.New(log, zap.WithFatalHook(fatal(fatals)), zap.WithPanicHook(fatal(fatals))), fatals)
	if err != nil {
		lock.Close() // what may still run of etcd ends with the process
		return err
	}
	log.held.release()
	s.embedded = &embedded{server: server, lock: lock}
	s.client = v3client.New(server.Server)
	go s.watchFatals(fatals)
	return nil
}

// watchFatals ends the store when etcd could not keep what it was given: the disk is full or broken.
func (s *Store) watchFatals(fatals <-chan error) {
	select {
	case cause := <-fatals:
		s.fail(fmt.Errorf("%w: %w", ErrFailed, cause))
	case <-s.ctx.Done():
	}
}

// start starts etcd and waits until it answers. What it says before that is held by its logger: of a store that does not
// start there is one thing to say, and that is the error.
func start(ctx context.Context, options Options, log *zap.Logger, fatals <-chan error) (*embed.Etcd, error) {
	config, err := configuration(options, log)
	if err != nil {
		return nil, err
	}
	type result struct {
		server *embed.Etcd
		err    error
	}
	started := make(chan result, 1)
	go func() {
		defer func() { // etcd runs into nil pointers behind a log that it can't read
			if problem := recover(); problem != nil {
				started <- result{nil, fmt.Errorf("etcd can't start from it (%v)", problem)}
			}
		}()
		server, err := embed.StartEtcd(config)
		started <- result{server, err}
	}()
	var server *embed.Etcd
	select {
	case result := <-started:
		if result.err != nil {
			return nil, startError(options.DataDir, result.err)
		}
		server = result.server
	case cause := <-fatals:
		return nil, startError(options.DataDir, cause)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	late := time.NewTimer(readyTimeout)
	defer late.Stop()
	select {
	case <-server.Server.ReadyNotify():
		return server, nil
	case cause := <-fatals: // its goroutine stands still, and closing would wait for it
		return nil, startError(options.DataDir, cause)
	case <-server.Server.StopNotify():
		err = &damage{options.DataDir, errors.New("etcd stopped unexpectedly")}
	case <-late.C:
		return nil, &damage{options.DataDir, fmt.Errorf("etcd read it, but did not answer within %v", readyTimeout)}
	case <-ctx.Done():
		err = ctx.Err()
	}
	server.Close()
	return nil, err
}

// startError distinguishes what keeps a whole store from being used from damage: after it, a restore would only lose something.
func startError(dataDir string, cause error) error {
	if errors.Is(cause, syscall.ENOSPC) || errors.Is(cause, syscall.EDQUOT) {
		return fmt.Errorf("start etcd in %s: %w; free some space there; the store is unchanged", dataDir, cause)
	}
	if errors.Is(cause, syscall.EROFS) {
		return fmt.Errorf("start etcd in %s: %w; mount its file system writable, and look why it is not (dmesg); the store is unchanged", dataDir, cause)
	}
	if errors.Is(cause, syscall.EMFILE) || errors.Is(cause, syscall.ENFILE) {
		return fmt.Errorf("start etcd in %s: %w; raise the limit on open files (LimitNOFILE of systemd, ulimit -n); the store is unchanged", dataDir, cause)
	}
	if errors.Is(cause, fs.ErrPermission) {
		return fmt.Errorf("start etcd in %s: %w; the directory and everything in it must be owned by the daemon's user", dataDir, cause)
	}
	return &damage{dataDir, cause}
}

func configuration(options Options, log *zap.Logger) (*embed.Config, error) {
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
	if options.quota != 0 {
		config.QuotaBackendBytes = options.quota
	}
	config.SnapshotCount = changesInMemory
	config.SnapshotCatchUpEntries = changesForOther
	config.BootstrapDefragThresholdMegabytes = defragAt
	config.ZapLoggerBuilder = embed.NewZapLoggerBuilder(log)
	return config, nil
}

// stop stops etcd. One that has failed has goroutines that stand still, for which closing would wait: it ends with the
// process.
func (e *embedded) stop(failed bool) {
	if !failed {
		e.server.Close()
	}
	e.lock.Close()
}

// lockDirectory makes the directory if there is none, checks that nobody else can read it, and locks it until the file
// is closed or the process ends.
func lockDirectory(path string) (*os.File, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("create data directory: %w", err)
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
		return fmt.Errorf("must be owned by the daemon's user (uid %d), but is owned by uid %d; chown it", os.Geteuid(), stat.Uid)
	case info.Mode().Perm()&0o077 != 0:
		return fmt.Errorf("has group or world access (mode %04o); chmod 0700 it", info.Mode().Perm())
	}
	if err := lock(directory); err != nil {
		return err
	}
	// An etcd that is not ours does not lock the directory, and would keep us waiting at its database.
	database, err := os.Open(databasePath(directory.Name()))
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
		return errors.New("in use by another daemon; stop that daemon, or give this one its own directory")
	}
	if err != nil {
		return fmt.Errorf("lock it: %w", err)
	}
	return nil
}
