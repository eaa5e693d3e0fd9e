package admin

import (
	"net/http"

	"pgmtls-proxy/internal/adminapi"
	"pgmtls-proxy/internal/session"
)

func (s *Server) sessions(w http.ResponseWriter, _ *http.Request) {
	list := []adminapi.Session{}
	for _, live := range s.Sessions.Table().Sessions() {
		list = append(list, show(live))
	}
	answer(w, list)
}

func show(live session.Session) adminapi.Session {
	out := adminapi.Session{
		Connection: live.ID,
		Addr:       live.Addr.String(),
		Since:      live.Accepted,
		State:      string(live.State),
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
		out.Certificate = &adminapi.SessionCertificate{Subject: id.Subject, Serial: id.Serial, NotAfter: id.NotAfter}
	}
	return out
}
