package apiserver

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"sync"
	"time"

	"pgmtls-proxy/internal/control/api"
	"pgmtls-proxy/internal/control/audit"
	"pgmtls-proxy/internal/control/problem"
)

func listAudit(c *call) error {
	query := c.r.URL.Query()
	limit := api.DefaultPage
	if text := query.Get("limit"); text != "" || query.Has("limit") {
		var err error
		if limit, err = strconv.Atoi(text); err != nil || limit < 1 || limit > api.MaxPage {
			return invalid("limit must be a number from 1 to %d, not %s", api.MaxPage, problem.Quote(text))
		}
	}
	for _, name := range []string{"actor", "action", "before"} {
		if len(query.Get(name)) > 128 {
			return invalid("%s is too long", name)
		}
	}
	records, err := c.server.trail.List(c.ctx(), audit.Query{Database: c.database,
		Actor: query.Get("actor"), Action: query.Get("action"), Before: query.Get("before"), Limit: limit})
	if err != nil {
		return err
	}
	names, err := c.databaseNames()
	if err != nil {
		return err
	}
	page := api.Audit{Records: make([]api.Record, len(records))}
	for i, record := range records {
		page.Records[i] = showRecord(record, names[record.Database])
	}
	if len(records) == limit {
		page.Next = records[limit-1].ID
	}
	return c.answer(http.StatusOK, page)
}

// streamEvents sends the records of the audit trail as they come, as server-sent events (HTML Living Standard 9.2).
func streamEvents(c *call) error {
	after, err := c.lastEvent()
	if err != nil {
		return err
	}
	leave, ok := c.server.listeners.enter(c.caller.ID)
	if !ok {
		return &api.Error{ID: api.RateLimit, Message: fmt.Sprintf("this token has %d event streams open, the most that it may have; close one, or use another token", c.server.listeners.most)}
	}
	defer leave()
	select {
	case c.server.events <- struct{}{}:
		defer func() { <-c.server.events }()
	default:
		return &api.Error{ID: api.Unavailable, Message: "too many event streams are open; close one, or use another daemon"}
	}
	ctx, release := c.server.access.Hold(c.ctx(), c.caller)
	records := make(chan audit.Record)
	ended := make(chan error, 1)
	var reading sync.WaitGroup
	reading.Go(func() { ended <- c.readEvents(ctx, after, records) })
	defer reading.Wait()
	defer release() // ends the reading

	out, err := newStream(c, "text/event-stream")
	if err != nil {
		return nil // nobody listens any more
	}
	defer out.close()
	beat := time.NewTicker(c.server.beat)
	defer beat.Stop()
	for text := []byte(":\n\n"); out.write(text) == nil; {
		select {
		case record := <-records:
			if text, err = c.event(record); err != nil {
				return err
			}
		case <-beat.C:
			text = []byte(":\n\n")
		case err := <-ended:
			return err
		case <-ctx.Done():
			return nil
		}
	}
	return nil
}

var eventID = regexp.MustCompile(`^[0-9]{20}-[0-9a-f]{8}$`)

// lastEvent is the record behind which the stream begins: the one that the client says, or the newest. Asking for that
// here, and not somewhere in the stream, means that a change after the first byte of the answer is in the stream.
func (c *call) lastEvent() (string, error) {
	if after := c.r.Header.Get(api.LastEventID); after != "" {
		if !eventID.MatchString(after) {
			return "", invalid("%s is not the id of an event", api.LastEventID)
		}
		return after, nil
	}
	newest, err := c.server.trail.List(c.ctx(), audit.Query{Limit: 1})
	if err != nil || len(newest) == 0 {
		return "", err
	}
	return newest[0].ID, nil
}

// readEvents passes on the records that the stream is about, until ctx ends.
func (c *call) readEvents(ctx context.Context, after string, records chan<- audit.Record) error {
	for record, err := range c.server.trail.Events(ctx, after) {
		if err != nil {
			return err
		}
		if c.database != "" && record.Database != c.database {
			continue
		}
		select {
		case records <- record:
		case <-ctx.Done():
			return nil
		}
	}
	return nil
}

// event writes a record as an event. JSON has no line ends in it, and actions have none.
func (c *call) event(record audit.Record) ([]byte, error) {
	data, err := json.Marshal(showRecord(record, c.server.databaseName(c.ctx(), record.Database)))
	if err != nil {
		return nil, fmt.Errorf("encode an event: %w", err)
	}
	return fmt.Appendf(nil, "id: %s\nevent: %s\ndata: %s\n\n", record.ID, record.Action, data), nil
}

// databaseName returns the name of a database for people, its id when it is gone.
func (s *Server) databaseName(ctx context.Context, id string) string {
	if id == "" {
		return ""
	}
	if name := s.hub.name(id); name != "" {
		return name
	}
	if db, err := s.registry.Database(ctx, id); err == nil {
		return db.Name
	}
	return id
}

func showRecord(r audit.Record, database string) api.Record {
	return api.Record{ID: r.ID, At: utc(r.At), Actor: r.Actor, Address: r.Address, RequestID: r.RequestID, Action: r.Action,
		Database: cmp.Or(database, r.Database), Space: r.Space, Object: r.Object, Detail: r.Detail}
}
