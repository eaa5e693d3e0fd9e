package apiserver

import (
	"bytes"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/prometheus/client_golang/prometheus"

	"pgmtls-proxy/internal/control/api"
)

// described is the OpenAPI file.
var described = sync.OnceValue(func() *openapi3.T {
	doc, err := openapi3.NewLoader().LoadFromData(api.OpenAPI)
	if err != nil {
		panic(err)
	}
	for _, kind := range []string{"text/event-stream", "application/x-ndjson", "text/plain", "application/yaml"} {
		openapi3filter.RegisterBodyDecoder(kind, func(body io.Reader, _ http.Header, _ *openapi3.SchemaRef, _ openapi3filter.EncodingFn) (any, error) {
			text, err := io.ReadAll(body)
			return string(text), err
		})
	}
	return doc
})

// template finds the path of the file that a request's path is of; several may fit, and the one with the fewest
// parameters is meant.
func template(path string) string {
	best := ""
	for candidate := range described().Paths.Map() {
		expression := regexp.MustCompile(`\\\{[a-z]+\\\}`).ReplaceAllString(regexp.QuoteMeta(candidate), `[^/]+`)
		if regexp.MustCompile("^"+expression+"$").MatchString(path) && (best == "" || strings.Count(candidate, "{") < strings.Count(best, "{")) {
			best = candidate
		}
	}
	return best
}

// seen has which statuses of which operations tests have got.
var seen = struct {
	sync.Mutex
	of map[string]map[int]bool
}{of: map[string]map[int]bool{}}

// checkDescribed holds an answer against the file. Answers about what the file does not have are errors.
func checkDescribed(t *testing.T, r *http.Request, got *http.Response, body []byte) {
	t.Helper()
	path := template(strings.TrimSuffix(r.URL.Path, "/"))
	var operation *openapi3.Operation
	if path != "" {
		operation = described().Paths.Value(path).GetOperation(r.Method)
	}
	if operation == nil {
		checkError(t, r, got, body)
		return
	}
	seen.Lock()
	if seen.of[operation.OperationID] == nil {
		seen.of[operation.OperationID] = map[int]bool{}
	}
	seen.of[operation.OperationID][got.StatusCode] = true
	seen.Unlock()
	if got.StatusCode >= 400 {
		checkError(t, r, got, body)
	}
	if got.StatusCode == http.StatusOK && strings.HasPrefix(got.Header.Get("Content-Type"), "application/x-ndjson") {
		return // line by line, by who reads them
	}
	input := &openapi3filter.ResponseValidationInput{
		RequestValidationInput: &openapi3filter.RequestValidationInput{Request: r,
			Route: &routers.Route{Spec: described(), Path: path, PathItem: described().Paths.Value(path), Method: r.Method, Operation: operation}},
		Status: got.StatusCode, Header: got.Header, Body: io.NopCloser(bytes.NewReader(body)),
		Options: &openapi3filter.Options{IncludeResponseStatus: true, MultiError: true},
	}
	if err := openapi3filter.ValidateResponse(t.Context(), input); err != nil {
		t.Errorf("%s %s: the answer is not as described: %v", r.Method, r.URL.Path, err)
	}
}

// checkError wants the one form that errors have.
func checkError(t *testing.T, r *http.Request, got *http.Response, body []byte) {
	t.Helper()
	if r.Method == http.MethodHead {
		return
	}
	var said map[string]string
	if err := json.Unmarshal(body, &said); err != nil || len(said) != 2 || said["id"] == "" || said["message"] == "" {
		t.Errorf("%s %s: got %d with %q, want an error with id and message", r.Method, r.URL.Path, got.StatusCode, body)
	}
	if api.StatusOf(said["id"]) != got.StatusCode {
		t.Errorf("%s %s: the status %d does not go with the id %s", r.Method, r.URL.Path, got.StatusCode, said["id"])
	}
	if got.Header.Get("Content-Type") != "application/json" || got.Header.Get("Cache-Control") != "no-store" || got.Header.Get(api.RequestIDHeader) == "" {
		t.Errorf("%s %s: an error with the header %v", r.Method, r.URL.Path, got.Header)
	}
}

func TestRoutesAreThoseOfTheDescription(t *testing.T) {
	var inFile, inTable []string
	for path, item := range described().Paths.Map() {
		for method := range item.Operations() {
			inFile = append(inFile, method+" "+path)
		}
	}
	for _, row := range new(Server).table(prometheus.NewRegistry()) {
		inTable = append(inTable, row.method+" "+row.path)
	}
	slices.Sort(inFile)
	slices.Sort(inTable)
	for _, name := range inFile {
		if !slices.Contains(inTable, name) {
			t.Errorf("%s is described and has no handler", name)
		}
	}
	for i, name := range inTable {
		if !slices.Contains(inFile, name) || i > 0 && inTable[i-1] == name {
			t.Errorf("%s has a handler and is not described, or two", name)
		}
	}
}

func TestRoutesWithADatabaseInThePathAskForIt(t *testing.T) {
	for _, row := range new(Server).table(prometheus.NewRegistry()) {
		if strings.Contains(row.path, "{database}") != (row.about != nil && row.action != "" && (strings.Contains(row.path, "/databases/") || strings.HasPrefix(row.path, enhancedPath))) {
			t.Errorf("%s %s: what it is about is not what is in its path", row.method, row.path)
		}
		if row.open != (row.action == "") {
			t.Errorf("%s %s: it is open, or it has an action", row.method, row.path)
		}
	}
}

// wantSeen wants every operation to have answered well and badly while a test ran.
func wantSeen(t *testing.T) {
	t.Helper()
	seen.Lock()
	defer seen.Unlock()
	neverFail := []string{"getOpenAPI"} // but when there are too many requests
	for path, item := range described().Paths.Map() {
		for method, operation := range item.Operations() {
			statuses := slices.Sorted(maps.Keys(seen.of[operation.OperationID]))
			good := len(statuses) > 0 && statuses[0] < 300
			bad := len(statuses) > 0 && statuses[len(statuses)-1] >= 400
			if !good || !bad && !slices.Contains(neverFail, operation.OperationID) {
				t.Errorf("%s %s: only %v was seen, want a success and an error", method, path, statuses)
			}
			for status := range operation.Responses.Map() {
				if status != "default" && !slices.ContainsFunc(statuses, func(s int) bool { return http.StatusText(s) != "" && status == statusText(s) }) {
					t.Errorf("%s %s: the status %s is described and was not seen", method, path, status)
				}
			}
		}
	}
}

func statusText(status int) string {
	text, _ := json.Marshal(status)
	return string(text)
}
