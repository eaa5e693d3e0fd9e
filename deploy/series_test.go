package deploy_test

import (
	"encoding/json"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/prometheus/client_golang/prometheus"

	"pgmtls-proxy/internal/metrics"
)

// labels are the values of each label of one series.
type labels map[string][]string

// oneState is a table of sessions that has a state, so that the series with its label is there.
type oneState struct{}

func (oneState) EachState(f func(state string, sessions int)) { f("some", 0) }
func (oneState) Traffic() (toClient, toServer int64)          { return 0, 0 }

// series gathers what a proxy with a policy serves on /metrics: every name that PromQL can use, with its labels.
func series(t *testing.T) map[string]labels {
	t.Helper()
	registry := prometheus.NewRegistry()
	m := metrics.New(registry, metrics.Process{Version: "test", SessionsLimit: 1})
	m.ObserveSessions(oneState{})
	m.PolicyApplied(metrics.PolicyInfo{
		Generation: "1",
		Database:   "orders",
		Certificates: []metrics.CertificateInfo{
			{Role: metrics.RoleServer, Serial: "01", NotAfter: time.Now()},
			{Role: metrics.RoleClientCA, Serial: "02", NotAfter: time.Now()},
			{Role: metrics.RoleBackend, Serial: "03", NotAfter: time.Now()},
		},
		CRLs: []metrics.CRLInfo{{ThisUpdate: time.Now(), NextUpdate: time.Now()}},
	})
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]labels{}
	for _, family := range families {
		// Prometheus adds these to whatever it scrapes.
		found := labels{"job": nil, "instance": nil}
		names := []string{family.GetName()}
		for _, metric := range family.GetMetric() {
			for _, pair := range metric.GetLabel() {
				found[pair.GetName()] = append(found[pair.GetName()], pair.GetValue())
			}
			if metric.GetHistogram() != nil {
				found["le"] = nil
				names = []string{family.GetName() + "_bucket", family.GetName() + "_count", family.GetName() + "_sum"}
			}
		}
		for _, name := range names {
			all[name] = found
		}
	}
	all["up"] = labels{"job": nil, "instance": nil} // Prometheus's own
	maps.Copy(all, controlSeries(t))
	return all
}

// controlSeries are those of a daemon, as its documentation has them, which is held against the code.
func controlSeries(t *testing.T) map[string]labels {
	t.Helper()
	text, err := os.ReadFile("../docs/control-plane.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := regexp.MustCompile("(?m)^\\| `(pgmtls_(?:api|control|acme)_\\w+)` \\| (\\w+) \\|").FindAllStringSubmatch(string(text), -1)
	if len(rows) < 20 {
		t.Fatalf("the documentation has %d series: is its table written in another way now?", len(rows))
	}
	all := map[string]labels{}
	for _, row := range rows {
		name, found := row[1], labels{"job": nil, "instance": nil}
		if strings.HasPrefix(name, "pgmtls_api_") {
			found["route"], found["method"], found["code"] = nil, nil, nil
		}
		if strings.HasPrefix(name, "pgmtls_acme_") || strings.HasPrefix(name, "pgmtls_control_acme_") || name == "pgmtls_control_enhanced_certificates" {
			found["ca"], found["result"], found["status"] = nil, nil, nil
		}
		if row[2] == "histogram" {
			found["le"] = nil
			all[name+"_bucket"], all[name+"_count"], all[name+"_sum"] = found, found, found
			continue
		}
		all[name] = found
	}
	return all
}

var (
	selector = regexp.MustCompile(`\b(up|(?:pgmtls|process|go)_[a-z_]+)(\{[^}]*\})?`)
	matcher  = regexp.MustCompile(`(\w+)(=~|!~|!=|=)"([^"]*)"`)
	grouping = regexp.MustCompile(`\bby \(([^)]*)\)`)
)

// complaints holds an expression against what there is: names, labels, and, where a label's values are a closed set,
// values.
func complaints(expr string, all map[string]labels) []string {
	var wrong []string
	known := map[string]bool{}
	used := selector.FindAllStringSubmatch(expr, -1)
	if len(used) == 0 {
		wrong = append(wrong, "names no series")
	}
	for _, found := range used {
		has, ok := all[found[1]]
		if !ok {
			wrong = append(wrong, "there is no series "+found[1])
			continue
		}
		for name := range has {
			known[name] = true
		}
		for _, match := range matcher.FindAllStringSubmatch(found[2], -1) {
			name, operator, value := match[1], match[2], match[3]
			values, ok := has[name]
			if !ok {
				wrong = append(wrong, found[1]+" has no label "+name)
				continue
			}
			if len(values) == 0 || strings.HasPrefix(operator, "!") {
				continue // job and instance; what is not to be there
			}
			alternatives := []string{regexp.QuoteMeta(value)}
			if strings.HasSuffix(operator, "~") {
				alternatives = strings.Split(value, "|")
			}
			for _, alternative := range alternatives {
				whole := regexp.MustCompile("^(?:" + alternative + ")$")
				if !slices.ContainsFunc(values, whole.MatchString) {
					wrong = append(wrong, found[1]+" never has "+name+" "+alternative)
				}
			}
		}
	}
	for _, found := range grouping.FindAllStringSubmatch(expr, -1) {
		for name := range strings.SplitSeq(found[1], ",") {
			if name = strings.TrimSpace(name); !known[name] {
				wrong = append(wrong, "groups by "+name+", which no series here has")
			}
		}
	}
	return wrong
}

func TestSeriesCheckCatchesItsOffences(t *testing.T) {
	all := series(t)
	for expr, want := range map[string]string{
		`pgmtls_no_such_total`:                              "there is no series pgmtls_no_such_total",
		`rate(pgmtls_handshake_seconds[5m])`:                "there is no series pgmtls_handshake_seconds",
		`pgmtls_refusals_total{cause="draining"}`:           "pgmtls_refusals_total has no label cause",
		`pgmtls_refusals_total{reason="no_such"}`:           "pgmtls_refusals_total never has reason no_such",
		`pgmtls_refusals_total{reason=~"draining|no_such"}`: "pgmtls_refusals_total never has reason no_such",
		`sum by (reason) (pgmtls_sessions)`:                 "groups by reason, which no series here has",
		`1 > 0`:                                             "names no series",
		`sum by (state) (pgmtls_sessions{job=~"$job"})`:     "",
	} {
		if got := strings.Join(complaints(expr, all), "; "); got != want {
			t.Errorf("%s: got %q, want %q", expr, got, want)
		}
	}
}

// alert is a rule of alerts.yaml.
type alert struct {
	Alert, Expr, For    string
	Labels, Annotations map[string]string
}

func alerts(t *testing.T) []alert {
	t.Helper()
	text, err := os.ReadFile("prometheus/alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Groups []struct {
			Name  string
			Rules []alert
		}
	}
	if err := yaml.UnmarshalWithOptions(text, &file, yaml.Strict()); err != nil {
		t.Fatal(err)
	}
	var all []alert
	for _, group := range file.Groups {
		all = append(all, group.Rules...)
	}
	if len(all) == 0 {
		t.Fatal("no alerts")
	}
	return all
}

func TestAlertsUseSeriesThatExist(t *testing.T) {
	all := series(t)
	names := map[string]bool{}
	for _, rule := range alerts(t) {
		for _, wrong := range complaints(rule.Expr, all) {
			t.Errorf("%s: %s", rule.Alert, wrong)
		}
		if names[rule.Alert] {
			t.Errorf("%s: twice", rule.Alert)
		}
		names[rule.Alert] = true
		if severity := rule.Labels["severity"]; severity != "warning" && severity != "critical" {
			t.Errorf("%s: severity %q", rule.Alert, severity)
		}
		if got := slices.Sorted(maps.Keys(rule.Annotations)); !slices.Equal(got, []string{"description", "runbook_url", "summary"}) {
			t.Errorf("%s: annotations %q", rule.Alert, got)
		}
	}
}

// dashboards are those of the proxies and of the control plane.
var dashboards = []string{"grafana/dashboard.json", "grafana/control-plane.json"}

type dashboard struct {
	UID         string
	Annotations struct{ List []struct{ Name, Expr string } }
	Templating  struct {
		List []struct {
			Name  string
			Query any // an object, but text for the data source
		}
	}
	Panels []struct {
		ID                       int
		Title, Type, Description string
		Targets                  []struct{ Expr string }
	}
}

func TestDashboardsUseSeriesThatExist(t *testing.T) {
	all := series(t)
	shown, uids := map[string]bool{}, map[string]bool{}
	for _, file := range dashboards {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var d dashboard
		if err := json.Unmarshal(text, &d); err != nil {
			t.Fatal(err)
		}
		if uids[d.UID] {
			t.Errorf("%s: the uid %s is another dashboard's", file, d.UID)
		}
		uids[d.UID] = true
		check := func(where, expr string) {
			for _, wrong := range complaints(expr, all) {
				t.Errorf("%s: %s: %s", file, where, wrong)
			}
		}
		ids := map[int]bool{}
		for _, panel := range d.Panels {
			if ids[panel.ID] {
				t.Errorf("%s: %s: id %d is another panel's", file, panel.Title, panel.ID)
			}
			ids[panel.ID] = true
			if panel.Type != "row" && (len(panel.Targets) == 0 || panel.Description == "") {
				t.Errorf("%s: %s: no target, or no description", file, panel.Title)
			}
			for _, target := range panel.Targets {
				check(panel.Title, target.Expr)
				for _, found := range selector.FindAllStringSubmatch(target.Expr, -1) {
					shown[found[1]] = true
				}
			}
		}
		for _, annotation := range d.Annotations.List {
			check(annotation.Name, annotation.Expr)
		}
		for _, variable := range d.Templating.List {
			if query, ok := variable.Query.(map[string]any); ok {
				check(variable.Name, query["query"].(string))
			}
		}
	}

	// A series that nobody looks at is one that nobody knows.
	hidden := []string{"pgmtls_build_info", "pgmtls_policy_loaded_timestamp_seconds", "pgmtls_draining"}
	for name := range all {
		base := regexp.MustCompile(`_(bucket|count|sum)$`).ReplaceAllString(name, "")
		if !strings.HasPrefix(name, "pgmtls_") || slices.Contains(hidden, name) {
			continue
		}
		if !shown[name] && !shown[base+"_bucket"] && !shown[base+"_count"] {
			t.Errorf("no panel shows %s", name)
		}
	}
}
