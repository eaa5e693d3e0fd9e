package admin

import (
	"net/http"
	"time"

	"pgmtls-proxy/internal/session"
)

// liveSession is an element of GET /sessions.
type liveSession struct {
	Connection  string           `json:"conn"` // as in the log
	Addr        string           `json:"addr"`
	Via         string           `json:"via,omitempty"` // the balancer's address, behind one
	Since       time.Time        `json:"since"`
	State       session.State    `json:"state"`
	User        string           `json:"user"`
	Database    string           `json:"database"`
	Rule        string           `json:"rule"`
	Policy      string           `json:"policy"` // the generation that let it in
	Certificate *sessionIdentity `json:"certificate,omitempty"`
	Bytes       map[string]int64 `json:"bytes"`
}

type sessionIdentity struct {
	Subject  string    `json:"subject"`
	Serial   string    `json:"serial"`
	NotAfter time.Time `json:"not_after"`
}

func (s *Server) sessions(w http.ResponseWriter, _ *http.Request) {
	list := []liveSession{}
	for _, live := range s.Sessions.Table().Sessions() {
		list = append(list, show(live))
	}
	answer(w, list)
}

func show(live session.Session) liveSession {
	out := liveSession{
		Connection: live.ID,
		Addr:       live.Addr.String(),
		Since:      live.Accepted,
		State:      live.State,
		User:       live.User,
		Database:   live.Database,
		Policy:     live.Grant.Generation,
		Bytes:      map[string]int64{"to_client": live.ToClient, "to_server": live.ToServer},
	}
	if live.Via.IsValid() {
		out.Via = live.Via.String()
	}
	if live.Grant.Rule != nil {
		out.Rule = live.Grant.Rule.ID
	}
	if id := live.Grant.Identity; id != nil {
		out.Certificate = &sessionIdentity{id.Subject, id.Serial, id.NotAfter}
	}
	return out
}
