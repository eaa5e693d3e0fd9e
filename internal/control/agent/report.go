package agent

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"strings"

	"pgmtls-proxy/internal/control/api"
	"pgmtls-proxy/internal/safetext"
)

// Bounds of what the control plane takes in a report.
const (
	maxCertificates = 1000
	maxReasons      = 64
	maxName         = 64  // bytes of a reason, or of a serial
	maxVersion      = 128 // bytes
	maxSaid         = 4096
)

// report sends what the proxy reports to the control plane.
func (a *agent) report(ctx context.Context, r api.Report) error {
	a.mu.Lock()
	client := a.client
	if a.behind {
		// The proxy's directory may be empty, and the generation has been given out all the same.
		r.OnDisk = max(r.OnDisk, a.newest.Generation)
	}
	if a.rejected != "" {
		r.Error, r.ErrorKind = strings.TrimSuffix(a.rejected+"; "+r.Error, "; "), api.ErrorUndeliverable
	}
	a.mu.Unlock()
	if a.options.LogLinesDropped != nil {
		r.LogLinesDropped = int64(a.options.LogLinesDropped())
	}
	err := client.Report(ctx, bounded(r))
	if refused, ok := errors.AsType[*api.Error](err); ok && refused.ID == api.InvalidParams {
		a.log.Error().Err(err).Msg("the control plane refused a report")
		return nil // the next one may be another
	}
	return err
}

// bounded takes out of a report what would be refused.
func bounded(r api.Report) api.Report {
	r.Error, r.Drift, r.ProxyVersion = safetext.Cut(r.Error, maxSaid), safetext.Cut(r.Drift, maxSaid), safetext.Cut(r.ProxyVersion, maxVersion)
	r.Ended = maps.Clone(r.Ended)
	maps.DeleteFunc(r.Ended, func(reason string, _ int) bool { return len(reason) > maxName })
	if len(r.Ended) > maxReasons {
		r.Ended = nil
	}
	if len(r.Certificates) > maxCertificates { // those that were seen last count
		serials := slices.SortedFunc(maps.Keys(r.Certificates), func(x, y string) int {
			return cmp.Or(r.Certificates[y].LastSeen.Compare(r.Certificates[x].LastSeen), cmp.Compare(x, y))
		})
		seen := make(map[string]api.Usage, maxCertificates)
		for _, serial := range serials[:maxCertificates] {
			seen[serial] = r.Certificates[serial]
		}
		r.Certificates = seen
	}
	return r
}
