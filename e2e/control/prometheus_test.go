package control

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"pgmtls-proxy/internal/testkit/eventually"
)

// prometheus is a real one, which scrapes a daemon, and the proxies that it finds there, each second.
type prometheus struct{ url string }

// newPrometheus starts one as the documentation says, with the alerts of this repository.
func newPrometheus(t *testing.T, p *plane) *prometheus {
	t.Helper()
	program, err := exec.LookPath("prometheus")
	if err != nil {
		t.Fatal("there is no prometheus: make setup installs it")
	}
	dir := t.TempDir()
	alerts, err := filepath.Abs("../../deploy/prometheus/alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, "token"), p.token(t, "prometheus", "--scope", "read"))
	api, err := url.Parse(p.url(t))
	if err != nil {
		t.Fatal(err)
	}
	type object = map[string]any
	secure := func(more object) object {
		maps.Copy(more, object{"authorization": object{"type": "Bearer", "credentials_file": filepath.Join(dir, "token")},
			"tls_config": object{"ca_file": filepath.Join(p.Dir, "control-ca.pem")}})
		return more
	}
	text, err := json.Marshal(object{
		"global":     object{"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
		"rule_files": []string{alerts},
		"scrape_configs": []object{
			secure(object{"job_name": "pgmtls", "scheme": "https", "static_configs": []object{{"targets": []string{api.Host}}}}),
			{"job_name": "pgmtls-proxy", "http_sd_configs": []object{secure(object{"url": p.url(t) + "/v1/targets", "refresh_interval": "1s"})}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, "prometheus.yml"), string(text))
	command := exec.CommandContext(t.Context(), program, "--config.file="+filepath.Join(dir, "prometheus.yml"), "--storage.tsdb.path="+filepath.Join(dir, "data"),
		"--web.listen-address=127.0.0.1:0", "--log.format=json")
	command.Cancel = func() error { return command.Process.Signal(os.Interrupt) }
	log, err := command.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	address, read := make(chan string, 1), make(chan struct{})
	go func() { // until it has ended
		defer close(read)
		for lines := bufio.NewScanner(log); lines.Scan(); {
			var line struct{ Msg, Address string }
			if json.Unmarshal(lines.Bytes(), &line) == nil && line.Msg == "Listening on" {
				address <- line.Address
			}
		}
	}()
	t.Cleanup(func() {
		<-read
		_ = command.Wait() // it was interrupted
	})
	select {
	case found := <-address:
		return &prometheus{"http://" + found}
	case <-read:
		t.Fatal("Prometheus has ended")
	case <-time.After(patience):
		t.Fatal("Prometheus does not listen")
	}
	return nil
}

// ask gives the data of an answer.
func (p *prometheus) ask(path string, query url.Values, into any) error {
	client := http.Client{Timeout: patience}
	response, err := client.Get(p.url + path + "?" + query.Encode())
	if err != nil {
		return err
	}
	defer response.Body.Close()
	answer := struct {
		Status, Error string
		Data          any
	}{Data: into}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		return err
	}
	if answer.Status != "success" {
		return errors.New(answer.Error)
	}
	return nil
}

// sample is an element of a result: its labels.
type sample struct {
	Metric map[string]string
	Value  [2]any
}

func (p *prometheus) query(expr string) (samples []sample, err error) {
	var found struct{ Result []sample }
	err = p.ask("/api/v1/query", url.Values{"query": {expr}}, &found)
	return found.Result, err
}

// has waits until a query has some number of samples, and gives them.
func (p *prometheus) has(t *testing.T, expr string, number int) (samples []sample) {
	t.Helper()
	eventually.OK(t, patience, func() (err error) {
		if samples, err = p.query(expr); err == nil && len(samples) != number {
			err = fmt.Errorf("%s has %d samples, want %d: %v", expr, len(samples), number, samples)
		}
		return err
	})
	return samples
}

// rule is the state of an alert.
type rule struct {
	Name, State, Health, LastError, Query string
	LastEvaluation                        time.Time
	Alerts                                []struct{ Labels map[string]string }
}

func (p *prometheus) rules() ([]rule, error) {
	var found struct {
		Groups []struct{ Rules []rule }
	}
	err := p.ask("/api/v1/rules", url.Values{"type": {"alert"}}, &found)
	var all []rule
	for _, group := range found.Groups {
		all = append(all, group.Rules...)
	}
	return all, err
}

// Two databases, a new one without rules, proxies beside the daemon and with an agent, sessions and refusals: nothing of that
// is an alert, and all that the dashboards show is there.
func TestPrometheusSeesAHealthyControlPlane(t *testing.T) {
	t.Parallel()
	p := newPlane(t)
	fronts := map[string]*front{}
	for _, database := range []string{"shop", "books", "fresh"} {
		f := newFrontOnTCP(t, p.policyDir(t, database))
		fronts[database] = f
		p.do(t, "databases", "create", database, "--host", "localhost", "--port", f.Port, "--proxy", "beside", "--policy-dir", f.PolicyDir, "--admin", f.Admin)
		p.do(t, "mtls", "create", database, "--wait")
	}
	p.letIn(t, "shop")
	p.letIn(t, "books")
	p.do(t, "ip-rules", "create", "books", "--cidr", "192.0.2.0/24", "--wait") // another generation than shop's
	edge := newFrontOnTCP(t, filepath.Join(t.TempDir(), "policy"))
	newHelper(t, p, newRelay(t, p), struct{ database, proxy string }{"books", "edge"}, edge)
	p.do(t, "proxies", "set", "books", "edge", "--metrics", edge.Admin)
	p.inForce(t, "books")

	monitor := newPrometheus(t, p)
	monitor.has(t, `up == 1`, 5)
	live := p.download(t, fronts["shop"], "shop", "").converse(t)
	p.download(t, fronts["fresh"], "fresh", "").staysOut(t, "")
	p.download(t, edge, "books", "").comesIn(t)

	for _, row := range monitor.has(t, `pgmtls_policy_info`, 4) {
		if m := row.Metric; m["database"] == "" || m["exported_database"] != m["database"] || m["space"] != "default" || m["proxy"] == "" {
			t.Errorf("a proxy is shown as %v", m)
		}
	}
	t.Run("dashboards", monitor.showsDashboards)
	live.goesOn(t)
	live.leave(t)
	monitor.staysSilent(t)

	// It would have said so.
	fronts["shop"].kill(t)
	eventually.OK(t, patience, func() error {
		rules, err := monitor.rules()
		if err != nil {
			return err
		}
		for _, rule := range rules {
			for _, alert := range rule.Alerts {
				if rule.Name == "PgmtlsDown" && alert.Labels["database"] == "shop" {
					return nil
				}
			}
		}
		return errNotYet(rules)
	})
}

// bySpeed are the alerts that may be right here: the machine of a test may be as slow as they say.
var bySpeed = []string{"PgmtlsBackendSlow", "PgmtlsHandshakesSlow"}

// staysSilent wants every alert to be evaluated over what there is now, and to be inactive. A scrape that took too long on a
// busy machine is over at the next one; what is wrong for good stays.
func (p *prometheus) staysSilent(t *testing.T) {
	t.Helper()
	begin := time.Now()
	var rules []rule
	eventually.OK(t, patience, func() (err error) {
		if rules, err = p.rules(); err != nil {
			return err
		}
		if len(rules) < 30 {
			return fmt.Errorf("there are only %d alerts", len(rules))
		}
		for _, rule := range rules {
			switch {
			case rule.LastEvaluation.Before(begin.Add(3 * time.Second)):
				return fmt.Errorf("%s was not evaluated", rule.Name)
			case rule.Health != "ok" || rule.State != "inactive" && !slices.Contains(bySpeed, rule.Name):
				return fmt.Errorf("%s: health %s (%s), state %s: %v", rule.Name, rule.Health, rule.LastError, rule.State, rule.Alerts)
			}
		}
		return nil
	})
	for _, rule := range rules {
		for _, selected := range regexp.MustCompile(`\b(?:up|(?:pgmtls|process)_[a-z_]+)(?:\{[^}]*\})?`).FindAllString(rule.Query, -1) {
			if !ofPublicAuthorities.MatchString(selected) {
				p.selects(t, rule.Name, selected)
			}
		}
	}
}

// ofPublicAuthorities are the series that are not there without an acme block in pgmtls.yaml, which these tests do not have.
var ofPublicAuthorities = regexp.MustCompile(`pgmtls_(control_)?(acme|enhanced)_`)

// selects wants a selector to find something: an alert on what is never there is silent for the wrong reason.
func (p *prometheus) selects(t *testing.T, where, selector string) {
	t.Helper()
	eventually.OK(t, patience, func() error { // between a scrape that was too slow and the next there is nothing
		found, err := p.query(selector)
		if err == nil && len(found) == 0 {
			err = fmt.Errorf("%s: %s finds nothing", where, selector)
		}
		return err
	})
}

// grafana is as much of a dashboard as is asked for.
type grafana struct {
	Annotations struct{ List []struct{ Expr string } }
	Templating  struct {
		List []struct {
			Name  string
			Query any
		}
	}
	Panels []struct {
		Title, Type string
		Targets     []struct{ Expr string }
	}
}

// showsDashboards evaluates every query of every panel, and wants each to find something.
func (p *prometheus) showsDashboards(t *testing.T) {
	for name, variables := range map[string]int{"dashboard.json": 3, "control-plane.json": 2} {
		var board grafana
		if err := json.Unmarshal([]byte(readFile(t, filepath.Join("../../deploy/grafana", name))), &board); err != nil {
			t.Fatal(err)
		}
		job := map[string]string{"dashboard.json": "pgmtls-proxy", "control-plane.json": "pgmtls"}[name]
		asked := 0
		for _, variable := range board.Templating.List {
			if query, ok := variable.Query.(map[string]any); ok {
				asked++
				p.offers(t, variable.Name, query["query"].(string), job)
			}
		}
		if asked != variables {
			t.Errorf("%s has %d variables, want %d", name, asked, variables)
		}
		for _, panel := range board.Panels {
			for _, target := range panel.Targets {
				public := ofPublicAuthorities.MatchString(target.Expr)
				expr := chosen(target.Expr, job, ".*")
				eventually.OK(t, patience, func() error {
					found, err := p.query(expr)
					if err == nil && len(found) == 0 && !public {
						err = fmt.Errorf("%s: %s shows nothing", panel.Title, expr)
					}
					return err
				})
			}
		}
		for _, annotation := range board.Annotations.List {
			if _, err := p.query(chosen(annotation.Expr, job, ".*")); err != nil {
				t.Errorf("%s: %v", annotation.Expr, err)
			}
		}
	}
}

// chosen puts in what a dashboard's variables say.
func chosen(expr, job, database string) string {
	return strings.NewReplacer("$job", job, "$instance", ".+", "$database", database, "$__rate_interval", "1m").Replace(expr)
}

// offers evaluates the query of a variable.
func (p *prometheus) offers(t *testing.T, variable, query, job string) {
	t.Helper()
	parts := regexp.MustCompile(`^label_values\((.*), (\w+)\)$`).FindStringSubmatch(query)
	if parts == nil {
		t.Fatalf("%s: %s is no label_values()", variable, query)
	}
	values := func(database string) (found []string) {
		t.Helper()
		if err := p.ask("/api/v1/label/"+parts[2]+"/values", url.Values{"match[]": {chosen(parts[1], job, database)}}, &found); err != nil {
			t.Error(err)
		}
		return found
	}
	want := map[string]int{"job": 1, "database": 3, "instance": 4}[variable]
	if job == "pgmtls" {
		want = 1
	}
	if all := values(".*"); len(all) != want || variable == "database" && !slices.Equal(all, []string{"books", "fresh", "shop"}) {
		t.Errorf("%s offers %q, want %d", variable, all, want)
	}
	if variable == "instance" && strings.Contains(query, "$database") {
		if found := values("books"); len(found) != 2 {
			t.Errorf("%s offers %q for books, want its two proxies", variable, found)
		}
	}
}
