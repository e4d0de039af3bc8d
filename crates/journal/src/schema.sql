-- Format 1. Truth is in `events`; everything else can be made from it, or points to it.
CREATE TABLE runs (
    run         TEXT PRIMARY KEY,
    epoch       INTEGER NOT NULL,
    next        INTEGER NOT NULL,   -- the next free sequence
    link        BLOB NOT NULL,      -- the chain's link at next - 1
    correlation TEXT NOT NULL,      -- JSON
    state       TEXT NOT NULL,
    repository  TEXT NOT NULL,
    task_type   TEXT NOT NULL,
    driver      TEXT NOT NULL,
    actor       TEXT NOT NULL,
    created_ms  INTEGER NOT NULL,
    updated_ms  INTEGER NOT NULL,
    branch      TEXT,
    digest      TEXT
) STRICT;

CREATE TABLE events (
    run      TEXT NOT NULL REFERENCES runs (run),
    sequence INTEGER NOT NULL,
    link     BLOB NOT NULL,
    bytes    BLOB NOT NULL,
    PRIMARY KEY (run, sequence)
) STRICT;

CREATE TABLE heads (
    number    INTEGER PRIMARY KEY,  -- from 0, without gaps
    run       TEXT NOT NULL,
    sequence  INTEGER NOT NULL,
    statement BLOB NOT NULL,
    signature BLOB NOT NULL,
    link      BLOB NOT NULL
) STRICT;
CREATE INDEX heads_of_run ON heads (run, number);

CREATE TABLE idempotency (
    key        TEXT NOT NULL,
    actor      TEXT NOT NULL,
    repository TEXT NOT NULL,
    request    TEXT NOT NULL,
    run        TEXT NOT NULL REFERENCES runs (run),
    PRIMARY KEY (key, actor, repository)
) STRICT;

CREATE TABLE inbox (
    number        INTEGER PRIMARY KEY,
    id            TEXT NOT NULL UNIQUE,
    run           TEXT NOT NULL REFERENCES runs (run),
    operation_key TEXT NOT NULL UNIQUE,
    actor         TEXT NOT NULL,
    created_ms    INTEGER NOT NULL,
    body          TEXT NOT NULL,
    outcome       TEXT
) STRICT;
CREATE INDEX inbox_of_run ON inbox (run, number) WHERE outcome IS NULL;

CREATE TABLE budgets (
    run     TEXT NOT NULL REFERENCES runs (run),
    kind    TEXT NOT NULL,
    total   INTEGER NOT NULL,
    settled INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (run, kind)
) STRICT;

CREATE TABLE reservations (
    id     TEXT PRIMARY KEY,
    run    TEXT NOT NULL REFERENCES runs (run),
    kind   TEXT NOT NULL,
    epoch  INTEGER NOT NULL,
    amount INTEGER NOT NULL
) STRICT;
CREATE INDEX reservations_of_run ON reservations (run, kind);

CREATE TABLE blobs (
    digest    TEXT NOT NULL,
    run       TEXT NOT NULL,        -- not a reference: a request is kept before its run starts
    retention TEXT NOT NULL,
    pruned    INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (digest, run)
) STRICT;
CREATE INDEX blobs_of_run ON blobs (run);
