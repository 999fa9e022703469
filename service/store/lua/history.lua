-- history: the id of the history of the store that holds a key.
--
-- KEYS: key (any of the server that is meant)
-- ARGV: none
-- Returns what replication_id.lua does
-- include replication_id
return replication_id()
