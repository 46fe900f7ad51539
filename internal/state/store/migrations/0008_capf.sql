-- What an administrator ordered of a device by CAPF, one open order a device, and what became of it.
CREATE TABLE capf_orders (
	id TEXT PRIMARY KEY,
	device_id TEXT NOT NULL REFERENCES devices (id) ON DELETE CASCADE,
	operation TEXT NOT NULL,
	auth TEXT NOT NULL,
	secret TEXT NOT NULL,        -- the one-time string, sealed
	exception TEXT NOT NULL,
	old INTEGER NOT NULL,
	key_kind TEXT NOT NULL,
	weak TEXT NOT NULL,
	completes BIGINT NOT NULL,
	created BIGINT NOT NULL,
	attempts INTEGER NOT NULL,   -- that are left
	open INTEGER NOT NULL,
	status TEXT NOT NULL,
	reason TEXT NOT NULL,
	at BIGINT NOT NULL,
	source TEXT NOT NULL,
	serial TEXT NOT NULL,
	certificate TEXT NOT NULL,   -- base64
	locked INTEGER NOT NULL,
	session TEXT NOT NULL,       -- that has claimed it; empty: none
	claimed BIGINT NOT NULL,     -- until when
	issued TEXT NOT NULL         -- serial of a certificate that the phone has not confirmed
);
CREATE INDEX capf_orders_device ON capf_orders (device_id, created);
CREATE INDEX capf_orders_open ON capf_orders (open, claimed);
