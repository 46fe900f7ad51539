-- Calls that were answered and have not ended, so that they leave a record even if the node is killed.
CREATE TABLE open_calls (
    call_id   TEXT PRIMARY KEY,
    node      TEXT NOT NULL,
    started   BIGINT NOT NULL,
    answered  BIGINT NOT NULL,
    from_name TEXT NOT NULL,
    to_name   TEXT NOT NULL,
    direction TEXT NOT NULL,
    verdict   TEXT NOT NULL,
    legs      TEXT NOT NULL
);
CREATE INDEX open_calls_node ON open_calls (node);

-- When a node last said that it was alive; where its open calls end, should it be killed.
CREATE TABLE nodes_alive (
    node TEXT PRIMARY KEY,
    at   BIGINT NOT NULL
);
