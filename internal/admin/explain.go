package admin

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"pgmtls-proxy/internal/adminapi"
	"pgmtls-proxy/internal/policy"
	"pgmtls-proxy/internal/refusal"
	"pgmtls-proxy/internal/session"
)

// refusalOf returns what a client reads, with the id of its connection if it has one.
func refusalOf(r *refusal.Refusal, connection string) *adminapi.Refusal {
	out := &adminapi.Refusal{Name: r.Reason.String()}
	if r.Reason.Silent() {
		return out
	}
	said := r.Response(connection)
	out.SQLState, out.Message, out.Detail, out.Hint = said.SQLState, said.Message, said.Detail, said.Hint
	out.Text = "FATAL:  " + said.Message
	if said.Detail != "" {
		out.Text += "\nDETAIL:  " + said.Detail
	}
	if said.Hint != "" {
		out.Text += "\nHINT:  " + said.Hint
	}
	return out
}

func (s *Server) explain(w http.ResponseWriter, r *http.Request) {
	content, ok := s.body(w, r)
	if !ok {
		return
	}
	q, err := parseQuestion(content)
	if err != nil {
		text(w, http.StatusBadRequest, err.Error())
		return
	}
	if q.Connection != "" {
		asked, found := s.Sessions.Asked(q.Connection)
		if !found {
			text(w, http.StatusNotFound, "no such connection is live or among the last refused ones; use address, certificate and user, as the log has them")
			return
		}
		answer(w, s.explainConnection(asked))
		return
	}
	asked, err := s.hypothesis(q)
	if err != nil {
		text(w, http.StatusBadRequest, err.Error())
		return
	}
	answer(w, s.explained(asked, true))
}

func parseQuestion(content []byte) (adminapi.Question, error) {
	var q adminapi.Question
	decoder := json.NewDecoder(bytes.NewReader(content))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&q); err != nil {
		return q, fmt.Errorf("the body is not a query in JSON: %w", err)
	}
	if _, err := decoder.Token(); err != io.EOF {
		return q, errors.New("there is data after the query")
	}
	if q.Connection != "" && q != (adminapi.Question{Connection: q.Connection}) {
		return q, errors.New("conn already determines the address, the certificate and the rest; leave them out")
	}
	return q, nil
}

// hypothesis is a question about a connection that there never was.
func (s *Server) hypothesis(q adminapi.Question) (policy.Question, error) {
	var asked policy.Question
	addr, err := netip.ParseAddr(q.Address)
	if err != nil {
		return asked, errors.New("address is not an IP address; write the client's, such as 203.0.113.7")
	}
	asked.Addr, asked.ServerName, asked.User, asked.Database = addr.Unmap(), q.ServerName, q.User, q.Database
	asked.Chain, err = s.chain(q.Certificate)
	return asked, err
}

// chain finds the certificates that are meant.
func (s *Server) chain(certificate string) ([]*x509.Certificate, error) {
	if certificate == "" {
		return nil, nil
	}
	if strings.Contains(certificate, "-----BEGIN") {
		chain, err := policy.ParseChain([]byte(certificate))
		if err != nil {
			return nil, fmt.Errorf("certificate: %w", err)
		}
		return chain, nil
	}
	serial, ok := policy.Serial(certificate)
	if !ok {
		return nil, errors.New("certificate is neither PEM nor a serial number in hexadecimal")
	}
	if chain := s.Sessions.ChainOf(serial); chain != nil {
		return chain, nil
	}
	return nil, fmt.Errorf("no live session has a certificate with the serial %s; provide the certificate itself, in PEM", serial)
}

func (s *Server) explainConnection(asked session.Asked) adminapi.Explanation {
	live := asked.Refused == nil
	out := s.explained(asked.Question, !live)
	out.Connection = &adminapi.Connection{ID: asked.ID, Live: live, Since: asked.Accepted, Generation: asked.Generation}
	if !live {
		out.Connection.Refusal = refusalOf(asked.Refused, asked.ID)
	}
	if asked.ChainTooLong {
		out.Connection.Note = "the client's certificates were too large to be kept; the steps are those of a client without one"
	}
	return out
}

// explained asks the policy in force and, for a connection that is none yet, whether there is room for it.
func (s *Server) explained(q policy.Question, newcomer bool) adminapi.Explanation {
	q.Now = time.Now()
	snapshot := s.Policy.Current()
	e := snapshot.Explain(q)
	out := adminapi.Explanation{Decision: "allowed", Steps: []adminapi.Step{}}
	if snapshot != nil {
		out.Generation, out.Digest = snapshot.Generation, snapshot.Digest
	}
	for _, each := range e.Steps {
		out.Steps = append(out.Steps, adminapi.Step{Step: each.Name, Result: string(each.Result), Text: each.Text, Details: each.Details})
	}
	if newcomer {
		room := s.Sessions.Room(q.Addr)
		out.Steps = append(out.Steps, limits(room))
		if e.Refused == nil {
			e.Refused = room.Refused
		}
	}
	if e.Refused != nil {
		out.Decision, out.Refusal = "refused", refusalOf(e.Refused, "")
	} else {
		out.Rule = e.Grant.Rule.ID
	}
	return out
}

func limits(room session.Room) adminapi.Step {
	out := adminapi.Step{Step: "limits", Result: string(policy.Passed), Text: fmt.Sprintf("%s sessions are live, %s from this address.",
		ofMost(room.Sessions, room.MaxSessions), ofMost(room.FromAddress, room.MaxPerAddress))}
	if room.Refused != nil {
		out.Result = string(policy.Refused)
	}
	if room.Draining {
		out.Text = "The proxy is draining: it accepts no new sessions."
	}
	return out
}

func ofMost(n, most int) string {
	if most == 0 {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%d of at most %d", n, most)
}
