-- Each node has a configuration of its own. Versions from before are anybody's.
ALTER TABLE config_versions ADD COLUMN node TEXT NOT NULL DEFAULT '';
