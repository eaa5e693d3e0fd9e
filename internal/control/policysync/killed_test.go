package policysync

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"pgmtls-proxy/internal/control/api"
	"pgmtls-proxy/internal/control/policyformat"
	"pgmtls-proxy/internal/control/policyformat/policytest"
	"pgmtls-proxy/internal/retry"
	"pgmtls-proxy/internal/testkit/eventually"
	"pgmtls-proxy/internal/testkit/must"
	"pgmtls-proxy/internal/testkit/syncbuf"
)

// publisherDir is the environment's name for the directory that [publishForEver] publishes to.
const publisherDir = "DELIVERY_TEST_PUBLISHER_DIR"

// publishForEver is the process that is killed. It alternates between the two policies that it finds in a file, each time
// with the next generation.
func publishForEver() {
	text, err := os.ReadFile(os.Getenv(publisherDir) + ".policies")
	var policies [2]api.Policy
	if err == nil {
		err = json.Unmarshal(text, &policies)
	}
	c := &Publisher{Database: database, Dir: os.Getenv(publisherDir)}
	d, opened := openDirectory(c.Dir)
	if err != nil || opened != nil {
		fmt.Fprintln(os.Stderr, err, opened)
		os.Exit(1)
	}
	for generation := d.present().generation + 1; err == nil; generation++ {
		_, err = c.Publish(context.Background(), renumber(policies[generation%2], generation))
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// renumber gives a policy another generation.
func renumber(p api.Policy, generation int64) api.Policy {
	text := strings.ReplaceAll(string(p.Files[api.PolicyFile]), policyformat.Header(p.Database, p.Generation), policyformat.Header(p.Database, generation))
	text = strings.ReplaceAll(text, fmt.Sprintf(`"generation":"%d"`, p.Generation), fmt.Sprintf(`"generation":"%d"`, generation))
	files := map[string][]byte{api.PolicyFile: []byte(text)}
	for name, content := range p.Files {
		if name != api.PolicyFile {
			files[name] = content
		}
	}
	return api.Policy{Database: p.Database, Generation: generation, Files: files}
}

func TestAKilledPublisherLeavesOneWholePolicy(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "policy")
	s := policytest.NewSpace(t)
	other := policytest.NewSpace(t) // another CA, another server certificate and key: every file differs
	policies := [2]api.Policy{s.Policy(t, edition{Generation: 1}), other.Policy(t, edition{Generation: 1, CIDRs: []string{"10.0.0.0/8"}})}
	text, err := json.Marshal(policies)
	must.OK(t, err)
	must.OK(t, os.WriteFile(dir+".policies", text, 0o600))
	c := &Publisher{Database: database, Dir: dir}
	_, err = c.Publish(t.Context(), policies[1])
	must.OK(t, err)
	p := startProxy(t, dir, nil)
	c.Admin = p.Admin

	reader := startReader(dir)
	kills := 40
	if testing.Short() {
		kills = 5
	}
	var generation int64
	for range kills {
		publisher := exec.Command(os.Args[0])
		publisher.Env = append(os.Environ(), publisherDir+"="+dir)
		errors := &syncbuf.Buffer{}
		publisher.Stderr = errors
		must.OK(t, publisher.Start())
		before := generation
		eventually.OK(t, patience, func() (err error) { // it has begun
			if generation, err = readWhole(dir); err == nil && generation <= before+1 {
				err = fmt.Errorf("no new generation behind %d: %s", before, errors)
			}
			return err
		})
		must.OK(t, retry.Sleep(t.Context(), rand.N(20*time.Millisecond)))
		must.OK(t, publisher.Process.Signal(syscall.SIGKILL))
		_ = publisher.Wait() // killed
		if generation, err = readWhole(dir); err != nil {
			t.Fatalf("after a kill: %v", err)
		}
	}
	if read, err := reader.stop(); err != nil {
		t.Fatalf("a reader saw half a policy: %v", err)
	} else if read < kills {
		t.Fatalf("the reader has read %d times only", read)
	}

	deliver(t, c, renumber(policies[0], generation+1))
	if got, want := len(names(t, dir)), len(policies[0].Files); got != want {
		t.Errorf("%d files are left behind the kills, want %d: %v", got, want, names(t, dir))
	}
	if log := p.log.String(); strings.Contains(log, "is refused") {
		t.Errorf("the proxy saw half a policy:\n%s", log)
	}
}

// reader reads a directory without end.
type reader struct {
	quit  chan struct{}
	ended chan struct{}
	reads int
	err   error
}

func startReader(dir string) *reader {
	r := &reader{quit: make(chan struct{}), ended: make(chan struct{})}
	go r.run(dir)
	return r
}

func (r *reader) run(dir string) {
	defer close(r.ended)
	for last := int64(0); r.err == nil; r.reads++ {
		var generation int64
		if generation, r.err = readWhole(dir); r.err == nil && generation < last {
			r.err = fmt.Errorf("generation %d behind %d", generation, last)
		}
		last = generation
		select {
		case <-r.quit:
			return
		default:
		}
	}
}

func (r *reader) stop() (reads int, err error) {
	close(r.quit)
	<-r.ended
	return r.reads, r.err
}
