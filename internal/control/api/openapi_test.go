package api_test

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"

	"pgmtls-proxy/internal/control/api"
)

func document(t *testing.T) *openapi3.T {
	t.Helper()
	loader := openapi3.NewLoader()
	doc, err := loader.LoadFromData(api.OpenAPI)
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

func TestTheDescriptionIsValid(t *testing.T) {
	if err := document(t).Validate(t.Context(), openapi3.EnableExamplesValidation()); err != nil {
		t.Fatal(err)
	}
}

// values holds each schema's Go type.
var values = map[string]any{
	"Error": api.Error{}, "TLSEndpoint": api.TLSEndpoint{}, "Rule": api.Rule{}, "NewRule": api.NewRule{},
	"RuleDryRun": api.RuleDryRun{}, "Effect": api.Effect{}, "CertificateWithKey": api.Certificate{},
	"NewCertificate": api.NewCertificate{}, "CertificateFiles": api.CertificateFiles{}, "Database": api.Database{},
	"Proxy": api.Proxy{}, "NewDatabase": api.NewDatabase{}, "NewProxy": api.NewProxy{},
	"ChangedProxy": api.ChangedProxy{}, "Target": api.Target{},
	"Acknowledgements": api.Acknowledgements{}, "Connection": api.Connection{}, "Authority": api.Authority{},
	"CAUser": api.CAUser{}, "CRL": api.CRL{}, "ImportCA": api.ImportCA{}, "Token": api.Token{}, "NewToken": api.NewToken{},
	"Agent": api.Agent{}, "NewEnrolment": api.NewEnrolment{}, "Enrolment": api.Enrolment{}, "Record": api.Record{},
	"Audit": api.Audit{}, "Health": api.Health{}, "Version": api.Version{}, "Certify": api.Certify{},
	"Certified": api.Certified{}, "Policy": api.Policy{}, "StreamLine": api.StreamLine{},
	"Report": api.Report{}, "Answer": api.Answer{},
	"EnhancedCertificate": api.EnhancedCertificate{}, "Renewal": api.Renewal{}, "UploadedCertificate": api.UploadedCertificate{}, "DNSRecord": api.DNSRecord{},
	"ACME": api.ACME{}, "ACMEAuthority": api.ACMEAuthority{},
}

// noGoType are schemas without one: Certificate is CertificateWithKey without the keys.
var noGoType = []string{"Certificate", "Counts"}

func TestEverySchemaHasExactlyTheFieldsOfItsGoType(t *testing.T) {
	doc := document(t)
	for name, schema := range doc.Components.Schemas {
		value, ok := values[name]
		if !ok {
			if !slices.Contains(noGoType, name) {
				t.Errorf("schema %s has no Go type in this test", name)
			}
			continue
		}
		same(t, name, schema.Value, reflect.TypeOf(value))
	}
	for name := range values {
		if doc.Components.Schemas[name] == nil {
			t.Errorf("%s has no schema", name)
		}
	}
}

// same compares names, kinds, and what may be left out, all the way down.
func same(t *testing.T, at string, schema *openapi3.Schema, kind reflect.Type) {
	t.Helper()
	if kind.Kind() == reflect.Pointer {
		kind = kind.Elem()
	}
	want := map[reflect.Kind]string{
		reflect.String: "string", reflect.Bool: "boolean", reflect.Int: "integer", reflect.Int64: "integer",
		reflect.Slice: "array", reflect.Map: "object", reflect.Struct: "object",
	}[kind.Kind()]
	moment := kind == reflect.TypeFor[time.Time]()
	if moment || kind == reflect.TypeFor[[]byte]() {
		want = "string"
	}
	if !schema.Type.Is(want) {
		t.Errorf("%s: the schema has type %v, the Go type is a %s", at, schema.Type, kind)
		return
	}
	switch {
	case moment:
		if schema.Format != "date-time" {
			t.Errorf("%s: a time has format date-time, not %q", at, schema.Format)
		}
	case kind == reflect.TypeFor[[]byte]():
	case kind.Kind() == reflect.Slice:
		same(t, at+"[]", schema.Items.Value, kind.Elem())
	case kind.Kind() == reflect.Map:
		same(t, at+"{}", schema.AdditionalProperties.Schema.Value, kind.Elem())
	case kind.Kind() == reflect.Struct:
		sameFields(t, at, schema, kind)
	}
}

func sameFields(t *testing.T, at string, schema *openapi3.Schema, kind reflect.Type) {
	t.Helper()
	known := map[string]bool{}
	for field := range kind.Fields() {
		name, options, _ := strings.Cut(field.Tag.Get("json"), ",")
		if name == "-" {
			continue
		}
		known[name] = true
		property := schema.Properties[name]
		if property == nil {
			t.Errorf("%s: the schema has no property %s", at, name)
			continue
		}
		left := strings.Contains(options, "omitempty") || strings.Contains(options, "omitzero")
		if required := slices.Contains(schema.Required, name); required && left && name != "certificate_with_chain" {
			t.Errorf("%s.%s: the schema requires what Go leaves out", at, name)
		} else if !required && !left {
			t.Errorf("%s.%s: Go always sends it, so the schema must require it", at, name)
		}
		same(t, at+"."+name, property.Value, field.Type)
	}
	for name := range schema.Properties {
		if !known[name] {
			t.Errorf("%s: Go has no field for the property %s", at, name)
		}
	}
}

func TestErrorIDsAreThoseOfTheDescription(t *testing.T) {
	ids := document(t).Components.Schemas["Error"].Value.Properties["id"].Value.Enum
	if len(ids) != 11 {
		t.Fatalf("%d ids", len(ids))
	}
	seen := map[int]bool{}
	for _, id := range ids {
		status := api.StatusOf(id.(string))
		if seen[status] {
			t.Errorf("%s shares its status %d", id, status)
		}
		seen[status] = true
	}
	if status := api.StatusOf("weather"); status != 500 {
		t.Errorf("an unknown id has status %d", status)
	}
}

func TestEveryOperationHasANameAndErrors(t *testing.T) {
	names := map[string]string{}
	for path, item := range document(t).Paths.Map() {
		for method, operation := range item.Operations() {
			if before := names[operation.OperationID]; before != "" || operation.OperationID == "" {
				t.Errorf("%s %s: its operationId %q is that of %q", method, path, operation.OperationID, before)
			}
			names[operation.OperationID] = method + " " + path
			if operation.Responses.Default() == nil {
				t.Errorf("%s %s does not say what its errors are", method, path)
			}
			for status, response := range operation.Responses.Map() {
				if response.Value.Headers[api.RequestIDHeader] == nil {
					t.Errorf("%s %s: %s has no request id", method, path, status)
				}
			}
		}
	}
}

// The names of Heroku's data API, from the issue: its clients know no others.
func TestHerokusFieldsAreThere(t *testing.T) {
	now := time.Date(2026, 11, 22, 4, 0, 0, 0, time.UTC)
	cases := []struct {
		value  any
		fields string
	}{
		{api.TLSEndpoint{}, "active_ip_rules addon app certificate_authority_chain enabled_by status"},
		{api.Rule{CreatedAt: now, UpdatedAt: now}, "cidr created_at description id status updated_at"},
		{api.Certificate{CreatedAt: now}, "created_at expires_at id name serial status updated_at"},
		{api.Certificate{PrivateKey: "k", CertificateWithChain: "c"},
			"certificate_with_chain created_at expires_at id name private_key serial status updated_at"},
		{api.Error{Status: 404, RequestID: "r"}, "id message"},
	}
	for _, c := range cases {
		text, err := json.Marshal(c.value)
		if err != nil {
			t.Fatal(err)
		}
		var fields map[string]any
		if err := json.Unmarshal(text, &fields); err != nil {
			t.Fatal(err)
		}
		var names []string
		for name := range fields {
			names = append(names, name)
		}
		slices.Sort(names)
		if got := strings.Join(names, " "); got != c.fields {
			t.Errorf("%T has the fields %s, not %s", c.value, got, c.fields)
		}
	}
}
