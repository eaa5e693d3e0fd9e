package api

import "time"

// Record is a line of the audit trail, and an event of the event stream: there its ID is the event's id, its Action
// the event's type and all of it the data.
type Record struct {
	ID        string            `json:"id"` // sorts by time
	At        time.Time         `json:"at"`
	Actor     string            `json:"actor"` // name of a token, "agent:…", or "system"
	Address   string            `json:"address,omitempty"`
	RequestID string            `json:"request_id,omitempty"`
	Action    string            `json:"action"`             // such as ip_rule.create
	Database  string            `json:"database,omitempty"` // name
	Space     string            `json:"space,omitempty"`
	Object    string            `json:"object,omitempty"` // id of what was changed
	Detail    map[string]string `json:"detail,omitempty"` // never a secret
}

// Audit is a page of the audit trail, the newest first.
type Audit struct {
	Records []Record `json:"records"`
	Next    string   `json:"next,omitempty"` // give it as before to get the next page; left out: there is none
}

// LastEventID is the header with which a client that was cut off says up to where it has read the event stream.
const LastEventID = "Last-Event-ID"

// Health answers whether the daemon can work, to anybody.
type Health struct {
	Status          string `json:"status"`            // "ok"; else the answer is an [Error]
	LogLinesDropped int64  `json:"log_lines_dropped"` // of this daemon's log, since its start
}

// Version is what the daemon was built from.
type Version struct {
	Version  string            `json:"version"`
	Revision string            `json:"revision,omitempty"` // the commit, with "-dirty" if files differed from it
	Go       string            `json:"go"`                 // the toolchain, like "go1.26.11"
	Modules  map[string]string `json:"modules,omitempty"`  // the version of each linked module, by its path
}
