package config

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"

	"pgmtls-proxy/internal/safetext"
)

// at is a value to hang a problem on: the key if it is in the document, or this value's place.
func (v value) at(path string) value {
	out := value{d: v.d, path: path, node: node{line: v.line, column: v.column}}
	if p, ok := v.d.written[path]; ok {
		out.line, out.column = p.Line, p.Column
	}
	return out
}

// has reports whether the key is in the document.
func (v value) has(path string) bool {
	_, ok := v.d.written[path]
	return ok
}

// faulty reports whether the key, or something in it, has a problem already.
func (v value) faulty(path string) bool {
	for _, p := range v.d.problems.list {
		if strings.HasPrefix(p.Field, path) {
			return true
		}
	}
	return false
}

// checkEnd refuses a text of the control plane that has lost its end, wherever it was cut.
func checkEnd(v value, text []byte) {
	if bytes.HasPrefix(safetext.WithoutMark(text), []byte(ControlHeader)) && !v.ended {
		v.d.problems.add(Problem{Position: Position{File: v.d.file, Line: 1 + bytes.Count(text, []byte("\n"))},
			Message: `has the control plane's header and not the last line "...", so its end is missing`,
			Fix:     "let the control plane write it again, or remove the header if the file is yours"})
	}
}

// checkOrder keeps what lets in behind all that restricts.
func checkOrder(v value) {
	at := v.entryOf("ip_rules")
	if at < 0 || at == len(v.entries)-1 {
		return
	}
	last := v.entries[len(v.entries)-1].key
	v.at("ip_rules").refuseHidden("is not the last key",
		fmt.Sprintf("move it behind line %d (%s): if the file lost its end, what restricts must not be lost before what lets in", last.line, shown(last.text)))
}

// checkTrust refuses a policy that promises an identity and can't know one.
func (p *Policy) checkTrust(v value) {
	if p.ClientAuth != "" && p.ClientAuth != ClientAuthOff && len(p.ClientCA) == 0 && !v.faulty("client_ca") {
		v.at("client_ca").refuseHidden("names no CA with client_auth: "+string(p.ClientAuth),
			"name the CA that issues the client certificates, or write client_auth: off to ask for none")
	}
	if len(p.Identities) == 0 {
		return
	}
	switch p.ClientAuth {
	case ClientAuthOff:
		v.at("identities").refuseHidden("restricts nobody with client_auth: off, which asks for no certificate",
			"write client_auth: required, or remove the identities")
	case ClientAuthOptional:
		v.at("identities").refuseHidden("restricts nobody with client_auth: optional, under which a client without a certificate logs in as any user",
			"write client_auth: required, or remove the identities")
	}
}

// checkDefault settles which certificate answers clients that no name in a certificate fits.
func (p *Policy) checkDefault(v value) {
	if len(p.Certificates) == 1 {
		p.Certificates[0].Default = true
		return
	}
	first := 0 // line
	for i, c := range p.Certificates {
		if !c.Default {
			continue
		}
		key := v.at(fmt.Sprintf("certificates[%d].default", i))
		if first > 0 {
			key.refuseHidden(fmt.Sprintf("is a second default, beside the one on line %d", first), "keep one")
			continue
		}
		first = key.line
	}
	if len(p.Certificates) > 1 && first == 0 {
		v.at("certificates").refuseHidden("has no default", "write default: true at the one for clients that name no server")
	}
}

// checkRules finds rules that say the same thing twice.
func (p *Policy) checkRules(v value) {
	ids, networks := map[string]int{}, map[netip.Prefix]int{}
	for i, r := range p.IPRules {
		path := fmt.Sprintf("ip_rules[%d]", i)
		if r.ID != "" {
			once(v.at(path+".id"), ids, r.ID, "give each rule its own id")
		}
		if r.CIDR.IsValid() {
			once(v.at(path+".cidr"), networks, r.CIDR, "keep one of the two rules")
		}
	}
}

func (p *Policy) checkIdentities(v value) {
	names := map[string]int{}
	for i, id := range p.Identities {
		key, name := id.name()
		if name != "" {
			once(v.at(fmt.Sprintf("identities[%d].%s", i, key)), names, key+" "+name, "write all their users in one place")
		}
	}
}

// name is what the identity goes by: the key and its value.
func (id Identity) name() (key, name string) {
	switch {
	case id.SubjectCN != "":
		return "subject_cn", id.SubjectCN
	case id.DNS != "":
		return "dns", id.DNS
	case id.URI != "":
		return "uri", id.URI
	case id.Serial != nil:
		return "serial", id.Serial.String()
	}
	return "", ""
}

// once records where a thing stands, and refuses it when it stands somewhere already.
func once[K comparable](v value, lines map[K]int, thing K, fix string) {
	line, again := lines[thing]
	if !again {
		lines[thing] = v.line
		return
	}
	v.text = fmt.Sprint(thing)
	v.refuse(complaint{fmt.Sprintf("is there twice, first on line %d", line), fix})
}
