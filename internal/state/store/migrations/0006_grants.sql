-- What a device was given when somebody signed in for it (OAuth 2.0): the right to fresh access tokens until it ends or is revoked.
CREATE TABLE grants (
	id TEXT PRIMARY KEY,
	device_id TEXT NOT NULL REFERENCES devices (id) ON DELETE CASCADE,
	client TEXT NOT NULL,
	scope TEXT NOT NULL,
	refresh TEXT NOT NULL UNIQUE,  -- SHA-256 of the refresh token in use
	previous TEXT NOT NULL,        -- and of the one before it
	created BIGINT NOT NULL,
	used BIGINT NOT NULL,          -- when the last access token was made
	expires BIGINT NOT NULL,
	revoked BIGINT NOT NULL        -- 0: it holds
);
CREATE INDEX grants_device ON grants (device_id);
CREATE INDEX grants_previous ON grants (previous);
