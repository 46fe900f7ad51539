-- The trust lists of enterprise phones that were published, and which device fetched which.
CREATE TABLE trust_lists (
	version BIGINT PRIMARY KEY,
	itl TEXT NOT NULL,   -- base64
	ctl TEXT NOT NULL,   -- base64
	json TEXT NOT NULL,  -- compact JWS
	made BIGINT NOT NULL,
	note TEXT NOT NULL
);
CREATE TABLE list_holders (
	device_id TEXT NOT NULL REFERENCES devices (id) ON DELETE CASCADE,
	kind TEXT NOT NULL,  -- itl, ctl or json
	version BIGINT NOT NULL,
	fetched BIGINT NOT NULL,
	proved INTEGER NOT NULL, -- 1: by its certificate; 0: by the name of the file it asked for
	PRIMARY KEY (device_id, kind)
);
