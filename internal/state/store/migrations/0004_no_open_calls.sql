-- Calls that are up are noted in a journal beside the database (calljournal.go).
DROP TABLE open_calls;
DROP TABLE nodes_alive;
