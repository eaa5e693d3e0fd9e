package pgwire

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
)

const ours = "pgmtls."

var settings = []Setting{{"pgmtls.client_addr", "203.0.113.7"}, {"pgmtls.client_subject", `CN=a b\c`}, {"pgmtls.client_serial", ""}}

// added is what settings are as options.
const added = `-c pgmtls.client_addr=203.0.113.7 -c pgmtls.client_subject=CN=a\ b\\c -c pgmtls.client_serial=`

func TestSettingsReplaceTheClients(t *testing.T) {
	for name, row := range map[string]struct {
		body string // without the last zero
		want string
	}{
		"no options":          {"user\x00ann\x00", "user\x00ann\x00options\x00" + added + "\x00"},
		"options before":      {"options\x00-c a=b\x00user\x00ann\x00", "user\x00ann\x00options\x00-c a=b " + added + "\x00"},
		"the last options":    {"options\x00-c a=b\x00user\x00ann\x00options\x00-c c=d\x00", "user\x00ann\x00options\x00-c c=d " + added + "\x00"},
		"a parameter":         {"user\x00ann\x00pgmtls.client_addr\x001.1.1.1\x00PgMTLS.x\x00y\x00pgmtlsx\x00z\x00", "user\x00ann\x00pgmtlsx\x00z\x00options\x00" + added + "\x00"},
		"unknown parameters":  {"user\x00ann\x00_pq_.future\x00x\x00search_path\x00\x00", "user\x00ann\x00_pq_.future\x00x\x00search_path\x00\x00options\x00" + added + "\x00"},
		"a user with a name":  {"user\x00pgmtls.client_addr\x00", "user\x00pgmtls.client_addr\x00options\x00" + added + "\x00"},
		"values with escapes": {"user\x00ann\x00options\x00-c a=b\\ c\\\\d\x00", "user\x00ann\x00options\x00-c a=b\\ c\\\\d " + added + "\x00"},
	} {
		s, err := readStartup(t, packet(version30|2, row.body+"\x00"))
		if err != nil {
			t.Fatal(err)
		}
		got, err := s.WithSettings(ours, settings)
		if want := packet(version30|2, row.want+"\x00"); err != nil || string(got) != string(want) {
			t.Errorf("%s:\n got %q, %v\nwant %q", name, got, err, want)
		}
	}
}

func TestEverySpellingOfASettingIsRemoved(t *testing.T) {
	for options, want := range map[string]string{
		"-c pgmtls.client_addr=1.1.1.1":            "",
		"-cpgmtls.client_addr=1.1.1.1":             "",
		"--pgmtls.client_addr=1.1.1.1":             "",
		"--pgmtls.client-addr=1.1.1.1":             "",
		"-c PGMTLS.Client_Addr=1.1.1.1":            "",
		`-c pgmtls\.client_addr=1.1.1.1`:           "",
		`\-\c\ pgmtls.client_addr=1`:               `-c\ pgmtls.client_addr=1`, // a name that begins with a space is none
		"\t-c\n pgmtls.client_addr=1.1.1.1 ":       "",
		"-- pgmtls.client_addr=1.1.1.1":            "-- pgmtls.client_addr=1.1.1.1", // the end of the switches: refused
		"-- ":                                      "",
		"-ec pgmtls.x=1":                           "-e",
		"-eFcpgmtls.x=1 -S 4":                      "-eF -S 4",
		"-e-pgmtls.x=1":                            "-e",
		"-c":                                       "-c",
		"-c a=pgmtls.x -c pgmtls.x=1 -d1":          "-c a=pgmtls.x -d1",
		"-S -cpgmtls.x=1":                          "-S -cpgmtls.x=1", // the value of -S, which the server refuses
		"-cpgmtls.x=1 -cpgmtls.y=2 --pgmtls.z":     "",
		"-c pgmtlsx.x=1 --pgmtl-s.x=1 -c xpgmtls.": "-c pgmtlsx.x=1 --pgmtl-s.x=1 -c xpgmtls.",
		`-c a=b\`:         "-c a=b",
		"x -c pgmtls.x=1": "x -c pgmtls.x=1", // no switch: refused
		"-":               "-",
		"":                "",
	} {
		if got := joinOptions(withoutSettings(splitOptions(options), ours)); got != want {
			t.Errorf("%q: got %q, want %q", options, got, want)
		}
	}
}

func TestPacketWithoutRoomForTheSettingsIsRefused(t *testing.T) {
	const prefix, suffix = "user\x00ann\x00x\x00", "\x00\x00"
	room := maxStartup - 4 - len(prefix) - len(suffix) - len("options\x00\x00") - len(added)
	for extra, want := range map[int]error{0: nil, 1: ErrStartupTooLong} {
		s, err := readStartup(t, packet(version30, prefix+strings.Repeat("x", room+extra)+suffix))
		if err != nil {
			t.Fatal(err)
		}
		got, err := s.WithSettings(ours, settings)
		if !errors.Is(err, want) || err == nil && len(got) != maxStartup+4 {
			t.Errorf("%d bytes too many: %d bytes, %v", extra, len(got), err)
		}
	}
}

// inForce is what a server makes of options: the settings, the last of a name, and whether it takes them.
func inForce(options string) (map[string]string, bool) {
	set := map[string]string{}
	words := splitOptions(options)
	for len(words) > 0 {
		word := words[0]
		words = words[1:]
		if word == "--" {
			return set, len(words) == 0
		}
		if len(word) < 2 || word[0] != '-' {
			return set, false
		}
		for rest := word[1:]; rest != ""; {
			flag := rest[0]
			rest = rest[1:]
			if !strings.ContainsRune("ABCcDdfhkNoprStvW-", rune(flag)) {
				continue
			}
			if rest == "" {
				if len(words) == 0 {
					return set, false
				}
				rest, words = words[0], words[1:]
			}
			if flag == 'c' || flag == '-' {
				name, value, _ := strings.Cut(rest, "=")
				set[strings.ToLower(strings.ReplaceAll(name, "-", "_"))] = value
			}
			break
		}
	}
	return set, true
}

// FuzzSettings holds the rewriter against what a server would make of both packets.
func FuzzSettings(f *testing.F) {
	for _, options := range []string{
		"", "-c a=b", "-cpgmtls.client_addr=1", "--pgmtls.client-addr=1", `-c a=b\ c`, `-d\`, `\`, `-d \`, "-d", "--", "-ec pgmtls.x=1", "-e-pgmtls.x", "x", "\xa0-c pgmtls.x=1",
	} {
		f.Add("ann", "options", options, "search_path", "x")
	}
	f.Add("ann", "pgmtls.client_addr", "1", "PGMTLS.x", "y")
	f.Add("ann", "options", "-c a=b", "options", "-c c=d")
	f.Fuzz(func(t *testing.T, user, name1, value1, name2, value2 string) {
		body := "user\x00" + user + "\x00" + name1 + "\x00" + value1 + "\x00" + name2 + "\x00" + value2 + "\x00\x00"
		if len(body) > maxStartup {
			return
		}
		before, err := readStartup(t, packet(version30, body))
		if err != nil {
			return
		}
		original := string(before.Raw)
		rewritten, err := before.WithSettings(ours, settings)
		if string(before.Raw) != original {
			t.Fatal("the packet was changed")
		}
		if err != nil {
			if !errors.Is(err, ErrStartupTooLong) {
				t.Fatal(err)
			}
			return
		}
		after, err := readStartup(t, rewritten)
		if err != nil {
			t.Fatalf("%q: %v", rewritten, err)
		}
		if after.User != before.User || after.Database != before.Database || after.ApplicationName != before.ApplicationName {
			t.Fatalf("%+v became %+v", before, after)
		}
		kept, oldOptions := others(before)
		same, newOptions := others(after)
		if !slices.Equal(kept, same) {
			t.Fatalf("%q became %q", kept, same)
		}
		if slices.Contains(splitOptions(oldOptions), "") {
			return // see joinOptions
		}
		was, wasGood := inForce(oldOptions)
		is, isGood := inForce(newOptions)
		if wasGood != isGood {
			t.Fatalf("%q is %v, %q is %v", oldOptions, wasGood, newOptions, isGood)
		}
		if !isGood {
			return
		}
		maps.DeleteFunc(was, func(name, _ string) bool { return strings.HasPrefix(name, ours) })
		for _, s := range settings {
			was[s.Name] = s.Value
		}
		if !maps.Equal(was, is) {
			t.Fatalf("%q gives %v, want %v", newOptions, is, was)
		}
	})
}

// others are the parameters that have to stay, and the options.
func others(s *Startup) (pairs []string, options string) {
	for name, value := range s.parameters() {
		if name == "options" {
			options = value
		} else if !strings.HasPrefix(strings.ToLower(name), ours) {
			pairs = append(pairs, name, value)
		}
	}
	return pairs, options
}
