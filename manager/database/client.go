package database

import (
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
)

// ResultWindow is how many results are kept per client, by sequence modulo ResultWindow.
const ResultWindow = 256

// maxClients are remembered; a new one beyond that displaces the one that was silent longest
// (by log index). A client is one run of one Manager, so this is many restarts ago.
const maxClients = 256

// clientResults are the kept results of one client.
type clientResults struct {
	id    int64
	slots [ResultWindow]slot
}

type slot struct {
	used     bool
	seq, idx int64
	result   []byte
}

// client returns what is kept for a client; an unknown one is nil, or created with add.
func (a *applier) client(ctx context.Context, name string, add bool) (*clientResults, error) {
	if c, ok := a.clients[name]; ok {
		return c, nil
	}
	c := &clientResults{}
	err := a.conn.QueryRowContext(ctx, "SELECT id FROM client WHERE name = ?", name).Scan(&c.id)
	switch {
	case errors.Is(err, sql.ErrNoRows) && !add:
		return nil, nil
	case errors.Is(err, sql.ErrNoRows):
		if err := a.addClient(ctx, c, name); err != nil {
			return nil, fmt.Errorf("add client: %w", err)
		}
	case err != nil:
		return nil, fmt.Errorf("look up client: %w", err)
	default:
		if err := a.loadClient(ctx, c); err != nil {
			return nil, fmt.Errorf("look up client: %w", err)
		}
	}
	if len(a.clients) >= 2*maxClients {
		clear(a.clients)
	}
	a.clients[name] = c
	return c, nil
}

func (a *applier) loadClient(ctx context.Context, c *clientResults) error {
	rows, err := a.conn.QueryContext(ctx, "SELECT slot, seq, idx, result FROM client_result WHERE client = ?", c.id)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var n int64
		s := slot{used: true}
		if err := rows.Scan(&n, &s.seq, &s.idx, &s.result); err != nil {
			return err
		}
		if n < 0 || n >= ResultWindow {
			return fmt.Errorf("%w: result slot %d", ErrCorrupt, n)
		}
		c.slots[n] = s
	}
	return rows.Err()
}

func (a *applier) addClient(ctx context.Context, c *clientResults, name string) error {
	var n int
	if err := a.conn.QueryRowContext(ctx, "SELECT count(*) FROM client").Scan(&n); err != nil {
		return err
	}
	if n >= maxClients {
		if err := a.dropClient(ctx); err != nil {
			return err
		}
	}
	res, err := a.conn.ExecContext(ctx, "INSERT INTO client (name) VALUES (?)", name)
	if err != nil {
		return err
	}
	if c.id, err = res.LastInsertId(); err != nil {
		return err
	}
	a.count(rowClient(a.row(), c.id, name))
	return nil
}

// dropClient forgets the client whose last command is the oldest.
func (a *applier) dropClient(ctx context.Context) error {
	var id int64
	var name string
	err := a.conn.QueryRowContext(ctx, `SELECT c.id, c.name FROM client c LEFT JOIN client_result r ON r.client = c.id
		GROUP BY c.id ORDER BY coalesce(max(r.idx), 0), c.id LIMIT 1`).Scan(&id, &name)
	if err != nil {
		return err
	}
	old := &clientResults{id: id}
	if err := a.loadClient(ctx, old); err != nil {
		return err
	}
	for n, s := range old.slots {
		if s.used {
			a.uncount(rowClientResult(a.row(), id, int64(n), s.seq, s.idx, s.result))
		}
	}
	a.uncount(rowClient(a.row(), id, name))
	delete(a.clients, name)
	if _, err := a.conn.ExecContext(ctx, "DELETE FROM client_result WHERE client = ?", id); err != nil {
		return err
	}
	_, err = a.conn.ExecContext(ctx, "DELETE FROM client WHERE id = ?", id)
	return err
}

// keep stores the result of a command, in place of that of the sequence one window before.
func (a *applier) keep(ctx context.Context, c *clientResults, sequence, index uint64, r *Result) error {
	n := int64(sequence % ResultWindow)
	s := &c.slots[n]
	if s.used {
		a.uncount(rowClientResult(a.row(), c.id, n, s.seq, s.idx, s.result))
	}
	*s = slot{used: true, seq: int64(sequence), idx: int64(index), result: packResult(r)}
	a.count(rowClientResult(a.row(), c.id, n, s.seq, s.idx, s.result))
	if _, err := a.stmt.result.ExecContext(ctx, c.id, n, s.seq, s.idx, s.result); err != nil {
		return fmt.Errorf("keep result of sequence %d: %w", sequence, err)
	}
	return nil
}

// resultErrors have their number in kept results. Append only.
var resultErrors = []error{nil, ErrUnknownUnit, ErrUnitExists, ErrUnknownUser, ErrUnknownSetting, ErrStale, ErrPoolSet, ErrKeyReused}

// packResult writes error number, removed, more, canary, then the outcomes as runs.
func packResult(r *Result) []byte {
	code := 0
	for i, e := range resultErrors {
		if e == r.Err { //nolint:errorlint // these are the sentinels themselves
			code = i
		}
	}
	b := binary.AppendUvarint(nil, uint64(code))
	b = binary.AppendUvarint(b, uint64(r.Removed))
	if r.More {
		b = append(b, 1)
	} else {
		b = append(b, 0)
	}
	b = binary.AppendVarint(b, r.Canary)
	for i := 0; i < len(r.Records); {
		n := i
		for n < len(r.Records) && r.Records[n] == r.Records[i] {
			n++
		}
		b = append(b, byte(r.Records[i]))
		b = binary.AppendUvarint(b, uint64(n-i))
		i = n
	}
	return b
}

// keptResult reads what packResult wrote.
func keptResult(b []byte) (Result, error) {
	d := &decoder{b: b}
	code := d.uint()
	r := Result{Removed: int(d.uint()), More: d.byte() == 1, Canary: d.int(), Repeat: true}
	if code >= uint64(len(resultErrors)) {
		return r, fmt.Errorf("%w: kept result with error %d", ErrCorrupt, code)
	}
	r.Err = resultErrors[code]
	for len(d.b) > 0 {
		o, n := Outcome(d.byte()), d.uint()
		if n > MaxRecords || len(r.Records)+int(n) > MaxRecords {
			d.fail("%d outcomes", n)
			break
		}
		for range n {
			r.Records = append(r.Records, o)
		}
	}
	if d.err != nil {
		return r, fmt.Errorf("%w: kept result: %w", ErrCorrupt, d.err)
	}
	return r, nil
}
