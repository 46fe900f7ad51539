-- The proof of a call's legs, in the form of the journal of calls (record.go). Records of before have it as JSON, in legs.
ALTER TABLE cdrs ADD COLUMN proofs {{bytes}};
