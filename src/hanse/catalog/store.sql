-- What the control plane keeps on disk. One row in `snapshot`, one row in `log` for each version since the first.
-- Checksums are CRC-32 of the bodies: SQLite itself does not notice a flipped bit in a blob.

CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

CREATE TABLE snapshot (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    version INTEGER NOT NULL,
    body BLOB NOT NULL,
    checksum INTEGER NOT NULL
);

-- kind 'ddl': body is a DdlEntry; any other kind: body is the command itself.
CREATE TABLE log (
    version INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    transaction_id TEXT UNIQUE,
    body BLOB NOT NULL,
    checksum INTEGER NOT NULL
);

-- Transactions that somebody asked about before they were proposed: they may never be committed.
CREATE TABLE aborted (transaction_id TEXT PRIMARY KEY) WITHOUT ROWID;
