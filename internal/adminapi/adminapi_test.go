package adminapi

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

// The files were written by the types of which these were made. A change of one is a change of what others read: only
// additions are allowed, and a new file is then written by hand.
func TestDocumentsAreThoseOfTheGoldenFiles(t *testing.T) {
	for name, value := range map[string]any{
		"status": new(Status), "sessions": new([]Session), "dryrun": new(DryRun), "refused": new(RefusedDraft), "explain": new(Explanation), "question": new(Question),
	} {
		t.Run(name, func(t *testing.T) {
			golden, err := os.ReadFile(filepath.Join("testdata", name+".json"))
			if err != nil {
				t.Fatal(err)
			}
			n := 0
			fill(reflect.ValueOf(value).Elem(), &n)
			got, err := json.MarshalIndent(value, "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			if string(got)+"\n" != string(golden) {
				t.Errorf("got\n%s\nwant\n%s", got, golden)
			}
			read := reflect.New(reflect.TypeOf(value).Elem())
			if err := json.Unmarshal(golden, read.Interface()); err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(read.Interface(), value) {
				t.Errorf("read back, it is %+v, want %+v", read.Elem(), value)
			}
		})
	}
}

// fill gives every field a value of its own.
func fill(v reflect.Value, n *int) {
	*n++
	if v.Type() == reflect.TypeFor[time.Time]() {
		v.Set(reflect.ValueOf(time.Unix(int64(1_800_000_000+*n), 0).UTC()))
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i), n)
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), n)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		fill(v.Index(0), n)
		fill(v.Index(1), n)
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		element := reflect.New(v.Type().Elem()).Elem()
		fill(element, n)
		v.SetMapIndex(reflect.ValueOf("key"), element)
	case reflect.String:
		v.SetString("text " + string(rune('a'+*n%26)))
	case reflect.Int, reflect.Int64:
		v.SetInt(int64(*n))
	case reflect.Uint64:
		v.SetUint(uint64(*n))
	case reflect.Bool:
		v.SetBool(true)
	default:
		panic(v.Kind())
	}
}

func TestClientFollowsNoRedirectAndNamesItselfLocally(t *testing.T) {
	var host string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host = r.Host
		http.Redirect(w, r, "/elsewhere", http.StatusFound)
	}))
	defer server.Close()
	code, _, err := Do(t.Context(), "tcp", server.Listener.Addr().String(), Request{Method: http.MethodGet, Path: "/status", Timeout: 10 * time.Second})
	if err != nil || code != http.StatusFound || host != LocalName {
		t.Errorf("got %d, %v; the request named %q", code, err, host)
	}
}

func TestClientSaysWhichProxyDoesNotAnswer(t *testing.T) {
	path := filepath.Join(t.TempDir(), "admin.sock")
	_, _, err := Do(t.Context(), "unix", path, Request{Method: http.MethodGet, Path: "/status", Timeout: 10 * time.Second})
	if err == nil || !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), "http://") {
		t.Errorf("got %v", err)
	}
}
