package main

import (
	"context"
	"errors"

	"pgmtls-proxy/internal/config"
	"pgmtls-proxy/internal/control/notify"
	"pgmtls-proxy/internal/control/outbox"
	"pgmtls-proxy/internal/secretfile"
)

// newSender puts together who is told.
func newSender(cfg config.Notify) (notify.Sender, error) {
	var all notify.Fan
	if cfg.Webhook.URL != "" {
		text, err := secretfile.Read(cfg.Webhook.SecretFile, maxSecret)
		if err != nil {
			return nil, err
		}
		secrets, err := notify.ParseSecrets(text)
		if err != nil {
			return nil, err
		}
		hook := &notify.Webhook{URL: cfg.Webhook.URL, Secrets: secrets}
		if err := hook.Check(); err != nil {
			return nil, err
		}
		all = append(all, hook)
	}
	if cfg.Mail.Address != "" {
		password, err := line(cfg.Mail.PasswordFile)
		if err != nil {
			return nil, err
		}
		mail := &notify.Mail{Address: cfg.Mail.Address, From: cfg.Mail.From, To: cfg.Mail.To,
			Username: cfg.Mail.Username, Password: password, TLS: notify.TLS(cfg.Mail.TLS)}
		if err := mail.Check(); err != nil {
			return nil, err
		}
		all = append(all, mail)
	}
	if len(all) == 0 {
		return nil, nil
	}
	return all, nil
}

// notify sends one notice. With no receiver configured, it is logged.
func (d *daemon) notify(ctx context.Context, n outbox.Notice) (pointless bool, err error) {
	switch n.Kind {
	case outbox.PolicyOvertaken:
		d.log.Warn().Str("database", n.Database).Str("proxy", n.Proxy).Msg("the store was restored and was older than a proxy; what was changed after the snapshot is undone")
	case outbox.ProxyClock:
		d.log.Warn().Str("database", n.Database).Str("proxy", n.Proxy).Dur("ahead", n.Skew).Msg("the clock of a proxy differs from this one's; one of them is wrong")
	case outbox.StoreSpace:
		d.log.Warn().Str("shortage", n.Shortage).Msg("the store runs out of space")
	case outbox.ConnectionChanged:
		d.log.Info().Str("database", n.Database).Str("url", n.Public.URL).Str("previous_url", n.Public.PreviousURL).Msg("clients are to connect by another URL")
	case outbox.EnhancedFailing, outbox.EnhancedEnding, outbox.EnhancedExpired, outbox.EnhancedChain, outbox.ACMEAccount, outbox.ACMELimited:
		d.log.Warn().Str("kind", string(n.Kind)).Str("database", n.Database).Str("host", n.Public.Host).Str("ca", n.Public.CA).
			Str("reason", n.Public.Reason).Str("detail", n.Public.Detail).Time("expires_at", n.ExpiresAt).Msg("a public certificate, or its authority, needs attention")
	default:
		d.log.Info().Str("kind", string(n.Kind)).Str("space", n.Space).Str("database", n.Database).Time("expires_at", n.ExpiresAt).
			Msg("a certificate or an authority expires soon")
	}
	if d.sender == nil {
		return false, nil
	}
	err = d.sender.Send(ctx, message(n))
	return errors.Is(err, notify.ErrPermanent), err
}

// message is a notice in the words of notify.
func message(n outbox.Notice) notify.Notice {
	m := notify.Notice{ID: n.ID, Kind: notify.Kind(n.Kind), At: n.At, Database: n.Database, Space: n.Space}
	switch {
	case n.Certificate != nil:
		m.Certificate = noticeCertificate(n.Certificate)
		if n.Successor != nil {
			m.Certificate.Successor = noticeCertificate(n.Successor)
		}
	case n.Public != nil:
		p := notify.Public(*n.Public)
		m.Public, m.Ends = &p, n.ExpiresAt
	case n.Proxy != "":
		m.Proxy, m.Skew = n.Proxy, n.Skew
	case n.Kind == outbox.StoreSpace:
		m.Shortage = n.Shortage
	default:
		m.Certificate = &notify.Certificate{Name: n.Authority, ExpiresAt: n.ExpiresAt}
	}
	return m
}

func noticeCertificate(c *outbox.Certificate) *notify.Certificate {
	return &notify.Certificate{ID: c.ID, Name: c.Name, Serial: c.Serial, ExpiresAt: c.ExpiresAt, OwnKey: c.OwnKey}
}
