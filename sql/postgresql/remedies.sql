-- name: grant_read
-- What lets the role read columns of the table.
GRANT SELECT ({{ columns }}) ON {{ target }} TO {{ role }}

-- name: grant_read_all
-- What lets the role read whatever an expression names.
GRANT SELECT ON {{ target }} TO {{ role }}

-- name: grant_write
-- What lets the role write columns of the table.
GRANT UPDATE ({{ columns }}) ON {{ target }} TO {{ role }}

-- name: grant_own_schema
-- What lets the role look into rowscore's own schema.
GRANT USAGE ON SCHEMA rowscore TO {{ role }}

-- name: grant_own_tables
-- What lets the role use rowscore's own tables.
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA rowscore TO {{ role }}

-- name: grant_function
-- What lets the role call a function.
GRANT EXECUTE ON FUNCTION {{ signature }} TO {{ role }}

-- name: allow_writes
-- What makes transactions writable again.
ALTER ROLE {{ role }} SET default_transaction_read_only = off

-- name: grant_sessions
-- What lets the role see the transactions of others.
GRANT pg_read_all_stats TO {{ role }}

-- name: grant_monitor
-- What lets the role read a signal that holds its work up.
GRANT pg_monitor TO {{ role }}

-- name: end_session
-- What ends a session.
SELECT pg_terminate_backend({{ pid }})

-- name: mend_view
-- What makes the view check its reader's rights.
ALTER VIEW {{ view }} SET (security_invoker = true)

-- name: end_prepared
-- What ends a prepared transaction.
ROLLBACK PREPARED '{{ gid }}'

-- name: account
-- A role as GRANT names it.
{{ name|id }}

-- name: create_role
-- What makes the role that workers log in as.
CREATE ROLE {{ role }} LOGIN PASSWORD '...'

-- name: grant_schema
-- What lets the role look into a schema.
GRANT USAGE ON SCHEMA {{ schema }} TO {{ role }}
