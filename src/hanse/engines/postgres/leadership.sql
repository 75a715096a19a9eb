-- The rules of a group in its own data: hanse.leadership has a row for each leader's first commit, and for each change.

CREATE TABLE IF NOT EXISTS hanse.leadership (
    term bigint NOT NULL,
    serial int NOT NULL,  -- within the term
    leader text NOT NULL,
    promotion_id text NOT NULL,  -- no two promotions have the same
    members text[] NOT NULL,
    k int NOT NULL,  -- followers that a commit waits for
    previous_members text[],  -- while the rule changes
    previous_k int,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (term, serial)
);
