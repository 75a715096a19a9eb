-- What one node keeps of the log. Checksums are CRC-32: SQLite itself does not notice a flipped bit in a blob.

CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

-- One row; body is a Summary, which says where the log begins and ends: a row that is missing is missed.
CREATE TABLE summary (id INTEGER PRIMARY KEY CHECK (id = 1), body BLOB NOT NULL, checksum INTEGER NOT NULL);

CREATE TABLE snapshot (id INTEGER PRIMARY KEY CHECK (id = 1), body BLOB NOT NULL, checksum INTEGER NOT NULL);

-- An entry's checksum is over the entry and the checksum before it.
CREATE TABLE log (
    position INTEGER PRIMARY KEY,
    term INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    data BLOB NOT NULL,
    checksum INTEGER NOT NULL
);
