-- All facts. Times are microseconds since 1970 UTC, 0 meaning never; structured values are JSON texts; sealed values are texts of seal.go.

CREATE TABLE users (
    id               TEXT PRIMARY KEY,
    name             TEXT NOT NULL,
    voicemail        BOOLEAN NOT NULL,
    fwd_always       TEXT NOT NULL,
    fwd_busy         TEXT NOT NULL,
    fwd_noanswer     TEXT NOT NULL,
    fwd_unreachable  TEXT NOT NULL,
    noanswer_seconds INTEGER NOT NULL CHECK (noanswer_seconds >= 0),
    dnd              BOOLEAN NOT NULL,
    toll_class       TEXT NOT NULL,
    pin_hash         TEXT NOT NULL
);

CREATE TABLE user_numbers (
    number   TEXT PRIMARY KEY,
    user_id  TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    position INTEGER NOT NULL
);
CREATE INDEX user_numbers_user ON user_numbers (user_id);

CREATE TABLE devices (
    id      TEXT PRIMARY KEY,
    user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    kind    TEXT NOT NULL,
    profile TEXT NOT NULL,
    state   TEXT NOT NULL CHECK (state IN ('active', 'revoked')),
    created BIGINT NOT NULL
);
CREATE INDEX devices_user ON devices (user_id);

CREATE TABLE digest_secrets (
    device_id TEXT NOT NULL REFERENCES devices (id) ON DELETE CASCADE,
    username  TEXT NOT NULL,
    realm     TEXT NOT NULL,
    algorithm TEXT NOT NULL,
    sealed    TEXT NOT NULL,
    PRIMARY KEY (username, realm, algorithm)
);
CREATE INDEX digest_secrets_device ON digest_secrets (device_id);

CREATE TABLE activations (
    lookup        TEXT PRIMARY KEY,
    device_id     TEXT NOT NULL REFERENCES devices (id) ON DELETE CASCADE,
    sealed        TEXT NOT NULL,
    salt          TEXT NOT NULL,
    params        TEXT NOT NULL,
    expires       BIGINT NOT NULL,
    attempts_left INTEGER NOT NULL CHECK (attempts_left >= 0),
    used_at       BIGINT NOT NULL
);
CREATE INDEX activations_device ON activations (device_id);

-- Certificates outlive the device they were issued to: they are evidence.
CREATE TABLE certificates (
    serial     TEXT PRIMARY KEY,
    subject    TEXT NOT NULL,
    role       TEXT NOT NULL,
    name       TEXT NOT NULL,
    device_id  TEXT NOT NULL,
    not_before BIGINT NOT NULL,
    not_after  BIGINT NOT NULL,
    pem        TEXT NOT NULL,
    revoked_at BIGINT NOT NULL,
    reason     TEXT NOT NULL
);
CREATE INDEX certificates_device ON certificates (device_id);
CREATE INDEX certificates_revoked ON certificates (revoked_at);

CREATE TABLE bindings (
    aor        TEXT NOT NULL,
    bkey       TEXT NOT NULL,
    device_id  TEXT NOT NULL,
    instance   TEXT NOT NULL,
    reg_id     INTEGER NOT NULL,
    contact    TEXT NOT NULL,
    path       TEXT NOT NULL,
    flow_token TEXT NOT NULL,
    call_id    TEXT NOT NULL,
    cseq       BIGINT NOT NULL,
    expires    BIGINT NOT NULL,
    gruu       TEXT NOT NULL,
    user_agent TEXT NOT NULL,
    proof      TEXT NOT NULL,
    updated    BIGINT NOT NULL,
    PRIMARY KEY (aor, bkey)
);
CREATE INDEX bindings_device ON bindings (device_id);
CREATE INDEX bindings_expires ON bindings (expires);

CREATE TABLE config_versions (
    n      BIGINT PRIMARY KEY,
    yaml   TEXT NOT NULL,
    author TEXT NOT NULL,
    at     BIGINT NOT NULL,
    note   TEXT NOT NULL
);

CREATE TABLE cdrs (
    call_id   TEXT PRIMARY KEY,
    started   BIGINT NOT NULL,
    answered  BIGINT NOT NULL,
    ended     BIGINT NOT NULL,
    from_name TEXT NOT NULL,
    to_name   TEXT NOT NULL,
    direction TEXT NOT NULL,
    cause     TEXT NOT NULL,
    verdict   TEXT NOT NULL,
    legs      TEXT NOT NULL
);
CREATE INDEX cdrs_started ON cdrs (started);

CREATE TABLE audit (
    id      {{serial}},
    at      BIGINT NOT NULL,
    who     TEXT NOT NULL,
    what    TEXT NOT NULL,
    target  TEXT NOT NULL,
    outcome TEXT NOT NULL
);

CREATE TABLE tokens (
    id      TEXT PRIMARY KEY,
    hash    TEXT NOT NULL UNIQUE,
    name    TEXT NOT NULL,
    scopes  TEXT NOT NULL,
    expires BIGINT NOT NULL
);

CREATE TABLE settings (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
);

CREATE TABLE secrets (
    name   TEXT PRIMARY KEY,
    sealed TEXT NOT NULL
);

CREATE TABLE exceptions (
    subject    TEXT PRIMARY KEY,
    until_time BIGINT NOT NULL,
    reason     TEXT NOT NULL
);
