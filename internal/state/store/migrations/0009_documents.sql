-- Records of services whose shape is theirs: a body, a version that each change counts, and what they are found by.
CREATE TABLE documents (
	kind TEXT NOT NULL,
	id TEXT NOT NULL,
	version BIGINT NOT NULL,
	owner TEXT NOT NULL,
	tag TEXT NOT NULL,
	state TEXT NOT NULL,
	until_time BIGINT NOT NULL, -- when it may be forgotten
	body TEXT NOT NULL,         -- sealed
	PRIMARY KEY (kind, id)
);
CREATE INDEX documents_owner ON documents (kind, owner, tag, id);
CREATE INDEX documents_until ON documents (until_time);
-- What must be unique among the documents of a kind.
CREATE TABLE document_keys (
	kind TEXT NOT NULL,
	value TEXT NOT NULL,
	id TEXT NOT NULL,
	PRIMARY KEY (kind, value)
);
CREATE INDEX document_keys_id ON document_keys (kind, id);
