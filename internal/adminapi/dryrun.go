package adminapi

// DryRun is the answer to POST /dry-run with a policy that would come into force.
type DryRun struct {
	OK         bool    `json:"ok"` // true
	Generation string  `json:"generation"`
	Digest     string  `json:"digest"`    // that /status would show
	Unchanged  bool    `json:"unchanged"` // it is what is in force, byte for byte
	Changes    Changes `json:"changes"`
	OnRemoval  string  `json:"on_removal"` // keep: no session would be ended

	LeftOut []string `json:"certificates_left_out,omitempty"` // that would not be served, with the reason

	Kept          int                `json:"sessions_kept"`
	Ended         int                `json:"sessions_ended"`
	ByReason      map[string]int     `json:"ended_by_reason"`
	ByRule        map[string]int     `json:"ended_by_rule"`        // id of the rule that they were let in by
	ByCertificate []CertificateCount `json:"ended_by_certificate"` // most sessions first
	Sessions      []Ending           `json:"sessions"`             // that would be ended, the oldest first
}

// RefusedDraft is the answer about a policy that would be refused.
type RefusedDraft struct {
	OK       bool      `json:"ok"` // false
	Problems []Problem `json:"problems"`
}

// Verdict is either answer to POST /dry-run, as its askers read it: with Problems if OK is false.
type Verdict struct {
	DryRun
	Problems []Problem `json:"problems"`
}

// Problem is why a policy would be refused.
type Problem struct {
	Line  int    `json:"line,omitempty"`
	Field string `json:"field,omitempty"`
	Text  string `json:"text"` // file and line, what is wrong and what to do
}

// CertificateCount is how many sessions of one client certificate would be ended.
type CertificateCount struct {
	Serial   string `json:"serial"`
	Subject  string `json:"subject"`
	Sessions int    `json:"sessions"`
}

// Ending is a live session that would be ended.
type Ending struct {
	Session
	Reason string `json:"refusal"` // what it would be refused for
	Detail string `json:"detail,omitempty"`
}
