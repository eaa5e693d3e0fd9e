package apiserver

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"pgmtls-proxy/internal/control/access"
	"pgmtls-proxy/internal/control/api"
)

// route is one row of the table: a method and a path, who may, and what is done.
type route struct {
	method string
	path   string
	action access.Action
	about  scope // nil: no database
	do     func(*call) error

	open       bool  // to anybody
	gives      bool  // it adds something; refused while the store keeps its room for what takes away
	stream     bool  // the answer goes on without end
	body       int64 // bound of the body, for those that read one
	mayBeEmpty bool  // an empty body is good
	lenient    bool  // unknown fields of the body are ignored
}

const (
	endpointPath = "/postgres/v0/databases/{database}/tls-endpoint"
	databasePath = "/v1/databases/{database}"
	enhancedPath = "/client/v11/enhanced_certificates/{database}"
)

// table has every route. Heroku's paths below /postgres ignore unknown fields, since its clients send some that mean nothing here;
// agents' paths do, since agents and daemons are not upgraded in the same minute.
func (s *Server) table(metrics *prometheus.Registry) []route {
	const get, post, put, patch, del = http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete
	return []route{
		{method: get, path: endpointPath, action: access.ReadDatabase, about: aboutPath, do: getEndpoint},
		{method: post, path: endpointPath, action: access.ChangeDatabase, about: aboutPath, do: createEndpoint, gives: true},
		{method: del, path: endpointPath, action: access.ChangeDatabase, about: aboutPath, do: deleteEndpoint},
		{method: get, path: endpointPath + "/ip-rules", action: access.ReadDatabase, about: aboutPath, do: listRules},
		{method: post, path: endpointPath + "/ip-rules", action: access.ChangeDatabase, about: aboutPath, do: createRule, gives: true, body: api.MaxBody, lenient: true},
		{method: get, path: endpointPath + "/ip-rules/{rule}", action: access.ReadDatabase, about: aboutPath, do: getRule},
		{method: del, path: endpointPath + "/ip-rules/{rule}", action: access.ChangeDatabase, about: aboutPath, do: deleteRule},
		{method: get, path: endpointPath + "/certificates", action: access.ReadDatabase, about: aboutPath, do: listCertificates},
		{method: post, path: endpointPath + "/certificates", action: access.ChangeDatabase, about: aboutPath, do: createCertificate, gives: true, body: api.MaxBody, lenient: true, mayBeEmpty: true},
		{method: get, path: endpointPath + "/certificates/{certificate}", action: access.ReadDatabase, about: aboutPath, do: getCertificate},
		{method: del, path: endpointPath + "/certificates/{certificate}", action: access.ChangeDatabase, about: aboutPath, do: deleteCertificate},
		{method: post, path: endpointPath + "/certificates/{certificate}/keep", action: access.ChangeDatabase, about: aboutPath, do: keepCertificate},
		{method: get, path: endpointPath + "/certificates/{certificate}/files", action: access.ReadKeys, about: aboutPath, do: getCertificateFiles},

		{method: put, path: enhancedPath + "/enable", action: access.ChangeDatabase, about: aboutPath, do: enableEnhanced, gives: true},
		{method: put, path: enhancedPath + "/disable", action: access.ChangeDatabase, about: aboutPath, do: disableEnhanced},
		{method: get, path: enhancedPath + "/status", action: access.ReadDatabase, about: aboutPath, do: getEnhanced},

		{method: get, path: "/v1/databases", action: access.ListDatabases, do: listDatabases},
		{method: post, path: "/v1/databases", action: access.ManageDatabases, do: createDatabase, gives: true, body: api.MaxBody},
		{method: get, path: databasePath, action: access.ReadDatabase, about: aboutPath, do: getDatabase},
		{method: del, path: databasePath, action: access.ManageDatabases, about: aboutPath, do: deleteDatabase},
		{method: post, path: databasePath + "/proxies", action: access.ManageDatabases, about: aboutPath, do: addProxy, gives: true, body: api.MaxBody},
		{method: patch, path: databasePath + "/proxies/{proxy}", action: access.ManageDatabases, about: aboutPath, do: changeProxy, body: api.MaxBody},
		{method: del, path: databasePath + "/proxies/{proxy}", action: access.ManageDatabases, about: aboutPath, do: removeProxy},
		{method: get, path: databasePath + "/acknowledgements", action: access.ReadDatabase, about: aboutPath, do: getAcknowledgements},
		{method: get, path: databasePath + "/url", action: access.ReadDatabase, about: aboutPath, do: getConnection},
		{method: get, path: databasePath + "/enhanced-certificate", action: access.ReadDatabase, about: aboutPath, do: getEnhanced},
		{method: put, path: databasePath + "/enhanced-certificate", action: access.ChangeDatabase, about: aboutPath, do: putEnhanced, gives: true},
		{method: del, path: databasePath + "/enhanced-certificate", action: access.ChangeDatabase, about: aboutPath, do: deleteEnhanced},
		{method: post, path: databasePath + "/enhanced-certificate/renew", action: access.ChangeDatabase, about: aboutPath, do: renewEnhanced, gives: true, body: api.MaxBody, mayBeEmpty: true},
		{method: put, path: databasePath + "/enhanced-certificate/upload", action: access.ChangeDatabase, about: aboutPath, do: uploadEnhanced, gives: true, body: api.MaxImport},
		{method: get, path: databasePath + "/enhanced-certificate/records", action: access.ReadDatabase, about: aboutPath, do: listDNSRecords},
		{method: get, path: "/v1/targets", action: access.ListDatabases, do: listTargets},

		{method: get, path: "/v1/spaces", action: access.ReadSpaces, do: listSpaces},
		{method: get, path: "/v1/spaces/{space}/ca", action: access.ReadSpaces, do: listAuthorities},
		{method: post, path: "/v1/spaces/{space}/ca/rotate", action: access.ManageSpaces, do: rotateCA, gives: true},
		{method: post, path: "/v1/spaces/{space}/ca/import", action: access.ManageSpaces, do: importCA, gives: true, body: api.MaxImport},
		{method: get, path: "/v1/spaces/{space}/ca/{authority}/crl", action: access.ReadSpaces, do: getCRL},
		{method: post, path: "/v1/spaces/{space}/ca/{authority}/retire", action: access.ManageSpaces, do: retireCA},

		{method: get, path: "/v1/acme", action: access.ReadSpaces, do: getACME},
		{method: post, path: "/v1/acme/{authority}/rollover", action: access.ManageSpaces, do: rollOverACME},

		{method: get, path: "/v1/tokens", action: access.ReadAccess, do: listTokens},
		{method: post, path: "/v1/tokens", action: access.ManageAccess, do: createToken, gives: true, body: api.MaxBody},
		{method: del, path: "/v1/tokens/{token}", action: access.ManageAccess, do: revokeToken},
		{method: get, path: "/v1/agents", action: access.ReadAccess, do: listAgents},
		{method: post, path: "/v1/agents", action: access.ManageAccess, do: createEnrolment, gives: true, body: api.MaxBody},
		{method: del, path: "/v1/agents/{agent}", action: access.ManageAccess, do: revokeAgent},

		{method: get, path: "/v1/audit", action: access.ReadTrail, about: aboutQuery, do: listAudit},
		{method: get, path: "/v1/events", action: access.ReadTrail, about: aboutQuery, do: streamEvents, stream: true},

		{method: get, path: "/v1/snapshot", action: access.TakeSnapshot, do: saveSnapshot, stream: true},
		{method: post, path: "/v1/store/compact", action: access.ManageStore, do: compactStore},
		{method: post, path: "/v1/store/disarm", action: access.ManageStore, do: disarmStore},
		{method: get, path: "/v1/health", open: true, do: getHealth},
		{method: get, path: "/v1/version", action: access.Greet, do: getVersion},
		{method: get, path: "/v1/openapi.yaml", open: true, do: getOpenAPI},
		{method: get, path: "/metrics", action: access.ReadMetrics, do: showMetrics(promhttp.HandlerFor(metrics, promhttp.HandlerOpts{DisableCompression: true}))},

		{method: post, path: "/v1/agent/enroll", action: access.Enrol, about: scopeOwn, do: enrollAgent, gives: true, body: api.MaxBody, lenient: true},
		{method: post, path: "/v1/agent/renew", action: access.Deliver, about: scopeOwn, do: renewAgent, body: api.MaxBody, lenient: true},
		{method: get, path: "/v1/agent/stream", action: access.Deliver, about: scopeOwn, do: streamAgent, stream: true},
		{method: post, path: "/v1/agent/reports", action: access.Deliver, about: scopeOwn, do: receiveReport, body: api.MaxReport, lenient: true},
		{method: post, path: "/v1/agent/answers/{question}", action: access.Deliver, about: scopeOwn, do: receiveAnswer, body: api.MaxReport, lenient: true},
	}
}

// build makes the handler of the table.
func (s *Server) build(metrics *prometheus.Registry) http.Handler {
	byPath := map[string]map[string]*route{}
	for _, row := range s.table(metrics) {
		if row.about == nil {
			row.about = aboutNone
		}
		if byPath[row.path] == nil {
			byPath[row.path] = map[string]*route{}
		}
		byPath[row.path][row.method] = &row
		if row.method == http.MethodGet && !row.stream {
			byPath[row.path][http.MethodHead] = &row // net/http sends the answer without its body
		}
	}
	nowhere := &route{path: "none", open: true, do: func(c *call) error {
		return notFound("there is nothing at this path; GET /v1/openapi.yaml describes the API")
	}}
	mux := http.NewServeMux()
	for path, methods := range byPath {
		names := make([]string, 0, len(methods))
		for name := range methods {
			names = append(names, name)
		}
		slices.Sort(names)
		allow := strings.Join(names, ", ")
		other := &route{path: path, open: true, do: func(c *call) error {
			c.w.Header().Set("Allow", allow)
			return &api.Error{ID: api.MethodNotAllowed, Message: fmt.Sprintf("this path allows only %s", allow)}
		}}
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			if found := methods[r.Method]; found != nil {
				s.serve(found, w, r)
				return
			}
			s.serve(other, w, r)
		})
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { s.serve(nowhere, w, r) })

	// A page in a browser must not ask with what the browser remembers of its visitor.
	crossing := http.NewCrossOriginProtection()
	refused := &route{path: "none", open: true, do: func(c *call) error {
		return &api.Error{ID: api.Forbidden, Message: "cross-origin requests are not allowed"}
	}}
	crossing.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.serve(refused, w, r) }))
	inner := crossing.Handler(mux)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r = withoutFinalSlash(r)
		if !cleanPath(r.URL.Path) || r.Method == http.MethodConnect {
			s.serve(nowhere, w, r)
			return
		}
		inner.ServeHTTP(w, r)
	})
}
