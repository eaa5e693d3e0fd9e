package notify

import (
	"fmt"
	"strings"
	"text/template"
	"time"
)

// wording is what people read of one kind of notice.
type wording struct{ subject, happened, advice, command *template.Template }

// wordings has every kind. The templates see a [facts], in which each text is cleaned.
var wordings = map[Kind]wording{
	CertificateSuccessor: {
		subject:  line(`{{.Database}}: certificate {{.Certificate.Name}} expires on {{.Day}}, its successor is ready`),
		happened: line(`The client certificate {{.Certificate.Name}} of the database {{.Database}} expires on {{.Time}}. Its successor was issued. Both are valid until then.`),
		advice:   line(`Give the successor to the clients that use the old one. Without it they can't connect after that time.`),
		command:  line(next),
	},
	CertificateExpiring: {
		subject:  line(`{{.Database}}: certificate {{.Certificate.Name}} expires on {{.Day}}`),
		happened: line(`The client certificate {{.Certificate.Name}} of the database {{.Database}} expires on {{.Time}}.{{if .Successor}} Its successor was issued; both are valid until then.{{else}} It has no successor.{{end}}`),
		advice:   line(`{{if .Successor}}Give the successor to the clients that use the old one.{{else}}Create a new one, and give it to the clients that use the old one.{{end}} Without it they can't connect after that time, and their sessions end.`),
		command:  line(next),
	},
	CertificateExpired: {
		subject:  line(`{{.Database}}: certificate {{.Certificate.Name}} expired on {{.Day}}`),
		happened: line(`The client certificate {{.Certificate.Name}} of the database {{.Database}} expired on {{.Time}}. Clients that still use it can't connect.`),
		advice:   line(`If no client needs it any more, there is nothing to do. Otherwise give {{if .Successor}}its successor{{else}}a new one{{end}} to its clients.`),
		command:  line(next),
	},
	CAExpiring: {
		subject:  line(`space {{.Space}}: the certificate authority expires on {{.Day}}`),
		happened: line(`The certificate authority {{.Certificate.Name}} of the space {{.Space}} expires on {{.Time}}. No certificate that it issued is accepted after that time.`),
		advice:   line(`Create its successor. Both are trusted until you retire the old one.`),
		command:  line(`pgmtls ca rotate {{quoted .Space}}`),
	},
	PolicyOvertaken: {
		subject:  line(`{{.Database}}: the store is older than the proxy {{.Proxy}}`),
		happened: line(`The proxy {{.Proxy}} of the database {{.Database}} has had a newer policy than the control plane's store: the store was restored. The policy of the store goes into force again, under a newer generation.`),
		advice:   line(`What was changed after the snapshot is undone, revocations and deleted rules among it. Compare with the audit trail of before, and revoke and delete again.`),
		command:  line(`pgmtls audit --database {{quoted .Database}}`),
	},
	ProxyClock: {
		subject:  line(`{{.Database}}: the clock of the proxy {{.Proxy}} is {{.Skew}}`),
		happened: line(`The clock of the proxy {{.Proxy}} of the database {{.Database}} is {{.Skew}}. It decides when rules and certificates expire there, and from when on new ones are valid.`),
		advice:   line(`Set the clock that is wrong, the proxy's or the control plane's, and have it synchronised. Nothing else is needed.`),
		command:  line(`pgmtls proxies list {{quoted .Database}}`),
	},
	StoreSpace: {
		subject:  line(`the store of the control plane runs out of space`),
		happened: line(`The store of the control plane runs out of space: {{.Shortage}}. Deleting and revoking go on then; creating and issuing are refused with 503.`),
		advice:   line(`Delete what is not needed and compact the store, or give its disk more space. Compact and defragment an external etcd cluster with etcdctl.`),
		command:  line(`pgmtls store compact`),
	},
	ConnectionChanged: {
		subject:  line(`{{.Database}}: clients connect by another URL`),
		happened: line(`The database {{.Database}} is reached by {{.Public.URL}} from now on.`),
		advice:   line(`Give this URL to its clients and restart them. {{if .Public.Ends}}The previous one, {{.Public.PreviousURL}}, ends: its certificate is withdrawn.{{else}}The previous one, {{.Public.PreviousURL}}, stays valid.{{end}}`),
		command:  line(`pgmtls url {{quoted .Database}}`),
	},
	EnhancedFailing: {
		subject:  line(`{{.Database}}: the public certificate of {{.Public.Host}} is not renewed, and expires on {{.Day}}`),
		happened: line(`The public certificate of {{.Public.Host}}, of the database {{.Database}}, should have been renewed and was not. It expires on {{.Time}}.{{with .Public.Detail}} The last problem: {{.}}{{end}}`),
		advice:   line(`Remove what the status shows. Clients that verify the public name can't connect after that time; the private name is not affected.`),
		command:  line(`pgmtls enhanced-certificates status {{quoted .Database}}`),
	},
	EnhancedEnding: {
		subject:  line(`{{.Database}}: the certificate of {{.Public.Host}} that was uploaded expires on {{.Day}}`),
		happened: line(`The certificate of {{.Public.Host}}, of the database {{.Database}}, was uploaded, so nobody renews it. It expires on {{.Time}}.`),
		advice:   line(`Upload its successor. Clients that verify the public name can't connect after that time; the private name is not affected.`),
		command:  line(`pgmtls enhanced-certificates upload {{quoted .Database}} --cert FILE --key FILE`),
	},
	EnhancedExpired: {
		subject:  line(`{{.Database}}: the public certificate of {{.Public.Host}} expired`),
		happened: line(`The public certificate of {{.Public.Host}}, of the database {{.Database}}, expired on {{.Time}}, and the proxies serve it no more.{{with .Public.Detail}} The last problem: {{.}}{{end}}`),
		advice:   line(`Remove what the status shows. Until then clients can use the private name.`),
		command:  line(`pgmtls enhanced-certificates status {{quoted .Database}}`),
	},
	EnhancedChain: {
		subject:  line(`{{.Database}}: the public certificate of {{.Public.Host}} has another issuer`),
		happened: line(`The public certificate of {{.Public.Host}}, of the database {{.Database}}, was renewed, and {{.Public.Issuer}} has issued it, another authority than the one before.`),
		advice:   line(`If clients of this database trust single certificates instead of a bundle of roots, check that they still can verify it. Otherwise there is nothing to do.`),
		command:  line(`pgmtls enhanced-certificates status {{quoted .Database}}`),
	},
	ACMEAccount: {
		subject:  line(`the public certificate authority {{.Public.CA}} refuses the account`),
		happened: line(`The public certificate authority {{.Public.CA}} refuses the control plane's account: {{.Public.Detail}}.`),
		advice:   line(`No certificate is issued or renewed by it until that is mended. Check the acme block of pgmtls.yaml.`),
		command:  line(`pgmtls acme status`),
	},
	ACMELimited: {
		subject:  line(`the public certificate authority {{.Public.CA}} limits the control plane`),
		happened: line(`The public certificate authority {{.Public.CA}} wants no order of the control plane before {{.Public.Until}}: {{.Public.Detail}}.`),
		advice:   line(`Orders wait until then. If that happens again, ask the authority for a higher limit, and set the limits in the acme block of pgmtls.yaml.`),
		command:  line(`pgmtls acme status`),
	},
}

// skewed returns how far a proxy's clock is from the control plane's.
func skewed(by time.Duration) string {
	if by < 0 {
		return (-by).Truncate(time.Second).String() + " behind the control plane's"
	}
	return by.Truncate(time.Second).String() + " ahead of the control plane's"
}

// next gets a certificate that replaces the notice's.
const next = `{{if .Successor}}pgmtls certificates download {{quoted .Database}} --id {{quoted .Successor.ID}} --dir .` +
	`{{else}}pgmtls certificates create {{quoted .Database}} --name {{quoted .Certificate.Name}}{{if .Certificate.OwnKey}} --csr FILE{{end}}{{end}}`

// body is the mail's text.
var body = line(`{{.Happened}}

What to do: {{.Advice}}

    {{.Command}}

{{with .Database}}database     {{.}}
{{end}}{{with .Space}}space        {{.}}
{{end}}{{if .Public}}{{with .Public.Host}}host         {{.}}
{{end}}{{with .Public.CA}}authority    {{.}}
{{end}}{{with .Time}}ends         {{.}}
{{end}}{{else if .Proxy}}proxy        {{.Proxy}}
{{else if .Certificate.Name}}certificate  {{.Certificate.Name}}
id           {{.Certificate.ID}}
serial       {{.Certificate.Serial}}
ends         {{.Time}}
{{end}}{{with .Successor}}successor    {{.Name}}, id {{.ID}}, serial {{.Serial}}, ends {{.Ends}}
{{end}}`)

func line(text string) *template.Template {
	return template.Must(template.New("").Option("missingkey=error").Funcs(template.FuncMap{"quoted": quoted}).Parse(text))
}

// facts is what templates may say of a notice.
type facts struct {
	Database, Space           string
	Proxy, Skew               string // of a proxy whose clock is wrong
	Shortage                  string // of the store's space
	Day, Time                 string // of the certificate's end, UTC
	Certificate               named
	Successor                 *named
	Public                    *public
	Happened, Advice, Command string // set for body
}

type named struct {
	ID, Name, Serial, Ends string
	OwnKey                 bool
}

// public is what templates may say of a public certificate or its authority.
type public struct {
	Host, URL, PreviousURL, CA, Issuer, Detail, Until string
	Ends                                              bool // the previous URL
}

// message is a notice in words.
type message struct{ subject, happened, advice, command, body string }

// words writes a checked notice out.
func (n Notice) words() (message, error) {
	f := facts{Database: clean(n.Database), Space: clean(n.Space), Proxy: clean(n.Proxy), Skew: skewed(n.Skew), Shortage: clean(n.Shortage)}
	if c := n.Certificate; c != nil {
		f.Certificate = name(*c)
		f.Day, f.Time = c.ExpiresAt.UTC().Format(time.DateOnly), f.Certificate.Ends
		if c.Successor != nil {
			successor := name(*c.Successor)
			f.Successor = &successor
		}
	}
	if p := n.Public; p != nil {
		f.Public = &public{clean(p.Host), clean(p.URL), clean(p.PreviousURL), clean(p.CA), clean(p.Issuer), strings.TrimSuffix(clean(p.Detail), "."), minute(p.Until), false}
		f.Public.Ends = p.Host != "" && strings.Contains(p.PreviousURL, "//"+p.Host+":")
		if !n.Ends.IsZero() {
			f.Day, f.Time = n.Ends.UTC().Format(time.DateOnly), minute(n.Ends)
		}
	}
	w, m := wordings[n.Kind], message{}
	for _, part := range []struct {
		from *template.Template
		to   *string
	}{{w.subject, &m.subject}, {w.happened, &m.happened}, {w.advice, &m.advice}, {w.command, &m.command}} {
		var b strings.Builder
		if err := part.from.Execute(&b, f); err != nil {
			return message{}, fmt.Errorf("write the text of a %s notice: %w", n.Kind, err)
		}
		*part.to = b.String()
	}
	if n.Text != "" {
		m.advice = cleanLines(n.Text)
	}
	f.Happened, f.Advice, f.Command = m.happened, m.advice, m.command
	var b strings.Builder
	if err := body.Execute(&b, f); err != nil {
		return message{}, fmt.Errorf("write the text of a %s notice: %w", n.Kind, err)
	}
	m.body = b.String()
	return m, nil
}

func name(c Certificate) named {
	return named{clean(c.ID), clean(c.Name), clean(c.Serial), minute(c.ExpiresAt), c.OwnKey}
}

func minute(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }

// maxLines bounds Notice.Text.
const maxLines = 20

func cleanLines(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	lines = lines[:min(len(lines), maxLines)]
	for i, l := range lines {
		lines[i] = clean(strings.TrimRight(l, "\r"))
	}
	return strings.Join(lines, "\n")
}
