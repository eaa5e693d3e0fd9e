package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"pgmtls-proxy/internal/config"
	"pgmtls-proxy/internal/control/apiclient"
	"pgmtls-proxy/internal/control/policysync"
)

// Options say which proxy the agent serves, and whose word it takes. Those without a zero value in their comment are
// needed.
type Options struct {
	Database  string         // id or name, as at the enrolment
	Control   string         // https URL of the control plane
	PolicyDir string         // the proxy's policy_dir
	Admin     config.Address // the proxy's admin address: loopback, or a unix socket

	// CAFile has the certificates, in PEM, that the control plane's own is verified with, as "pgmtls agents create"
	// writes it. It is kept at the enrolment. Empty: that one; at the enrolment, the system's.
	CAFile string

	// Token is the one-time token to enrol with, or TokenFile has it, for its owner only. Neither is needed, and the
	// file need not be there any more, once the agent is enrolled. Another token than the one that it enrolled with
	// enrols it anew: after it was revoked, or its certificate has ended.
	Token     string
	TokenFile string

	// StateDir is the agent's own, made if need be. Empty: DefaultState and the database.
	StateDir string

	// TakeOver replaces a policy.yaml that the control plane has not written. See [policysync.Publisher].
	TakeOver bool

	ObserveEvery time.Duration // see [policysync.Syncer]; 0: its default
	UserAgent    string        // empty: none
	Log          zerolog.Logger

	// LogLinesDropped returns how many lines of the log were lost so far. Nil: none can be.
	LogLinesDropped func() uint64

	// Ready is called once, when the agent is enrolled, and is connected or finds a policy of its database in place.
	// Nil: nobody waits for it.
	Ready func()

	lineWithin time.Duration // 0: the constant
}

// DefaultState is where agents have their directories.
const DefaultState = "/var/lib/pgmtls-agent"

// ErrRefused ends an agent that the control plane rejects: it was revoked, its proxy is gone, or its certificate
// has ended. The proxy goes on with the policy that it has.
var ErrRefused = errors.New("the control plane rejected this agent")

// Run delivers until ctx ends, which is not an error. It returns one when the options can't be used, when the control plane
// does not take the token, and [ErrRefused]. Whatever else happens is tried again. When it returns, nothing that it
// has started goes on.
func Run(ctx context.Context, o Options) error {
	o, err := o.complete()
	if err != nil {
		return err
	}
	kept, err := openState(o.StateDir)
	if err != nil {
		return err
	}
	defer kept.close()
	self, err := admitted(ctx, o, kept)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	a, err := newAgent(o, kept, self)
	if err != nil {
		return err
	}
	err = a.run(ctx)
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// complete fills in what has a default, and refuses what can't be.
func (o Options) complete() (Options, error) {
	switch {
	case o.Database == "" || strings.ContainsAny(o.Database, "/\x00") || o.Database == "." || o.Database == "..":
		return o, fmt.Errorf("database must be a name or an id, not %.80q", o.Database)
	case o.Control == "" || strings.Contains(o.Control, "://") && !strings.HasPrefix(o.Control, "https://"):
		return o, fmt.Errorf("the control plane's URL must be of the form https://control.example.com:9816, not %.200q: an agent authenticates with a certificate", o.Control)
	case o.PolicyDir == "":
		return o, errors.New("no policy directory is given: set it to the proxy's policy_dir")
	}
	if err := o.Admin.CheckLocal(); err != nil {
		return o, fmt.Errorf("the proxy's admin address: %w", err)
	}
	if o.StateDir == "" {
		o.StateDir = filepath.Join(DefaultState, o.Database)
	}
	if o.lineWithin == 0 {
		o.lineWithin = lineWithin
	}
	return o, nil
}

// agent is an enrolled agent that runs.
type agent struct {
	options Options
	log     zerolog.Logger
	state   *state
	route   *policysync.Syncer
	ready   func()

	answers sync.WaitGroup // questions that are being answered
	asking  chan struct{}  // a place for each

	mu       sync.Mutex
	self     identity
	client   *apiclient.Client  // shows the certificate in use
	cut      context.CancelFunc // ends the stream that is open
	newest   newest             // that it has ever had
	behind   bool               // the control plane has offered an older one
	rejected string             // why the last policy was not taken; empty: it was
}

func newAgent(o Options, kept *state, self identity) (*agent, error) {
	a := &agent{options: o, state: kept, self: self, ready: func() {}, asking: make(chan struct{}, maxAnswers)}
	a.log = o.Log.With().Str("agent", self.Agent).Str("database", self.Database).Str("proxy", self.Proxy).Logger()
	if o.Ready != nil {
		a.ready = sync.OnceFunc(o.Ready)
	}
	// One that is given now counts; the file of the enrolment need not be there any more.
	if ca, err := o.ca(); err == nil && len(ca) > 0 {
		a.self.CA = string(ca)
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var err error
	if a.newest, err = kept.newest(self.Database); err != nil {
		return nil, err
	}
	if a.client, err = a.self.client(o); err != nil {
		return nil, err
	}
	a.route = &policysync.Syncer{
		Publisher:    &policysync.Publisher{Database: self.Database, Dir: o.PolicyDir, Admin: o.Admin, TakeOver: o.TakeOver},
		Report:       a.report,
		ObserveEvery: o.ObserveEvery,
		Log:          a.log,
	}
	return a, nil
}

// run does all that an agent does, until ctx or one part ends.
func (a *agent) run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		if seen, _ := a.route.Publisher.Observe(ctx); seen.OnDisk > 0 { // an error is the proxy's, and the route reports it
			a.ready()
		}
		return nil
	})
	group.Go(func() error { return a.route.Run(ctx) })
	group.Go(func() error { return a.renew(ctx) })
	group.Go(func() error {
		defer a.answers.Wait()
		return a.follow(ctx)
	})
	return group.Wait()
}
