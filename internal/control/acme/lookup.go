package acme

import (
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
)

const (
	queryTimeout = 3 * time.Second
	maxAliases   = 8 // CNAME records that are followed for one name
)

// Resolver looks names up as an authority does: in the public DNS. Its zero value asks nobody, and finds every look-up
// failed. Its methods may be called from any goroutine.
type Resolver struct {
	// Servers are asked in their order, host and port, until one answers. They must see the public DNS, not a view of it
	// for this network.
	Servers []string
}

// systemFile has the name servers that programs of this machine ask.
const systemFile = "/etc/resolv.conf"

// SystemResolver asks the name servers of this machine.
func SystemResolver() (Resolver, error) {
	system, err := dns.ClientConfigFromFile(systemFile)
	if err != nil {
		return Resolver{}, err
	}
	if len(system.Servers) == 0 {
		return Resolver{}, fmt.Errorf("%s names no name server", systemFile)
	}
	var r Resolver
	for _, server := range system.Servers {
		r.Servers = append(r.Servers, net.JoinHostPort(server, system.Port))
	}
	return r, nil
}

// query asks one question, and gives the records of that type with the name that they stand at, which is another than
// the one asked for where aliases lead elsewhere. No records and no error: there are none. err is a *[Problem], or
// that of ctx.
func (r Resolver) query(ctx context.Context, name string, kind uint16) (records []dns.RR, at string, err error) {
	at = canonical(name)
	for range maxAliases {
		answer, err := r.exchange(ctx, at, kind)
		if err != nil {
			return nil, at, err
		}
		before := at
		for range answer.Answer {
			alias := find[*dns.CNAME](answer.Answer, at)
			if alias == nil || kind == dns.TypeCNAME {
				break
			}
			at = canonical(alias.Target)
		}
		for _, record := range answer.Answer {
			if record.Header().Rrtype == kind && canonical(record.Header().Name) == at {
				records = append(records, record)
			}
		}
		if len(records) > 0 || at == before {
			return records, at, nil
		}
	}
	return nil, at, newProblem(DNSFailed, "%s has more than %d aliases (CNAME); point it to its target", name, maxAliases)
}

func find[T dns.RR](records []dns.RR, name string) (found T) {
	for _, record := range records {
		if match, ok := record.(T); ok && canonical(record.Header().Name) == name {
			return match
		}
	}
	return found
}

// exchange asks the servers in turn. That a name does not exist is an answer; that a server failed is none.
func (r Resolver) exchange(ctx context.Context, name string, kind uint16) (*dns.Msg, error) {
	question := new(dns.Msg).SetQuestion(name, kind)
	question.SetEdns0(1232, false)
	var failed []string
	for _, server := range r.Servers {
		answer, err := queryServer(ctx, question, server)
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case err != nil:
			failed = append(failed, err.Error())
		case answer.Rcode == dns.RcodeSuccess || answer.Rcode == dns.RcodeNameError:
			return answer, nil
		default:
			failed = append(failed, server+" answers "+dns.RcodeToString[answer.Rcode])
		}
	}
	if len(failed) == 0 {
		failed = []string{"no name server is configured"}
	}
	return nil, newProblem(DNSFailed, "look up %s of %s: %s", dns.TypeToString[kind], name, strings.Join(failed, "; "))
}

// queryServer sends one question to one server, by UDP and, if the answer does not fit, by TCP.
func queryServer(ctx context.Context, question *dns.Msg, server string) (*dns.Msg, error) {
	client := &dns.Client{Timeout: queryTimeout}
	answer, _, err := client.ExchangeContext(ctx, question, server)
	if err == nil && answer.Truncated {
		client.Net = "tcp"
		answer, _, err = client.ExchangeContext(ctx, question, server)
	}
	return answer, err
}

// addresses returns the addresses of a name, sorted.
func (r Resolver) addresses(ctx context.Context, name string) ([]string, error) {
	var found []string
	for _, kind := range []uint16{dns.TypeA, dns.TypeAAAA} {
		records, _, err := r.query(ctx, name, kind)
		if err != nil {
			return nil, err
		}
		for _, record := range records {
			switch record := record.(type) {
			case *dns.A:
				found = append(found, record.A.String())
			case *dns.AAAA:
				found = append(found, record.AAAA.String())
			}
		}
	}
	slices.Sort(found)
	return found, nil
}

// texts returns the values of the TXT records of a name, and the name that they stand at.
func (r Resolver) texts(ctx context.Context, name string) (values []string, at string, err error) {
	records, at, err := r.query(ctx, name, dns.TypeTXT)
	for _, record := range records {
		values = append(values, strings.Join(record.(*dns.TXT).Txt, ""))
	}
	return values, at, err
}

// authoritative returns the addresses of the servers of the zone that a name is in. Other servers may answer with what
// they remember, such as that there is no such record yet.
func (r Resolver) authoritative(ctx context.Context, name string) ([]string, error) {
	for parent := canonical(name); parent != "."; parent = above(parent) {
		records, _, err := r.query(ctx, parent, dns.TypeNS)
		if err != nil {
			return nil, err
		}
		var servers []string
		for _, record := range records {
			found, err := r.addresses(ctx, record.(*dns.NS).Ns)
			if err != nil {
				return nil, err
			}
			for _, address := range found {
				servers = append(servers, net.JoinHostPort(address, "53"))
			}
		}
		if len(servers) > 0 {
			return servers, nil
		}
	}
	return nil, newProblem(DNSFailed, "there is no zone that %s is in", name)
}

// canonical writes a name as it is compared: in lower case, with the final dot.
func canonical(name string) string { return dns.CanonicalName(name) }

// above is the name without its first label.
func above(name string) string {
	_, rest, _ := strings.Cut(name, ".")
	if rest == "" {
		return "."
	}
	return rest
}

// isBelow reports whether a name is the zone, or in it.
func isBelow(name, zone string) bool { return dns.IsSubDomain(canonical(zone), canonical(name)) }

// randomLabel is a label that nobody has made a record for.
func randomLabel() string {
	var text [12]byte
	_, _ = rand.Read(text[:]) // it never fails
	return fmt.Sprintf("pgmtls-check-%x", text)
}
