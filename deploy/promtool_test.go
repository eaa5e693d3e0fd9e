package deploy_test

import (
	"maps"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

// promtool runs Prometheus' own tool in its directory.
func promtool(t *testing.T, args ...string) {
	t.Helper()
	program, err := exec.LookPath("promtool")
	if err != nil {
		t.Fatal("there is no promtool: make setup installs prometheus")
	}
	command := exec.CommandContext(t.Context(), program, args...)
	command.Dir = "prometheus"
	if output, err := command.CombinedOutput(); err != nil {
		t.Errorf("promtool %q: %v\n%s", args, err, output)
	}
}

func TestPrometheusTakesTheAlerts(t *testing.T) {
	promtool(t, "check", "rules", "--lint=all", "--lint-fatal", "alerts.yaml")
}

// The file has six healthy hours, in which no alert fires, and what makes each of them fire.
func TestAlertsFireWhenTheyShould(t *testing.T) {
	promtool(t, "test", "rules", "alerts_test.yaml")
}

// alertTests is as much of alerts_test.yaml as is read here.
type alertTests struct {
	Tests []struct {
		Name        string
		InputSeries []struct{ Series string } `yaml:"input_series"`
		Expressions []struct {
			Expr    string
			Samples []struct{ Labels string } `yaml:"exp_samples"`
		} `yaml:"promql_expr_test"`
	}
}

// An alert that nobody has seen firing may never do so, and the silence of one whose series are not there says nothing.
func TestEveryAlertIsTestedToFireAndToBeSilent(t *testing.T) {
	text, err := os.ReadFile("prometheus/alerts_test.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var file alertTests
	if err := yaml.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	fires := map[string]bool{}
	healthy := map[string]bool{}
	for i, test := range file.Tests {
		if i == 0 {
			for _, series := range test.InputSeries {
				name, _, _ := strings.Cut(series.Series, "{")
				healthy[name] = true
			}
			for _, expression := range test.Expressions {
				if !strings.Contains(expression.Expr, "ALERTS") || len(expression.Samples) != 0 {
					t.Errorf("what is healthy expects %q", expression.Samples)
				}
			}
		}
		for _, expression := range test.Expressions {
			for _, sample := range expression.Samples {
				for _, name := range regexp.MustCompile(`alertname="(\w+)"`).FindAllStringSubmatch(sample.Labels, -1) {
					fires[name[1]] = true
				}
			}
		}
	}
	all := alerts(t)
	var names []string
	for _, rule := range all {
		names = append(names, rule.Alert)
		for _, used := range selector.FindAllStringSubmatch(rule.Expr, -1) {
			if !healthy[used[1]] {
				t.Errorf("%s: nothing healthy has %s", rule.Alert, used[1])
			}
		}
	}
	slices.Sort(names)
	if got := slices.Sorted(maps.Keys(fires)); !slices.Equal(got, names) {
		t.Errorf("the tests see these alerts fire: %q, and there are %q", got, names)
	}
}
