package policysync

import (
	"pgmtls-proxy/internal/control/api"
	"pgmtls-proxy/internal/control/policyformat"
)

// isNews reports whether the proxy's last look at its directory was after the last change: an error from before is of
// what has been replaced.
func (c *Publisher) isNews(s *status) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return s.Reload.CheckedAt.After(c.published)
}

// understand makes a report of a status.
func (c *Publisher) understand(s *status) api.Report {
	if s.Policy != nil && c.generation(s.Policy.Digest) == 0 {
		c.learn(s.Policy.Digest)
	}
	r := s.report(c.generation)
	if text := c.elsewhere(s, r); text != "" {
		r.Error, r.ErrorKind = text, api.ErrorUndeliverable
	}
	return r
}

// generation is that of a digest, 0 for one that is none of ours.
func (c *Publisher) generation(digest string) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	for generation, known := range c.digests {
		if known == digest {
			return generation
		}
	}
	return 0
}

// learn reads the directory, once for each digest that the proxy shows and that nothing explains: this process may have
// just started, or another one published. What lies there under the number of a generation that is known, with other
// bytes, has been edited.
func (c *Publisher) learn(digest string) {
	c.mu.Lock()
	tried := c.unknown == digest
	c.unknown = digest
	c.mu.Unlock()
	if tried {
		return
	}
	dir, err := openDirectory(c.Dir)
	if err != nil {
		return
	}
	defer dir.close()
	p, err := dir.policy(c.Database)
	if err != nil || policyformat.Digest(p) != digest {
		return
	}
	c.mu.Lock()
	_, known := c.digests[p.Generation]
	known = known || p.Generation <= c.newest
	c.mu.Unlock()
	if !known {
		c.expect(p)
	}
}
