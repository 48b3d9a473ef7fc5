-- name: find_table
-- The table's identity and what decides how it may be altered; one row, or none where it does not exist.
SELECT c.oid, n.nspname AS schema, c.relname AS name, c.relkind AS kind, c.relrowsecurity AS row_security,
       c.relforcerowsecurity AS forced_row_security, pg_get_userbyid(c.relowner) AS owner,
       pg_table_is_visible(c.oid) AS visible, c.reltuples::bigint AS estimated_rows,
       c.relkind = 'r' AND NOT c.relhassubclass AND coalesce(a.amname = 'heap', false)
         AND has_column_privilege(c.oid, 'xmin', 'SELECT') AS versioned
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_am a ON a.oid = c.relam
WHERE c.oid = to_regclass(CASE WHEN CAST(:schema AS text) IS NULL THEN quote_ident(:name)
                               ELSE quote_ident(:schema) || '.' || quote_ident(:name) END)

-- name: find_columns
-- The table's columns in order: type, element type of arrays, collation, how a value comes about.
SELECT a.attname AS name, format_type(a.atttypid, a.atttypmod) AS type, t.typcategory AS category,
       CASE WHEN t.typelem <> 0 AND t.typcategory = 'A' THEN format_type(t.typelem, NULL) END AS element,
       format_type(CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE t.oid END, NULL) AS base_type,
       format_type(t.oid, -1) AS cast_type, CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE t.oid END AS type_oid,
       a.attnotnull AS not_null, a.attgenerated <> '' AS generated, a.attidentity <> '' AS identity,
       pg_get_expr(d.adbin, d.adrelid) AS default_text, a.attnum AS number,
       coalesce(l.collisdeterministic, true) AS deterministic,
       CASE WHEN a.attcollation <> 0 THEN quote_ident(ln.nspname) || '.' || quote_ident(l.collname) END AS collation,
       false AS moves
FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
LEFT JOIN pg_collation l ON l.oid = a.attcollation LEFT JOIN pg_namespace ln ON ln.oid = l.collnamespace
WHERE a.attrelid = :oid AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attnum

-- name: find_unique_keys
-- Unique indexes that can serve as a key: whole, valid, immediate, columns only; the primary key first.
SELECT i.indexrelid::regclass::text AS index, i.indisprimary AS is_primary,
       array_agg(a.attname ORDER BY k.place)::text[] AS columns, bool_and(a.attnotnull) AS not_null
FROM pg_index i
CROSS JOIN LATERAL unnest(i.indkey::smallint[]) WITH ORDINALITY AS k(number, place)
LEFT JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number AND k.number > 0
WHERE i.indrelid = :oid AND i.indisunique AND i.indisvalid AND i.indimmediate
  AND i.indpred IS NULL AND i.indexprs IS NULL AND k.place <= i.indnkeyatts
GROUP BY i.indexrelid, i.indisprimary
ORDER BY i.indisprimary DESC, count(*), i.indexrelid

-- name: find_partitions
-- All partitions below the table, leaves marked, parents before their children.
SELECT p.relid::oid::bigint AS oid, n.nspname AS schema, c.relname AS name, p.isleaf AS leaf, p.level AS level,
       p.parentrelid::oid::bigint AS parent
FROM pg_partition_tree(:oid) p JOIN pg_class c ON c.oid = p.relid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE p.level > 0 ORDER BY p.level, n.nspname, c.relname

-- name: find_triggers
-- The application's row triggers that an UPDATE fires, with the function behind each.
SELECT t.tgname AS name, p.oid::regprocedure::text AS function, t.tgtype & 2 <> 0 AS before,
       t.tgenabled <> 'D' AS enabled, t.tgattr::text AS columns, pg_get_triggerdef(t.oid) AS definition
FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
WHERE t.tgrelid = :oid AND NOT t.tgisinternal AND t.tgtype & 16 <> 0
ORDER BY t.tgname

-- name: find_function
-- The functions of that name that can be called with so many arguments, as the search path sees them.
SELECT p.oid::bigint AS oid, n.nspname AS schema, p.proname AS name, p.pronargs AS arguments,
       p.pronargdefaults AS defaults, p.proargnames::text[] AS argument_names,
       format_type(p.prorettype, NULL) AS returns, t.typtype AS returns_kind, p.proretset AS returns_set,
       p.provolatile AS volatility, p.proparallel AS parallel, p.procost AS cost, l.lanname AS language,
       coalesce(pg_get_function_sqlbody(p.oid), p.prosrc) AS source, p.provariadic <> 0 AS variadic, pg_get_function_result(p.oid) AS result,
       p.proallargtypes IS NOT NULL AND p.prorettype = 'record'::regtype AS out_record,
       has_function_privilege(p.oid, 'EXECUTE') AS executable,
       EXISTS (SELECT FROM pg_extension x WHERE x.extname = 'aws_ml') AS batch_mode, obj_description(p.oid, 'pg_proc') AS comment,
       (SELECT format_type(a.oid, NULL) FROM pg_type a WHERE a.oid = p.proargtypes[0] AND a.typcategory = 'A') AS array,
       (SELECT array_agg(a.attname ORDER BY a.attnum)::text[] FROM pg_attribute a
        WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped) AS fields,
       (SELECT array_agg(x.name ORDER BY x.place)::text[]
        FROM unnest(p.proargnames, p.proargmodes) WITH ORDINALITY AS x(name, mode, place)
        WHERE x.mode IN ('o', 'b', 't')) AS out_names
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
JOIN pg_type t ON t.oid = p.prorettype JOIN pg_language l ON l.oid = p.prolang
WHERE p.proname = :name AND (CAST(:schema AS text) IS NULL AND pg_function_is_visible(p.oid) OR n.nspname = :schema)
  AND p.prokind = 'f'
ORDER BY p.oid

-- name: find_type
-- What the server calls a type of that name; no row where there is none.
SELECT format_type(t.oid, NULL) AS type, format_type(t.oid, -1) AS cast_type, t.typcategory AS category,
       CASE WHEN t.typelem <> 0 AND t.typcategory = 'A' THEN format_type(t.typelem, NULL) END AS element, t.oid
FROM pg_type t WHERE t.oid = to_regtype(:type)

-- name: describe_expressions
-- The expressions over the table, never run: the driver reads their types from the answer's description.
SELECT {% for expression in expressions %}{{ expression }} AS "i{{ loop.index }}"{{ ", " if not loop.last }}{% endfor %}
FROM {{ table }} AS c LIMIT 0

-- name: name_types
-- The names of types by their oids, in the order asked.
SELECT format_type(u.oid, NULL) FROM unnest(CAST(:oids AS bigint[])) WITH ORDINALITY AS u(oid, place) ORDER BY u.place
