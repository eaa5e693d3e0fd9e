package cli

import (
	"fmt"
	"strings"
)

const (
	wholeID    = 36 // the length of an id that needs no completing: a UUID's
	shortestID = 4  // what is shorter is a slip more often than an id
)

// whole gives the id of which a person typed the beginning, as tables show it. What fits nothing stays as it is, for the
// server to refuse; what fits several things is an error, since a guess could delete the wrong one.
func (s *session) whole(typed string, list func() ([]string, error)) (string, error) {
	if len(typed) >= wholeID || len(typed) < shortestID {
		return typed, nil
	}
	all, err := list()
	if err != nil {
		return "", err
	}
	var fitting []string
	for _, id := range all {
		switch {
		case strings.EqualFold(id, typed):
			return id, nil
		case len(id) >= len(typed) && strings.EqualFold(id[:len(typed)], typed):
			fitting = append(fitting, id)
		}
	}
	switch len(fitting) {
	case 0:
		return typed, nil
	case 1:
		return fitting[0], nil
	}
	shown := fitting[:min(len(fitting), 3)]
	return "", usage(fmt.Errorf("%d ids begin with %s (%s, …): write more of it", len(fitting), clean(typed), clean(strings.Join(shown, ", "))))
}

// wholeRule, wholeCertificate and wholeAuthority complete an id of the database or space in the first argument.
func (s *session) wholeRule(typed string) (string, error) {
	return s.whole(typed, func() (ids []string, err error) {
		rules, err := s.Rules(s, s.args[0])
		for _, rule := range rules {
			ids = append(ids, rule.ID)
		}
		return ids, err
	})
}

func (s *session) wholeCertificate(typed string) (string, error) {
	return s.whole(typed, func() (ids []string, err error) {
		certificates, err := s.Certificates(s, s.args[0])
		for _, certificate := range certificates {
			ids = append(ids, certificate.ID)
		}
		return ids, err
	})
}

func (s *session) wholeAuthority(space, typed string) (string, error) {
	return s.whole(typed, func() (ids []string, err error) {
		authorities, err := s.Authorities(s, space)
		for _, ca := range authorities {
			ids = append(ids, ca.ID)
		}
		return ids, err
	})
}

func (s *session) wholeAgent(typed string) (string, error) {
	return s.whole(typed, func() (ids []string, err error) {
		agents, err := s.Agents(s)
		for _, agent := range agents {
			ids = append(ids, agent.ID)
		}
		return ids, err
	})
}
