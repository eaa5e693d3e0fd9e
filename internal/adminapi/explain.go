package adminapi

import (
	"time"
)

// Question is the body of POST /explain: a connection that there was, or one that there might be.
type Question struct {
	Connection string `json:"conn"` // as the log and the refused client have it; nothing else is needed then

	Address     string `json:"address"`
	ServerName  string `json:"sni"`
	Certificate string `json:"certificate"` // PEM, leaf first; or the serial of a live session's
	User        string `json:"user"`        // empty: identities are left out
	Database    string `json:"database"`
}

// Explanation is the answer: what a connection would be told now, and why. All text in it is fit to be shown.
type Explanation struct {
	Decision   string      `json:"decision"` // allowed or refused
	Refusal    *Refusal    `json:"refusal,omitempty"`
	Rule       string      `json:"rule,omitempty"`
	Generation string      `json:"generation"` // of the policy that was asked
	Digest     string      `json:"digest"`
	Connection *Connection `json:"connection,omitempty"`
	Steps      []Step      `json:"steps"`
}

// Refusal is a refusal as the log names it and as the client reads it.
type Refusal struct {
	Name     string `json:"name"`
	SQLState string `json:"sqlstate,omitempty"`
	Message  string `json:"message,omitempty"`
	Detail   string `json:"detail,omitempty"`
	Hint     string `json:"hint,omitempty"`
	Text     string `json:"client_reads"` // as psql shows it; empty: the connection just ends
}

// Connection is what became of the connection that was asked about.
type Connection struct {
	ID         string    `json:"conn"`
	Live       bool      `json:"live"`
	Since      time.Time `json:"since"`
	Generation string    `json:"generation"`        // of the policy that decided then
	Refusal    *Refusal  `json:"refusal,omitempty"` // what it was told then
	Note       string    `json:"note,omitempty"`
}

// Step is one step of the decision: what was asked, and how it came out (passed, refused or not_asked).
type Step struct {
	Step    string   `json:"step"`
	Result  string   `json:"result"`
	Text    string   `json:"text"`
	Details []string `json:"details,omitempty"`
}
