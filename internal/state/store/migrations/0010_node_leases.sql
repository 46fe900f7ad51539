-- Which process runs as a node of this database. A node has one row, which its process keeps fresh.
CREATE TABLE node_leases (
	node TEXT PRIMARY KEY,
	holder TEXT NOT NULL,   -- the data directory, by the identifier that it keeps
	session TEXT NOT NULL,  -- the process
	place TEXT NOT NULL,    -- where it runs, for people
	reach TEXT NOT NULL,    -- where other nodes reach its SIP; empty: nowhere
	renewed BIGINT NOT NULL -- by the clock of the database
);
