package deploy_test

import (
	"net/url"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"pgmtls-proxy/internal/config"
)

// containerOf gives the container of a pod with that name.
func containerOf(t *testing.T, pod podSpec, name string) container {
	t.Helper()
	i := slices.IndexFunc(pod.Containers, func(c container) bool { return c.Name == name })
	if i < 0 {
		t.Fatalf("no container %s", name)
	}
	return pod.Containers[i]
}

// volumeAt gives the name of the volume that holds a path in a container, and where it is mounted.
func volumeAt(c container, file string) (volume, mount string) {
	for _, m := range c.VolumeMounts {
		if inside, err := filepath.Rel(m.MountPath, file); err == nil && filepath.IsLocal(inside) && len(m.MountPath) > len(mount) {
			volume, mount = m.Name, m.MountPath
		}
	}
	return volume, mount
}

// claimed reports whether a volume outlives its pod.
func claimed(all []manifest, volume string) bool {
	for _, m := range all {
		for _, claim := range m.Spec.VolumeClaimTemplates {
			if claim.Metadata.Name == volume {
				return true
			}
		}
	}
	return false
}

func controlOf(t *testing.T) (*config.Control, []manifest) {
	t.Helper()
	all := manifests(t, "kubernetes/control-plane.yaml")
	control, err := config.ParseControl("/etc/pgmtls/pgmtls.yaml", configMap(t, all, "pgmtls", "pgmtls.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	return control, all
}

// The volume's top belongs to root and may be written to by the group, so the daemon's own directory has to be below it.
func TestControlPlaneFindsItsFilesInKubernetes(t *testing.T) {
	control, all := controlOf(t)
	pod := pod(t, all)
	daemon := containerOf(t, pod, "pgmtls")
	if volume, _ := volumeAt(daemon, "/etc/pgmtls/pgmtls.yaml"); volume != "config" || strings.Join(daemon.Args, " ") != "serve --config /etc/pgmtls/pgmtls.yaml" {
		t.Errorf("its file is in the volume %q, and its arguments are %q", volume, daemon.Args)
	}
	volume, mount := volumeAt(daemon, control.DataDir)
	if !claimed(all, volume) || mount == control.DataDir {
		t.Errorf("data_dir %s is in the volume %q, which is mounted at %s", control.DataDir, volume, mount)
	}
	if volume, _ := volumeAt(daemon, control.MasterKeyFile); volume != "master-key" || strings.HasPrefix(control.MasterKeyFile, control.DataDir) {
		t.Errorf("the master key %s is in the volume %q", control.MasterKeyFile, volume)
	}
	if s := pod.SecurityContext; s.FSGroup == 0 || s.FSGroupChangePolicy != "OnRootMismatch" {
		t.Errorf("%+v: at each start the group would get at the store's files, which the daemon refuses", s)
	}
	if port := int(control.Listen[0].Port()); len(daemon.Ports) != 1 || daemon.Ports[0].ContainerPort != port {
		t.Errorf("it listens on %d, and the container's ports are %v", port, daemon.Ports)
	}
	if pod.TerminationGracePeriodSeconds <= 10 {
		t.Errorf("the kubelet kills after %d seconds what waits 10 for its requests", pod.TerminationGracePeriodSeconds)
	}
}

func TestAgentAndProxyShareAPolicyDirectoryInKubernetes(t *testing.T) {
	all := manifests(t, "kubernetes/agent.yaml")
	pod := pod(t, all)
	proxy, err := config.ParseProxy("/etc/pgmtls-proxy/proxy.yaml", configMap(t, all, "pgmtls-proxy", "proxy.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	agent, gate := containerOf(t, pod, "pgmtls-agent"), containerOf(t, pod, "pgmtls-proxy")
	flags := map[string]string{}
	for _, arg := range agent.Args {
		name, value, _ := strings.Cut(arg, "=")
		flags[name] = value
	}
	if flags["--policy-dir"] != proxy.PolicyDir || flags["--admin"] != proxy.Admin.String() {
		t.Errorf("the agent has %q, the proxy policy_dir %s and admin %s", agent.Args, proxy.PolicyDir, proxy.Admin)
	}
	// The agent makes its own directory, 0700, and the policy's in it: the volume's top may be written to by the group.
	if path.Dir(proxy.PolicyDir) != flags["--state"] {
		t.Errorf("the policy %s is not in the agent's own directory %s", proxy.PolicyDir, flags["--state"])
	}
	volume, mount := volumeAt(agent, flags["--state"])
	if seen, at := volumeAt(gate, proxy.PolicyDir); !claimed(all, volume) || seen != volume || at != mount || mount == flags["--state"] {
		t.Errorf("the agent's directory is in %q at %s, and the proxy's policy in %q at %s", volume, mount, seen, at)
	}
	if a, b := agent.SecurityContext.RunAsUser, gate.SecurityContext.RunAsUser; a != b || a == 0 {
		t.Errorf("the agent runs as %d and the proxy as %d, which could not read the keys", a, b)
	}
	if s := pod.SecurityContext; s.FSGroupChangePolicy != "OnRootMismatch" {
		t.Errorf("%+v: at each start the group would get at the keys, which are refused then", s)
	}
	control, _ := controlOf(t)
	if asked, err := url.Parse(flags["--control"]); err != nil || asked.Scheme != "https" || !slices.Contains(control.Names, asked.Hostname()) ||
		asked.Port() != "9816" {
		t.Errorf("the agent asks %s, and the control plane's certificate has %q", flags["--control"], control.Names)
	}
	if ca, _ := volumeAt(agent, flags["--ca"]); ca != "enrolment" {
		t.Errorf("the control plane's CA %s is in the volume %q", flags["--ca"], ca)
	}
	timeToDrain(t, pod, proxy)
}

// unit reads the settings of a unit, each with all its values.
func unit(t *testing.T, name string) map[string][]string {
	t.Helper()
	text, err := os.ReadFile("systemd/" + name)
	if err != nil {
		t.Fatal(err)
	}
	settings := map[string][]string{}
	for _, match := range regexp.MustCompile(`(?m)^(\w+)=((?:.*\\\n)*.*)$`).FindAllStringSubmatch(string(text), -1) {
		settings[match[1]] = append(settings[match[1]], strings.Join(strings.Fields(strings.ReplaceAll(match[2], "\\\n", " ")), " "))
	}
	return settings
}

// What the proxy's unit takes away, the others' do too.
func TestUnitsOfTheControlPlaneAreAsNarrowAsTheProxys(t *testing.T) {
	narrow := regexp.MustCompile(`^(NoNewPrivileges|CapabilityBoundingSet|AmbientCapabilities|Protect.*|Private.*|RemoveIPC|KeyringMode|LockPersonality|` +
		`MemoryDenyWriteExecute|Restrict[A-Z].*|SystemCall.*|LimitCORE|UMask|Type|NotifyAccess)$`)
	proxys := unit(t, "pgmtls-proxy.service")
	for _, name := range []string{"pgmtls.service", "pgmtls-agent.service"} {
		settings, same := unit(t, name), 0
		for key, values := range proxys {
			if !narrow.MatchString(key) {
				continue
			}
			same++
			if !slices.Equal(settings[key], values) {
				t.Errorf("%s: %s=%q, and the proxy's has %q", name, key, settings[key], values)
			}
		}
		if same < 25 {
			t.Fatalf("only %d settings of the proxy's unit were compared", same)
		}
		if dir := settings["StateDirectory"]; len(dir) != 1 || !slices.Equal(settings["StateDirectoryMode"], []string{"0700"}) || settings["ReadWritePaths"] != nil {
			t.Errorf("%s may write to %q (%q) and %q; its state is all it needs", name, dir, settings["StateDirectoryMode"], settings["ReadWritePaths"])
		}
	}
}

// The daemon has an account of its own, and the agent the proxy's: the policy's keys are readable by their owner alone.
func TestAccountsOfTheUnits(t *testing.T) {
	daemon, agent, proxy := unit(t, "pgmtls.service"), unit(t, "pgmtls-agent.service"), unit(t, "pgmtls-proxy.service")
	if !slices.Equal(agent["User"], proxy["User"]) || !slices.Equal(agent["Group"], proxy["Group"]) {
		t.Errorf("the agent runs as %q, and the proxy as %q", agent["User"], proxy["User"])
	}
	if slices.Equal(daemon["User"], proxy["User"]) || len(daemon["User"]) != 1 {
		t.Errorf("the daemon runs as %q, and the proxy as %q", daemon["User"], proxy["User"])
	}
	accounts, err := os.ReadFile("systemd/pgmtls.sysusers")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(accounts), "\nu "+daemon["User"][0]+" ") {
		t.Errorf("pgmtls.sysusers does not make %s", daemon["User"][0])
	}
	// The policy is in a directory that is the agent's alone, in its state.
	start, state := agent["ExecStart"][0], "/var/lib/"+agent["StateDirectory"][0]
	for _, flag := range []string{"--policy-dir " + state + "/policy", "--state " + state + "/", "--ca " + state + "/", "--token-file " + state + "/"} {
		if !strings.Contains(start, flag) {
			t.Errorf("the agent's unit has no %s", flag)
		}
	}
}

// A port that is taken when the machine starts must not leave a gate dead: every unit is started again without a limit, in
// pauses that grow.
func TestNoUnitIsGivenUp(t *testing.T) {
	units, err := filepath.Glob("systemd/*.service")
	if err != nil || len(units) < 3 {
		t.Fatalf("units %q: %v", units, err)
	}
	for _, file := range units {
		settings := unit(t, filepath.Base(file))
		for key, want := range map[string]string{"StartLimitIntervalSec": "0", "Restart": "on-failure", "RestartPreventExitStatus": "2"} {
			if !slices.Equal(settings[key], []string{want}) {
				t.Errorf("%s: %s=%q, want %s", file, key, settings[key], want)
			}
		}
		first, last := seconds(t, settings["RestartSec"]), seconds(t, settings["RestartMaxDelaySec"])
		if first < time.Second || first > 5*time.Second || last < 4*first || last > time.Minute || settings["RestartSteps"] == nil {
			t.Errorf("%s: the pauses grow from %v to %v in %q steps", file, first, last, settings["RestartSteps"])
		}
	}
}

// seconds reads the one value of a setting that is a time.
func seconds(t *testing.T, values []string) time.Duration {
	t.Helper()
	if len(values) != 1 {
		t.Fatalf("values %q, want one", values)
	}
	d, err := time.ParseDuration(values[0])
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// systemd ignores what it does not know, and what stands in another section than its own. It then says so once, in a log that
// nobody reads.
func TestSystemdKnowsEverySetting(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("no systemd-analyze")
	}
	dir := t.TempDir()
	units, err := filepath.Glob("systemd/*.s[eo][rc][vk]*")
	if err != nil || len(units) < 4 {
		t.Fatalf("units %q: %v", units, err)
	}
	program := regexp.MustCompile(`/usr/local/bin/pgmtls\S*`)
	for _, file := range units {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		copied := filepath.Join(dir, filepath.Base(file))
		if err := os.WriteFile(copied, program.ReplaceAll(text, []byte("/bin/true")), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range units {
		output, err := exec.CommandContext(t.Context(), analyze, "verify", "--man=no", filepath.Join(dir, filepath.Base(file))).CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v: %s", file, err, output)
		}
		for line := range strings.Lines(string(output)) {
			// Of systemd 254, and Debian 12 has 252.
			if !strings.Contains(line, "'RestartSteps' in section [Service]") && !strings.Contains(line, "'RestartMaxDelaySec' in section [Service]") {
				t.Errorf("%s: %s", file, line)
			}
		}
	}
}
