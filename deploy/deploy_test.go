package deploy_test

import (
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"

	"pgmtls-proxy/internal/config"
)

// manifest is what these tests look at in a Kubernetes object, of whatever kind.
type manifest struct {
	Kind     string
	Metadata struct{ Name string }
	Data     map[string]string
	Spec     struct {
		Template             struct{ Spec podSpec }
		VolumeClaimTemplates []struct{ Metadata struct{ Name string } } `yaml:"volumeClaimTemplates"`
	}
}

type podSpec struct {
	TerminationGracePeriodSeconds int `yaml:"terminationGracePeriodSeconds"`
	SecurityContext               struct {
		RunAsNonRoot        bool   `yaml:"runAsNonRoot"`
		RunAsUser           int    `yaml:"runAsUser"`
		FSGroup             int    `yaml:"fsGroup"`
		FSGroupChangePolicy string `yaml:"fsGroupChangePolicy"`
	} `yaml:"securityContext"`
	Containers []container
	Volumes    []struct {
		Name      string
		ConfigMap struct{ Name string } `yaml:"configMap"`
		Secret    struct {
			SecretName string `yaml:"secretName"`
			Items      []struct{ Key, Path string }
		}
		Projected struct {
			Sources []struct {
				ConfigMap struct{ Name string } `yaml:"configMap"`
				Secret    struct {
					Items []struct{ Key, Path string }
				}
			}
		}
	}
}

type container struct {
	Name          string
	Command, Args []string
	Ports         []struct {
		ContainerPort int `yaml:"containerPort"`
	}
	SecurityContext struct {
		RunAsUser                int   `yaml:"runAsUser"`
		AllowPrivilegeEscalation *bool `yaml:"allowPrivilegeEscalation"`
		ReadOnlyRootFilesystem   bool  `yaml:"readOnlyRootFilesystem"`
		Capabilities             struct{ Drop []string }
	} `yaml:"securityContext"`
	VolumeMounts []struct {
		Name      string
		MountPath string `yaml:"mountPath"`
	} `yaml:"volumeMounts"`
}

// manifests reads every object of a file.
func manifests(t *testing.T, name string) []manifest {
	t.Helper()
	file, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var all []manifest
	for decoder := yaml.NewDecoder(file); ; {
		var one manifest
		if err := decoder.Decode(&one); err != nil {
			if len(all) == 0 || err.Error() != "EOF" {
				t.Fatalf("%s, object %d: %v", name, len(all)+1, err)
			}
			return all
		}
		all = append(all, one)
	}
}

func kubernetesFiles(t *testing.T) []string {
	t.Helper()
	names, err := filepath.Glob("kubernetes/*.yaml")
	if err != nil || len(names) == 0 {
		t.Fatalf("no manifests: %v", err)
	}
	return names
}

// configMap gives one text of the ConfigMap with that name.
func configMap(t *testing.T, all []manifest, name, key string) []byte {
	t.Helper()
	for _, m := range all {
		if m.Kind == "ConfigMap" && m.Metadata.Name == name {
			if text, ok := m.Data[key]; ok {
				return []byte(text)
			}
		}
	}
	t.Fatalf("no ConfigMap %s with %s", name, key)
	return nil
}

// pod gives the one pod specification among the objects.
func pod(t *testing.T, all []manifest) podSpec {
	t.Helper()
	for _, m := range all {
		if len(m.Spec.Template.Spec.Containers) > 0 {
			return m.Spec.Template.Spec
		}
	}
	t.Fatal("no pod specification")
	return podSpec{}
}

// Every file that the proxy will look for has to be where the volumes put it, and both texts have to be ones that
// the proxy takes.
func TestKubernetesManifestsHoldAConfigurationThatWorks(t *testing.T) {
	for _, name := range []string{"kubernetes/deployment.yaml", "kubernetes/sidecar.yaml"} {
		t.Run(name, func(t *testing.T) {
			all := manifests(t, name)
			pod := pod(t, all)
			files := mounted(t, pod)

			const proxyFile = "/etc/pgmtls-proxy/proxy.yaml"
			if files[proxyFile] != "pgmtls-proxy" {
				t.Errorf("the ConfigMap pgmtls-proxy is not mounted at %s", path.Dir(proxyFile))
			}
			proxy, err := config.ParseProxy(proxyFile, configMap(t, all, "pgmtls-proxy", "proxy.yaml"))
			if err != nil {
				t.Fatal(err)
			}
			policyFile := path.Join(proxy.PolicyDir, "policy.yaml")
			if files[policyFile] != "pgmtls-policy" {
				t.Errorf("the ConfigMap pgmtls-policy is not mounted at %s", proxy.PolicyDir)
			}
			policy, err := config.ParsePolicy(policyFile, configMap(t, all, "pgmtls-policy", "policy.yaml"))
			if err != nil {
				t.Fatal(err)
			}

			var needed []string
			for _, certificate := range policy.Certificates {
				needed = append(needed, certificate.Cert.Path, certificate.Key.Path)
			}
			for _, file := range append(policy.ClientCA, policy.ClientCRL...) {
				needed = append(needed, file.Path)
			}
			if proxy.Backend.CA.Path != "" {
				needed = append(needed, proxy.Backend.CA.Path)
			}
			for _, file := range needed {
				if !path.IsAbs(file) {
					file = path.Join(proxy.PolicyDir, file)
				}
				if _, ok := files[file]; !ok {
					t.Errorf("no volume has %s", file)
				}
			}

			timeToDrain(t, pod, proxy)
		})
	}
}

func timeToDrain(t *testing.T, pod podSpec, proxy *config.Proxy) {
	t.Helper()
	drain := proxy.Drain.ReadyDelay + proxy.Drain.Grace
	if grace := time.Duration(pod.TerminationGracePeriodSeconds) * time.Second; grace <= drain {
		t.Errorf("the kubelet kills after %s what may drain for %s", grace, drain)
	}
}

// mounted maps the path of each file that the proxy's container sees to the ConfigMap, or the key of the Secret, that
// it is from.
func mounted(t *testing.T, pod podSpec) map[string]string {
	t.Helper()
	files := map[string]string{}
	for _, container := range pod.Containers {
		if container.Name != "pgmtls-proxy" {
			continue
		}
		for _, mount := range container.VolumeMounts {
			for _, volume := range pod.Volumes {
				if volume.Name != mount.Name {
					continue
				}
				if volume.ConfigMap.Name != "" {
					files[path.Join(mount.MountPath, "proxy.yaml")] = volume.ConfigMap.Name
				}
				for _, source := range volume.Projected.Sources {
					if source.ConfigMap.Name != "" {
						files[path.Join(mount.MountPath, "policy.yaml")] = source.ConfigMap.Name
					}
					for _, item := range source.Secret.Items {
						files[path.Join(mount.MountPath, item.Path)] = item.Key
					}
				}
			}
		}
	}
	return files
}

func TestKubernetesContainersHaveNoPrivileges(t *testing.T) {
	for _, name := range kubernetesFiles(t) {
		pod := pod(t, manifests(t, name))
		if !pod.SecurityContext.RunAsNonRoot {
			t.Errorf("%s: a pod that may run as root", name)
		}
		for _, container := range pod.Containers {
			context := container.SecurityContext
			if context.AllowPrivilegeEscalation == nil || *context.AllowPrivilegeEscalation ||
				!context.ReadOnlyRootFilesystem || strings.Join(context.Capabilities.Drop, "") != "ALL" {
				t.Errorf("%s: container %s: %+v", name, container.Name, context)
			}
		}
	}
}

// systemd must not kill a proxy of the default configuration while it drains, and must start the binary with the
// same file everywhere.
func TestSystemdGivesTimeToDrain(t *testing.T) {
	unit, err := os.ReadFile("systemd/pgmtls-proxy.service")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`(?m)^TimeoutStopSec=(\w+)$`).FindSubmatch(unit)
	if found == nil {
		t.Fatal("no TimeoutStopSec")
	}
	stop, err := time.ParseDuration(string(found[1]))
	if err != nil {
		t.Fatal(err)
	}
	defaults, err := config.ParseProxy("/etc/pgmtls-proxy/proxy.yaml", []byte("listen: ['127.0.0.1:5432']\nbackend: {address: 'unix:/run/postgresql/.s.PGSQL.5432'}\n"))
	if err != nil {
		t.Fatal(err)
	}
	// The first step is the delay or, behind a takeover, the startups, for which a drain waits 10 seconds at most; the last
	// ones take 6 seconds.
	first := max(defaults.Drain.ReadyDelay, min(defaults.Limits.StartupTimeout, 10*time.Second))
	if drain := first + defaults.Drain.Grace + 6*time.Second; stop <= drain {
		t.Errorf("systemd kills after %s what may drain for %s", stop, drain)
	}
	if descriptors := 2 * defaults.Limits.Sessions; descriptors >= 65536 || !strings.Contains(string(unit), "\nLimitNOFILE=65536\n") {
		t.Errorf("the default limits.sessions needs %d descriptors and more", descriptors)
	}
}

// What the proxy tells systemd is lost if the unit does not listen.
func TestSystemdListensToTheProxy(t *testing.T) {
	unit, err := os.ReadFile("systemd/pgmtls-proxy.service")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"Type=notify", "NotifyAccess=main", "WatchdogSec=30s", "ExecReload=/bin/kill -HUP $MAINPID"} {
		if !strings.Contains(string(unit), "\n"+line+"\n") {
			t.Errorf("the unit does not say %s", line)
		}
	}
}

// The image holds what `go build` needs and no more: a new directory has to be named in three places.
func TestDockerfileCopiesWhatDockerignoreLetsIn(t *testing.T) {
	dockerfile, err := os.ReadFile("../Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	ignored, err := os.ReadFile("../.dockerignore")
	if err != nil {
		t.Fatal(err)
	}
	for _, found := range regexp.MustCompile(`(?m)^!(\S+)$`).FindAllSubmatch(ignored, -1) {
		if !regexp.MustCompile(`(?m)^COPY .*\b` + regexp.QuoteMeta(string(found[1]))).Match(dockerfile) {
			t.Errorf("the Dockerfile copies no %s", found[1])
		}
	}
	if !regexp.MustCompile(`(?m)^USER [1-9][0-9]*:[1-9][0-9]*$`).Match(dockerfile) {
		t.Error("the image's user is no number, or is root")
	}
}
