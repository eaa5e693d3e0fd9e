package control

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fsnotify/fsnotify"
)

// wreck is a plane with two proxies of one database, one beside the daemon and one with an agent, all of which are
// killed while the database is changed.
type wreck struct {
	*plane
	*web
	relay        *relay
	beside, edge *front
	agent        *helper
	random       *rand.Rand

	// What is known of the changes. An object is in doubt when nobody has heard how a change of it ended.
	rules, certificates map[string]*object // by path
	doubtful            map[string]bool    // names of objects whose creation is in doubt
	made                int                // objects that were asked for
	issued              int                // certificates among them
	changes, doubts     int                // how many there were
	several             bool               // changes are to be of certificates, whose policies have several new files
	policies            map[string]string  // the bytes of policy.yaml, by generation
}

// issuedMost is how many certificates are asked for at most. A database is issued 200 in a day, one of them is there at the
// beginning, and one that is in doubt may have been counted.
const issuedMost = 190

// changesPerKill is about what is done in the time in which the kill comes.
const changesPerKill = 16

// object is a rule or a certificate.
type object struct {
	name  string // of a rule its CIDR; unique
	state string // is, gone or doubt
}

// The states of an object as far as the test knows.
const (
	is, gone, doubt = "is", "gone", "doubt"
)

// Whatever was acknowledged is there after every kill -9 of whatever part, and no policy is ever half of one.
func TestKillsLoseNothingThatWasAcknowledged(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	w := newWreck(t, rand.New(rand.NewPCG(seed, 0)))
	kills := 0
	for ; w.changes < killedChanges; kills++ {
		w.round(t, kills)
		if t.Failed() {
			return
		}
	}
	t.Logf("%d changes, %d in doubt, %d kills", w.changes, w.doubts, kills)
	w.converges(t)
	w.leavesNoSecret(t)
}

func newWreck(t *testing.T, random *rand.Rand) *wreck {
	p := configured(t, nil)
	w := &wreck{plane: p, web: p.web(t, p.admin(t)), random: random, rules: map[string]*object{}, certificates: map[string]*object{},
		doubtful: map[string]bool{}, policies: map[string]string{}}
	w.relay = newRelay(t, p)
	w.beside = newFront(t, p.policyDir(t, "shop"))
	w.edge = newFront(t, filepath.Join(privateDir(t), "policy"))
	w.gets(t, http.StatusCreated, "POST /v1/databases", fmt.Sprintf(`{"name": "shop", "hosts": ["localhost"], "proxies": [{"name": "beside", "policy_dir": %q, "admin": %q}]}`,
		w.beside.PolicyDir, w.beside.Admin), nil)
	w.agent = newHelper(t, p, w.relay, struct{ database, proxy string }{"shop", "edge"}, w.edge)
	w.gets(t, http.StatusCreated, "POST "+endpointPath, "", nil)
	w.polled(t, endpointPath, "status", "Operational")
	w.rules[w.rule(t, "127.0.0.0/8", "")] = &object{"127.0.0.0/8", is}
	var first []fields
	w.gets(t, http.StatusOK, "GET "+certsPath, "", &first)
	w.certificates[certsPath+"/"+first[0].text("id")] = &object{first[0].text("name"), is}
	return w
}

// round makes changes while one part is killed at a random moment, starts the part again, and looks.
func (w *wreck) round(t *testing.T, n int) {
	delay := time.Duration(w.random.Int64N(int64(150 * time.Millisecond)))
	victims := []*process{w.plane.process, w.agent.process, w.beside.process, w.edge.process}
	victim := w.random.IntN(len(victims))
	if n < len(victims) {
		victim = n // each at least once
	}
	var writes <-chan fsnotify.Event // of the directory that the victim delivers to; nil: the moment is any
	name := []string{"client-crl-", "policy.yaml"}[w.random.IntN(2)]
	if inTheAct := w.random.IntN(2) == 0; inTheAct && victim < 2 {
		watcher, err := fsnotify.NewWatcher()
		if err != nil {
			t.Fatal(err)
		}
		defer watcher.Close()
		if err := watcher.Add([]*front{w.beside, w.edge}[victim].PolicyDir); err != nil {
			t.Fatal(err)
		}
		writes = watcher.Events
	}
	w.several = writes != nil
	var killing sync.WaitGroup
	killing.Go(func() {
		timer := time.NewTimer(delay)
		defer timer.Stop()
		<-timer.C
		limit := time.NewTimer(time.Second)
		defer limit.Stop()
		for writes != nil {
			select {
			case e := <-writes:
				if e.Has(fsnotify.Create) && strings.HasPrefix(filepath.Base(e.Name), name) {
					writes = nil // in the middle of a policy of several files, if they had another order
				}
			case <-limit.C:
				writes = nil
			}
		}
		victims[victim].kill(t)
	})
	for range changesPerKill {
		w.changes++
		if !w.change(t) {
			w.doubts++
			if victim == 0 {
				break // until the daemon is back
			}
		}
	}
	killing.Wait()
	switch victim {
	case 0:
		w.whole(t, w.beside)
		w.beside.checked(t)
		w.plane.start(t)
		w.relay.leadTo(t, w.plane)
		w.base = w.url(t)
	case 1:
		w.whole(t, w.edge)
		w.edge.checked(t)
		w.agent.start(t)
	case 2:
		w.beside.start(t)
	case 3:
		w.edge.start(t)
	}
	w.remembers(t, victim == 0)
}

// change asks for one change, and reports whether there was an answer.
func (w *wreck) change(t *testing.T) bool {
	live := func(objects map[string]*object) (paths []string) {
		for path, o := range objects {
			if o.state == is && o.name != "127.0.0.0/8" {
				paths = append(paths, path)
			}
		}
		slices.Sort(paths) // the seed decides, not the map
		return paths
	}
	rules, certificates := live(w.rules), live(w.certificates)
	chance := w.random.IntN(100)
	if w.several {
		chance %= 35
	}
	switch {
	case chance < 20 && len(certificates) < 20 && w.issued < issuedMost:
		w.made++
		w.issued++
		return w.create(t, certsPath, fmt.Sprintf(`{"name": "n%d"}`, w.made), &object{fmt.Sprintf("n%d", w.made), is})
	case chance < 35 && len(certificates) > 0:
		return w.remove(t, w.certificates, certificates[w.random.IntN(len(certificates))])
	case chance < 60 && len(rules) > 0 || len(rules) > 40:
		return w.remove(t, w.rules, rules[w.random.IntN(len(rules))])
	}
	w.made++
	cidr := fmt.Sprintf("10.%d.%d.0/24", w.made/256, w.made%256)
	return w.create(t, rulesPath, fmt.Sprintf(`{"cidr": %q}`, cidr), &object{cidr, is})
}

func (w *wreck) create(t *testing.T, path, body string, o *object) bool {
	got, err := w.send(http.MethodPost, path, body)
	switch {
	case err == nil && got.status == http.StatusCreated:
		objects := w.rules
		if path == certsPath {
			objects = w.certificates
		}
		objects[path+"/"+decoded(t, got.body).text("id")] = o
		return true
	case err == nil && got.status < 500:
		t.Errorf("POST %s %s: %d %s", path, body, got.status, got.body)
		return true
	}
	w.doubtful[o.name] = true
	return false
}

func (w *wreck) remove(t *testing.T, objects map[string]*object, path string) bool {
	got, err := w.send(http.MethodDelete, path, "")
	switch {
	case err == nil && (got.status == http.StatusAccepted || got.status == http.StatusOK):
		objects[path].state = gone
		return true
	case err == nil && got.status < 500:
		t.Errorf("DELETE %s: %d %s", path, got.status, got.body)
		return true
	}
	objects[path].state = doubt
	return false
}

// remembers wants everything that was acknowledged, and nothing that nobody has asked for. Settled says that what was
// under way has ended, with the daemon that was at it: then the lists are the answer to what was in doubt.
func (w *wreck) remembers(t *testing.T, settled bool) {
	t.Helper()
	var rules, certificates []fields
	w.gets(t, http.StatusOK, "GET "+rulesPath, "", &rules)
	w.gets(t, http.StatusOK, "GET "+certsPath, "", &certificates)
	for _, list := range []struct {
		path, name string
		known      map[string]*object
		there      []fields
	}{{rulesPath, "cidr", w.rules, rules}, {certsPath, "name", w.certificates, certificates}} {
		stays := map[string]bool{} // true: let in, or about to be
		for _, f := range list.there {
			at, name, status := list.path+"/"+f.text("id"), f.text(list.name), f.text("status")
			stays[at] = status != "Deauthorizing" && status != "disabling" && status != "disabled"
			switch known := list.known[at]; {
			case known == nil && w.doubtful[name]:
				list.known[at] = &object{name, is}
			case known == nil:
				t.Errorf("nobody has asked for %v", f)
			}
		}
		for at, o := range list.known {
			switch {
			case o.state == is && !stays[at] || o.state == gone && stays[at]:
				t.Errorf("%s (%s): acknowledged was that it %s, and the list says %v", at, o.name, o.state, stays[at])
			case o.state == doubt && settled && stays[at]:
				o.state = is
			case o.state == doubt && settled:
				o.state = gone
			}
		}
	}
	if settled {
		clear(w.doubtful)
	}
}

var (
	headerLine = regexp.MustCompile(`^# written by pgmtls for database ([0-9a-f-]+); generation ([0-9]+)\n# name: .*\ngeneration: "([0-9]+)"\n`)
	namedFile  = regexp.MustCompile(`\b[a-z-]+-([0-9a-f]{16})\.(?:crt|key|pem)\b`)
)

// whole wants one whole generation in a directory to which nobody delivers now: the files that policy.yaml names, with
// the content that their names tell, and the same policy.yaml wherever there is the same generation.
func (w *wreck) whole(t *testing.T, f *front) (text string) {
	t.Helper()
	text = readFile(t, filepath.Join(f.PolicyDir, "policy.yaml"))
	header := headerLine.FindStringSubmatch(text)
	if header == nil || header[2] != header[3] {
		t.Fatalf("half a policy.yaml:\n%s", text)
	}
	if known, there := w.policies[header[2]]; there && known != text {
		t.Errorf("generation %s is\n%s\nand is\n%s", header[2], known, text)
	}
	w.policies[header[2]] = text
	for _, name := range namedFile.FindAllStringSubmatch(text, -1) {
		sum := sha256.Sum256([]byte(readFile(t, filepath.Join(f.PolicyDir, name[0]))))
		if hex.EncodeToString(sum[:])[:16] != name[1] {
			t.Errorf("%s has another content than its name says", name[0])
		}
	}
	return text
}

// converges wants that in the end every proxy has what was acknowledged.
func (w *wreck) converges(t *testing.T) {
	w.caughtUp(t)
	w.remembers(t, false)
	text := w.whole(t, w.beside)
	if other := w.whole(t, w.edge); other != text {
		t.Errorf("the proxies have different policies:\n%s\n%s", text, other)
	}
	for _, o := range w.rules {
		if has := strings.Contains(text, `cidr: "`+o.name+`"}`); o.state == is && !has || o.state == gone && has {
			t.Errorf("acknowledged was that %s %s, and the policy says %v", o.name, o.state, has)
		}
	}
	digests := map[string]bool{}
	for _, f := range []*front{w.beside, w.edge} {
		f.checked(t)
		s, err := f.status()
		if err != nil || s.Reload.Error != "" {
			t.Errorf("%s says %+v, %v", f.name, s, err)
		}
		digests[s.Policy.Digest] = true
		entries, err := os.ReadDir(f.PolicyDir)
		if err != nil {
			t.Fatal(err)
		}
		for _, entry := range entries {
			if name := entry.Name(); name != "policy.yaml" && strings.HasSuffix(name, ".tmp") || namedFile.MatchString(name) && !strings.Contains(text, name) {
				t.Errorf("%s was left behind in %s", name, f.PolicyDir)
			}
		}
	}
	if len(digests) != 1 {
		t.Errorf("the proxies follow different policies: %v", digests)
	}
	w.letsIn(t)
}

// letsIn asks both proxies with a certificate that is, and with one that is gone.
func (w *wreck) letsIn(t *testing.T) {
	var endpoint fields
	w.gets(t, http.StatusOK, "GET "+endpointPath, "", &endpoint)
	var kept visitor
	for path, o := range w.certificates {
		if o.state != is {
			continue
		}
		var certificate fields
		w.gets(t, http.StatusOK, "GET "+path, "", &certificate)
		kept = filesOf(t, w.beside, certificate, endpoint)
		break
	}
	if kept.front == nil {
		var fresh fields
		w.gets(t, http.StatusCreated, "POST "+certsPath, "", &fresh)
		w.gets(t, http.StatusOK, "GET "+certsPath+"/"+fresh.text("id"), "", &fresh)
		kept = filesOf(t, w.beside, fresh, endpoint)
	}
	serial := strings.TrimPrefix(strings.TrimSpace(openssl(t, "x509", "-in", kept.files+"postgresql.crt", "-noout", "-serial")), "serial=")
	for _, f := range []*front{w.beside, w.edge} {
		kept.front = f
		kept.comesIn(t)
		lists, err := filepath.Glob(filepath.Join(f.PolicyDir, "client-crl-*.pem"))
		if err != nil || len(lists) != 1 {
			t.Fatalf("got the revocation lists %v, %v", lists, err)
		}
		revoked := strings.Count(openssl(t, "crl", "-in", lists[0], "-noout", "-text"), "Serial Number:")
		least, most := 0, 0
		for _, o := range w.certificates {
			switch o.state {
			case gone:
				least++
			case doubt:
				most++
			}
		}
		if revoked < least || revoked > least+most {
			t.Errorf("%d certificates are revoked, and %d were acknowledged", revoked, least)
		}
		if text := openssl(t, "crl", "-in", lists[0], "-noout", "-text"); strings.Contains(text, serial) {
			t.Errorf("the certificate %s is revoked that was not deleted", serial)
		}
	}
}
