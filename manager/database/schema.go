package database

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// applicationID stands in the header of each file ("RPm1"), so that a foreign file is refused.
const applicationID = 0x52506d31

// migrations bring a file from version n to n+1; version 0 is an empty file. A migration runs
// on each node at its own time, outside the log: it must not change the content of a row that
// counts for the digest. Append only.
var migrations = []string{schema1, schema2, schema3, schema4}

// schema1: tables end in _row where a view of the contract has the plain name. Names that
// repeat (units, tags) are interned. secret_* hold what Query must not show.
const schema1 = `
CREATE TABLE state (
	id INTEGER PRIMARY KEY CHECK (id = 1),
	idx INTEGER NOT NULL, term INTEGER NOT NULL,
	config_idx INTEGER NOT NULL, config BLOB,
	digest BLOB NOT NULL, pool TEXT NOT NULL,
	canary INTEGER NOT NULL, canary_ms INTEGER NOT NULL,
	prune_series INTEGER NOT NULL, prune_stream INTEGER NOT NULL
);
INSERT INTO state VALUES (1, 0, 0, 0, NULL, zeroblob(32), '', 0, 0, 0, 0);
CREATE TABLE client (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE);
CREATE TABLE client_result (
	client INTEGER NOT NULL, slot INTEGER NOT NULL,
	seq INTEGER NOT NULL, idx INTEGER NOT NULL, result BLOB NOT NULL,
	PRIMARY KEY (client, slot)
) WITHOUT ROWID;
CREATE TABLE unit_row (
	id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE,
	created_ms INTEGER NOT NULL, removed_ms INTEGER NOT NULL
);
CREATE TABLE secret_unit (unit INTEGER PRIMARY KEY, hash BLOB NOT NULL);
CREATE TABLE user_row (name TEXT PRIMARY KEY, generation INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE secret_user (name TEXT PRIMARY KEY, hash TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE setting_row (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE series (
	id INTEGER PRIMARY KEY, unit INTEGER NOT NULL,
	node TEXT NOT NULL, grp TEXT NOT NULL, tag TEXT NOT NULL,
	UNIQUE (unit, node, grp, tag)
);
CREATE TABLE stream (
	id INTEGER PRIMARY KEY AUTOINCREMENT, unit INTEGER NOT NULL, boot TEXT NOT NULL,
	UNIQUE (unit, boot)
);
CREATE TABLE message (
	stream INTEGER NOT NULL, seq INTEGER NOT NULL, hash INTEGER NOT NULL, received_ms INTEGER NOT NULL,
	PRIMARY KEY (stream, seq, hash)
) WITHOUT ROWID;
CREATE TABLE sample_row (
	series INTEGER NOT NULL, source_ms INTEGER NOT NULL, hash INTEGER NOT NULL,
	origin INTEGER NOT NULL, seq INTEGER, delay_ms INTEGER NOT NULL,
	kind INTEGER NOT NULL, value, error INTEGER,
	PRIMARY KEY (series, source_ms, hash)
) WITHOUT ROWID;
CREATE TABLE event_row (
	id INTEGER PRIMARY KEY AUTOINCREMENT, proposed_ms INTEGER NOT NULL,
	time_ms INTEGER NOT NULL, node TEXT NOT NULL, severity TEXT NOT NULL, category TEXT NOT NULL,
	code TEXT NOT NULL, message TEXT NOT NULL, cause TEXT NOT NULL, details TEXT NOT NULL
);
CREATE INDEX event_row_time ON event_row (time_ms);
CREATE VIEW sample (unit, node, group_name, tag, source_ms, seq, value, error) AS
	SELECT u.name, s.node, s.grp, s.tag, r.source_ms, r.seq, r.value, r.error
	FROM sample_row r JOIN series s ON s.id = r.series JOIN unit_row u ON u.id = s.unit;
CREATE VIEW event (id, time_ms, node, severity, category, code, message, cause, details) AS
	SELECT id, time_ms, node, severity, category, code, message, cause, details FROM event_row;
CREATE VIEW unit (name, created_ms) AS
	SELECT name, created_ms FROM unit_row WHERE removed_ms = 0;
CREATE VIEW setting (key, value) AS SELECT key, value FROM setting_row;
CREATE VIEW user (name) AS SELECT name FROM user_row;
`

// schema2: the history of changes of Primary; the last reading of each tag, and the tags that
// are in error now. CROSS JOIN fixes the order: unit, its series, one look-up in each; SQLite
// would otherwise look at every reading.
const schema2 = `
CREATE TABLE changeover_row (id INTEGER PRIMARY KEY AUTOINCREMENT, at_ms INTEGER NOT NULL, record TEXT NOT NULL);
CREATE VIEW changeover (id, at_ms, record) AS SELECT id, at_ms, record FROM changeover_row;
CREATE VIEW tag (unit, node, group_name, tag, source_ms, seq, value, error) AS
	SELECT u.name, s.node, s.grp, s.tag, r.source_ms, r.seq, r.value, r.error
	FROM unit_row u CROSS JOIN series s ON s.unit = u.id
	CROSS JOIN sample_row r ON r.series = s.id
		AND (r.source_ms, r.hash) = (SELECT m.source_ms, m.hash FROM sample_row m
			WHERE m.series = s.id ORDER BY m.source_ms DESC, m.hash DESC LIMIT 1);
CREATE VIEW alarm (unit, node, group_name, tag, source_ms, error) AS
	SELECT unit, node, group_name, tag, source_ms, error FROM tag WHERE error IS NOT NULL;
`

// schema3: changes of Primary and drills by a key, so that one whose evidence grows can be put again;
// the answers to requests that came with a key.
const schema3 = `
ALTER TABLE changeover_row ADD COLUMN key TEXT NOT NULL DEFAULT '';
CREATE UNIQUE INDEX changeover_row_key ON changeover_row (key) WHERE key <> '';
CREATE TABLE drill_row (id INTEGER PRIMARY KEY AUTOINCREMENT, at_ms INTEGER NOT NULL, record TEXT NOT NULL, key TEXT NOT NULL UNIQUE);
CREATE VIEW drill (id, at_ms, record) AS SELECT id, at_ms, record FROM drill_row;
CREATE TABLE secret_answer (
	scope TEXT NOT NULL, key TEXT NOT NULL, fingerprint BLOB NOT NULL, expires_ms INTEGER NOT NULL, answer TEXT NOT NULL,
	PRIMARY KEY (scope, key)
) WITHOUT ROWID;
CREATE INDEX secret_answer_expires ON secret_answer (expires_ms, scope, key);
`

// schema4: notifications that are to be sent or were, and secrets that settings need.
const schema4 = `
CREATE TABLE notice_row (id TEXT PRIMARY KEY, at_ms INTEGER NOT NULL, state TEXT NOT NULL, record TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX notice_row_time ON notice_row (at_ms);
CREATE VIEW notice (id, at_ms, state, record) AS SELECT id, at_ms, state, record FROM notice_row;
CREATE TABLE secret_setting (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
`

// secretTables are the names that a Query must not contain: hashes, and the raw pages.
var secretTables = []string{"secret_unit", "secret_user", "secret_setting", "secret_answer", "client_result", "sqlite_dbpage", "sqlite_dbdata", "sqlite_dbptr"}

// execer is a connection or a transaction.
type execer interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// schemaVersion returns the version of an open file, 0 for an empty one. ErrForeign, ErrNewer.
func schemaVersion(ctx context.Context, c execer) (int, error) {
	var id, tables int64
	if err := c.QueryRowContext(ctx, "PRAGMA application_id").Scan(&id); err != nil {
		return 0, classify(err)
	}
	if err := c.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_master").Scan(&tables); err != nil {
		return 0, classify(err)
	}
	if id == 0 && tables == 0 {
		return 0, nil
	}
	if id != applicationID {
		return 0, fmt.Errorf("%w: application id %#x, want %#x", ErrForeign, id, applicationID)
	}
	var version int
	if err := c.QueryRowContext(ctx, "SELECT max(version) FROM migration").Scan(&version); err != nil {
		return 0, fmt.Errorf("%w: read schema version: %w", ErrForeign, classify(err))
	}
	if version > len(migrations) {
		return version, fmt.Errorf("%w: schema %d, this version knows up to %d", ErrNewer, version, len(migrations))
	}
	if version < 1 {
		return 0, fmt.Errorf("%w: schema %d", ErrForeign, version)
	}
	return version, nil
}

// migrate brings the file up to date, each step in a transaction of its own.
func migrate(ctx context.Context, c execer) (from, to int, err error) {
	from, err = schemaVersion(ctx, c)
	if err != nil {
		return from, from, err
	}
	for to = from; to < len(migrations); to++ {
		if err := migrateStep(ctx, c, to); err != nil {
			return from, to, fmt.Errorf("migrate schema %d to %d: %w", to, to+1, err)
		}
	}
	return from, to, nil
}

func migrateStep(ctx context.Context, c execer, from int) (err error) {
	if _, err := c.ExecContext(ctx, "BEGIN IMMEDIATE"); err != nil {
		return classify(err)
	}
	defer func() {
		if err != nil {
			_, rollback := c.ExecContext(ctx, "ROLLBACK")
			err = errors.Join(classify(err), rollback)
		}
	}()
	if from == 0 {
		_, err = c.ExecContext(ctx, fmt.Sprintf("PRAGMA application_id = %d; CREATE TABLE migration (version INTEGER PRIMARY KEY)", applicationID))
		if err != nil {
			return err
		}
	}
	if _, err = c.ExecContext(ctx, migrations[from]); err != nil {
		return err
	}
	if _, err = c.ExecContext(ctx, "INSERT INTO migration (version) VALUES (?)", from+1); err != nil {
		return err
	}
	_, err = c.ExecContext(ctx, "COMMIT")
	return err
}
