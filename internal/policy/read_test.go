package policy

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"pgmtls-proxy/internal/testkit/must"
)

// versionRules is how many rules every version of the tests' policy has. They stand one on a line at the end, so a
// file that was cut between two lines is a policy with fewer.
const versionRules = 20

func versionPolicy(version int, files string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "generation: \"%d\"\nclient_auth: off\ncertificates:\n  - {cert: %stls.crt, key: %stls.key}\nip_rules:\n", version, files, files)
	for i := range versionRules {
		fmt.Fprintf(&b, "  - {id: r%d, cidr: 10.0.%d.0/24}\n", i, i)
	}
	return b.String()
}

// writeVersion writes a policy whose certificate and key carry the version too. They are no PEM: reading does not parse.
func writeVersion(t testing.TB, dir string, version int) {
	t.Helper()
	must.OK(t, os.MkdirAll(dir, 0o755))
	put(t, filepath.Join(dir, "tls.crt"), fmt.Sprint("certificate ", version))
	put(t, filepath.Join(dir, "tls.key"), fmt.Sprint("key ", version))
	put(t, filepath.Join(dir, policyName), versionPolicy(version, ""))
}

// put replaces a file by rename.
func put(t testing.TB, path, text string) {
	t.Helper()
	must.OK(t, os.WriteFile(path+".new", []byte(text), 0o600))
	must.OK(t, os.Rename(path+".new", path))
}

// swap replaces a symbolic link, as Kubernetes does.
func swap(t testing.TB, link, target string) {
	t.Helper()
	must.OK(t, os.Symlink(target, link+".new"))
	must.OK(t, os.Rename(link+".new", link))
}

// whole says what is wrong with files that are not all of one version.
func whole(files *Files) error {
	version := files.Policy.Generation
	switch {
	case len(files.Policy.IPRules) != versionRules:
		return fmt.Errorf("version %s has %d rules", version, len(files.Policy.IPRules))
	case len(files.Policy.Certificates) != 1:
		return fmt.Errorf("version %s has %d certificates", version, len(files.Policy.Certificates))
	}
	pair := files.Policy.Certificates[0]
	cert, key := string(files.Contents[pair.Cert.Path]), string(files.Contents[pair.Key.Path])
	if cert != "certificate "+version || key != "key "+version {
		return fmt.Errorf("version %s has %q and %q", version, cert, key)
	}
	return nil
}

func TestReadGivesThePolicyAndWhatItNames(t *testing.T) {
	dir := t.TempDir()
	writeVersion(t, dir, 7)
	files, err := readDir(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := whole(files); err != nil {
		t.Error(err)
	}
	again, err := readDir(t.Context(), dir)
	if err != nil || again.Digest != files.Digest || len(files.Digest) != 64 {
		t.Errorf("digests %q and %q, %v", files.Digest, again.Digest, err)
	}
	put(t, filepath.Join(dir, "tls.key"), "key 8")
	if again, err = readDir(t.Context(), dir); err != nil || again.Digest == files.Digest {
		t.Errorf("another key, and the digest is the same: %v", err)
	}
}

func TestFilesThatCannotBeUsedAreAllNamedWithTheirLines(t *testing.T) {
	dir := t.TempDir()
	put(t, filepath.Join(dir, "large.pem"), strings.Repeat("x", maxFile+1))
	must.OK(t, os.Mkdir(filepath.Join(dir, "dir.pem"), 0o755))
	must.OK(t, syscall.Mkfifo(filepath.Join(dir, "pipe.pem"), 0o600))
	put(t, filepath.Join(dir, "open.key"), "k")
	must.OK(t, os.Chmod(filepath.Join(dir, "open.key"), 0o644))
	put(t, filepath.Join(dir, policyName), `client_ca:
  - large.pem
  - dir.pem
  - pipe.pem
certificates:
  - {cert: gone.crt, key: open.key}
ip_rules: []
`)
	_, err := readDir(t.Context(), dir)
	path := filepath.Join(dir, policyName)
	want := path + `:2: client_ca[0]: "large.pem" is refused: it is larger than 1024 KiB` + "\n" +
		path + `:3: client_ca[1]: "dir.pem" is refused: it is not a regular file (d---------)` + "\n" +
		path + `:4: client_ca[2]: "pipe.pem" is refused: it is not a regular file (p---------)` + "\n" +
		path + `:6: certificates[0].cert: "gone.crt" does not exist; put the file into the policy directory, or correct the name` + "\n" +
		path + `:6: certificates[0].key: "open.key" is refused: private key file has group or world access (mode 0644); chmod 0600 it, or in a Kubernetes volume set defaultMode: 0400`
	if err == nil || err.Error() != want {
		t.Errorf("\n got %v\nwant %s", err, want)
	}
}

// Revocation lists grow with what was revoked. Everything else is small, and so is all of it together.
func TestListsMayBeLargerThanOtherFiles(t *testing.T) {
	dir := t.TempDir()
	large := func(name string, size int64) {
		put(t, filepath.Join(dir, name), "")
		must.OK(t, os.Truncate(filepath.Join(dir, name), size))
	}
	large("exact.pem", maxList)
	large("also.pem", maxList)
	large("over.pem", maxList+1)
	large("one.pem", 1)
	large("server.crt", maxFile)
	large("server.key", maxFile)
	must.OK(t, os.Chmod(filepath.Join(dir, "server.key"), 0o600))
	for lists, want := range map[string]string{
		"exact.pem":                    "",
		"exact.pem, also.pem":          "",
		"over.pem":                     `client_crl[0]: "over.pem" is refused: it is larger than 16384 KiB`,
		"exact.pem, also.pem, one.pem": `client_crl[2]: "one.pem" is refused: with it the revocation lists are larger than 32 MiB together`,
	} {
		put(t, filepath.Join(dir, policyName), "client_ca: [one.pem]\nclient_crl: ["+lists+"]\ncertificates: [{cert: server.crt, key: server.key}]\nip_rules: []\n")
		_, err := readDir(t.Context(), dir)
		if want == "" && err != nil || want != "" && (err == nil || !strings.HasSuffix(err.Error(), want)) {
			t.Errorf("%s: got %v, want %s", lists, err, want)
		}
	}
}

func TestMissingPolicyIsNamed(t *testing.T) {
	dir := t.TempDir()
	_, err := readDir(t.Context(), dir)
	if want := filepath.Join(dir, policyName) + ": does not exist; write the policy, or correct policy_dir"; err == nil || err.Error() != want {
		t.Errorf("\n got %v\nwant %s", err, want)
	}
}

func TestKeyThatOthersCanReadIsRefusedInEveryMode(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "tls.key")
	put(t, path, "key")
	for mode := os.FileMode(0o400); mode <= 0o777; mode++ {
		must.OK(t, os.Chmod(path, mode))
		_, err := readFile(path, keyFile)
		if ok := mode&0o077 == 0; (err == nil) != ok {
			t.Errorf("mode %04o: %v", mode, err)
		}
		if _, err := readFile(path, publicFile); err != nil {
			t.Errorf("mode %04o, a file that is no key: %v", mode, err)
		}
	}
}

// swaps replaces versions until it has done 10,000 or five seconds have passed, while the directory is read all the
// time. They come in bursts of 32, each begun when a reading has ended, so that readings meet beginnings, middles and
// ends. Not one may mix two versions.
func swaps(t *testing.T, dir string, change func(version int)) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var done atomic.Bool
	finished, read := make(chan int, 1), make(chan struct{}, 1)
	go func() {
		end, version := time.Now().Add(5*time.Second), 1
		defer func() {
			done.Store(true)
			finished <- version - 1
		}()
		for ; version <= 10_000 && time.Now().Before(end) && ctx.Err() == nil; version++ {
			change(version)
			if version%32 == 0 {
				select {
				case <-read:
				case <-ctx.Done():
				}
			}
		}
	}()
	reads, versions := 0, map[string]bool{}
	for !done.Load() {
		files, err := readDir(ctx, dir)
		if err != nil {
			t.Fatal(err)
		}
		if err := whole(files); err != nil {
			t.Fatalf("after %d readings: %v", reads, err)
		}
		reads++
		versions[files.Policy.Generation] = true
		select {
		case read <- struct{}{}:
		default:
		}
	}
	last := <-finished
	files, err := readDir(ctx, dir)
	if err != nil || files.Policy.Generation != fmt.Sprint(last) || whole(files) != nil {
		t.Errorf("the last version is not what is read: %v", err)
	}
	t.Logf("%d swaps, %d readings, %d versions seen, none mixed", last, reads, len(versions))
	if len(versions) < 2 {
		t.Errorf("%d versions seen: the test has shown nothing", len(versions))
	}
}

func TestSwapsOfTheWholeDirectoryAreNeverMixed(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, "policy")
	versioned := func(version int) string { return filepath.Join(root, fmt.Sprint("v", version)) }
	writeVersion(t, versioned(0), 0)
	swap(t, dir, "v0")
	swaps(t, dir, func(version int) {
		writeVersion(t, versioned(version), version)
		swap(t, dir, fmt.Sprint("v", version))
		must.OK(t, os.RemoveAll(versioned(version-1)))
	})
}

func TestSwapsOfAKubernetesVolumeAreNeverMixed(t *testing.T) {
	dir := t.TempDir()
	versioned := func(version int) string { return filepath.Join(dir, fmt.Sprint("..v", version)) }
	writeVersion(t, versioned(0), 0)
	swap(t, filepath.Join(dir, dataLink), "..v0")
	for _, name := range []string{policyName, "tls.crt", "tls.key"} {
		must.OK(t, os.Symlink(filepath.Join(dataLink, name), filepath.Join(dir, name)))
	}
	swaps(t, dir, func(version int) {
		writeVersion(t, versioned(version), version)
		swap(t, filepath.Join(dir, dataLink), fmt.Sprint("..v", version))
		must.OK(t, os.RemoveAll(versioned(version-1)))
	})
}

// A volume for the policy and one for the key pair: each is whole in itself.
func TestVolumeInsideThePolicyDirectoryIsNeverMixed(t *testing.T) {
	dir := t.TempDir()
	inner := filepath.Join(dir, "tls")
	versioned := func(version int) string { return filepath.Join(inner, fmt.Sprint("..v", version)) }
	writeVersion(t, versioned(0), 0)
	swap(t, filepath.Join(inner, dataLink), "..v0")
	put(t, filepath.Join(dir, policyName), versionPolicy(0, "tls/"))
	done := make(chan struct{})
	go func() {
		defer close(done)
		for version := 1; version <= 1000; version++ {
			writeVersion(t, versioned(version), version)
			swap(t, filepath.Join(inner, dataLink), fmt.Sprint("..v", version))
			must.OK(t, os.RemoveAll(versioned(version-1)))
		}
	}()
	for reading := true; reading; {
		select {
		case <-done:
			reading = false
		default:
		}
		files, err := readDir(t.Context(), dir)
		if err != nil {
			t.Fatal(err)
		}
		cert, key := string(files.Contents["tls/tls.crt"]), string(files.Contents["tls/tls.key"])
		if strings.TrimPrefix(cert, "certificate ") != strings.TrimPrefix(key, "key ") {
			t.Fatalf("mixed: %q and %q", cert, key)
		}
	}
}

// policy.yaml is a link into a version, and the files beside it are of another one.
func TestPolicyThatIsALinkIsReadWithTheFilesOfItsVersion(t *testing.T) {
	dir := t.TempDir()
	writeVersion(t, dir, 1)
	writeVersion(t, filepath.Join(dir, "v2"), 2)
	swap(t, filepath.Join(dir, policyName), filepath.Join("v2", policyName))
	files, err := readDir(t.Context(), dir)
	if err != nil || whole(files) != nil || files.Policy.Generation != "2" {
		t.Errorf("%+v, %v", files, err)
	}
}

func TestFileThatIsHeldOpenAndLeftAloneIsTaken(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	writeVersion(t, dir, 1)
	f, err := os.OpenFile(filepath.Join(dir, "tls.crt"), os.O_WRONLY, 0)
	must.OK(t, err)
	defer f.Close()
	start := time.Now()
	files, err := readDir(t.Context(), dir)
	if err != nil || whole(files) != nil {
		t.Fatalf("%v, %v", files, err)
	}
	if d := time.Since(start); d < writeHeld {
		t.Errorf("taken after %v", d)
	}
}

func TestReadingEndsWithItsContext(t *testing.T) {
	dir := t.TempDir()
	writeVersion(t, dir, 1)
	f, err := os.OpenFile(filepath.Join(dir, "tls.crt"), os.O_WRONLY, 0)
	must.OK(t, err)
	defer f.Close()
	cause := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	if _, err := readDir(ctx, dir); err != cause {
		t.Errorf("got %v, want the context's cause", err)
	}
}

// Where the system can't say who has a file open, its age must.
func TestFileThatHasJustChangedCountsAsBeingWritten(t *testing.T) {
	now := time.Now()
	for age, want := range map[time.Duration]bool{
		0: true, settled - 1: true, settled: false, time.Hour: false, -1: false, -time.Hour: false,
	} {
		if got := fresh(now.Add(-age), now); got != want {
			t.Errorf("age %v: %v", age, got)
		}
	}
}
