-- name: grant_read
-- What lets the role read columns of the table.
GRANT SELECT ({{ columns }}) ON {{ target }} TO {{ role }}

-- name: grant_read_all
-- What lets the role read whatever an expression names.
GRANT SELECT ON {{ target }} TO {{ role }}

-- name: grant_write
-- What lets the role write columns of the table.
GRANT UPDATE ({{ columns }}) ON {{ target }} TO {{ role }}

-- name: grant_held
-- What lets the role see columns that move by themselves, and set them to themselves.
GRANT SELECT ({{ columns }}), UPDATE ({{ columns }}) ON {{ target }} TO {{ role }}

-- name: grant_own_tables
-- What lets the role use rowscore's own tables.
{% for name in relations %}GRANT SELECT{% if name != "rowscore_alembic_version" %}, INSERT, UPDATE, DELETE{% endif %} ON {{ schema|id }}.{{ name|id }} TO {{ role }}{{ ";\n" if not loop.last }}{% endfor %}

-- name: grant_function
-- What lets the role call a function.
GRANT EXECUTE ON FUNCTION {{ signature }} TO {{ role }}

-- name: allow_writes
-- What makes transactions writable again.
SET GLOBAL {{ "tx_read_only" if mariadb else "transaction_read_only" }} = OFF

-- name: grant_sessions
-- What lets the role see the transactions of others.
GRANT PROCESS ON *.* TO {{ role }}

-- name: grant_monitor
-- What lets the role read a signal that holds its work up.
{% if signal == "max_replica_lag" %}
GRANT {{ "REPLICA MONITOR" if mariadb else "REPLICATION CLIENT" }} ON *.* TO {{ role }}
{% elif signal == "max_blocked_sessions" and not mariadb %}
GRANT SELECT ON performance_schema.* TO {{ role }}
{% else %}
GRANT PROCESS ON *.* TO {{ role }}
{% endif %}

-- name: end_session
-- What ends a session.
KILL {{ pid }}

-- name: log_rows
-- What makes the binary log take the rows that a statement changed instead of the statement.
SET GLOBAL binlog_format = ROW

-- name: mend_view
-- What lets `rowscore apply` make the view anew, so that it checks its reader's rights.
DROP VIEW {{ view }}

-- name: end_prepared
-- What ends a prepared transaction, once XA ROLLBACK names one of those that this lists.
XA RECOVER

-- name: account
-- A role as GRANT names it.
{{ user }}@{{ host }}

-- name: create_role
-- What makes the role that workers log in as.
CREATE USER {{ role }} IDENTIFIED BY '...'

-- name: grant_services
-- What lets the account use a service of Aurora MySQL 3's from its next session on.
GRANT {{ access }} TO {{ role }};
SET DEFAULT ROLE ALL TO {{ role }}
