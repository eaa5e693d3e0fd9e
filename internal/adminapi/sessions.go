package adminapi

import (
	"time"
)

// Session is an element of GET /sessions.
type Session struct {
	Connection  string              `json:"conn"` // as in the log
	Addr        string              `json:"addr"`
	Via         string              `json:"via,omitempty"` // the balancer's address, behind one
	Since       time.Time           `json:"since"`
	State       string              `json:"state"`
	User        string              `json:"user"`
	Database    string              `json:"database"`
	Rule        string              `json:"rule"`
	Policy      string              `json:"policy"` // the generation that let it in
	Certificate *SessionCertificate `json:"certificate,omitempty"`
	Bytes       map[string]int64    `json:"bytes"`
}

// SessionCertificate is the client certificate of a live session.
type SessionCertificate struct {
	Subject  string    `json:"subject"`
	Serial   string    `json:"serial"`
	NotAfter time.Time `json:"not_after"`
}
