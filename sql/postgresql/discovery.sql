-- name: list_tables
-- The tables that rows could be scored in, each with its columns and the best key that rowscore could use, if any.
SELECT c.oid::bigint AS oid, n.nspname AS schema, c.relname AS name, pg_table_is_visible(c.oid) AS visible,
       c.reltuples::bigint AS estimated_rows,
       (SELECT jsonb_agg(jsonb_build_object('name', a.attname, 'type', format_type(a.atttypid, a.atttypmod),
                                            'base_type', format_type(coalesce(nullif(t.typbasetype, 0), t.oid), NULL),
                                            'category', t.typcategory, 'made', a.attgenerated <> '' OR a.attidentity <> '')
                         ORDER BY a.attnum)
        FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
        WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped) AS columns,
       (SELECT array_agg(a.attname ORDER BY k.place)::text[]
        FROM pg_index i CROSS JOIN LATERAL unnest(i.indkey::smallint[]) WITH ORDINALITY AS k(number, place)
        JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number
        WHERE i.indrelid = c.oid AND i.indisunique AND i.indisvalid AND i.indimmediate AND k.place <= i.indnkeyatts
          AND i.indpred IS NULL AND i.indexprs IS NULL
        GROUP BY i.indexrelid, i.indisprimary HAVING bool_and(a.attnotnull)
        ORDER BY i.indisprimary DESC, count(*), i.indexrelid LIMIT 1) AS key
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relpersistence <> 't'
  AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'rowscore') AND n.nspname !~ '^aws_'
  AND has_schema_privilege(n.oid, 'USAGE')
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
ORDER BY n.nspname, c.relname

-- name: list_functions
-- Functions of the user's that answer one row for one call, with their arguments, answers and sources.
SELECT n.nspname AS schema, p.proname AS name, pg_function_is_visible(p.oid) AS visible,
       coalesce((p.proargnames::text[])[1:p.pronargs], '{}') AS argument_names,
       ARRAY(SELECT format_type(u.oid, NULL) FROM unnest(p.proargtypes) WITH ORDINALITY AS u(oid, place)
             ORDER BY u.place) AS argument_types,
       format_type(p.prorettype, NULL) AS returns,
       coalesce((SELECT jsonb_agg(jsonb_build_array(a.attname, format_type(a.atttypid, a.atttypmod)) ORDER BY a.attnum)
                 FROM pg_attribute a WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped),
                (SELECT jsonb_agg(jsonb_build_array(x.name, format_type(x.type, NULL)) ORDER BY x.place)
                 FROM unnest(p.proargnames, p.proargmodes, p.proallargtypes) WITH ORDINALITY AS x(name, mode, type, place)
                 WHERE x.mode IN ('o', 'b') AND p.prorettype = 'record'::regtype), '[]') AS fields,
       coalesce(pg_get_function_sqlbody(p.oid), p.prosrc) AS source
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace JOIN pg_type t ON t.oid = p.prorettype
WHERE p.prokind = 'f' AND NOT p.proretset AND p.prorettype NOT IN ('trigger'::regtype, 'event_trigger'::regtype)
  AND p.prorettype <> 'void'::regtype AND p.pronargs > 0
  AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'rowscore') AND n.nspname !~ '^aws_'
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e')
ORDER BY n.nspname, p.proname, p.oid

-- name: list_insert_triggers
-- Row triggers that an INSERT fires, with the source of the function behind each and what drops it.
SELECT t.tgrelid::oid::bigint AS table_oid, t.tgname AS name, t.tgtype & 2 <> 0 AS before, p.prosrc AS source,
       format('DROP TRIGGER %I ON %s;', t.tgname, t.tgrelid::regclass) AS removal
FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
WHERE NOT t.tgisinternal AND t.tgparentid = 0 AND t.tgtype & 4 <> 0 AND t.tgtype & 1 <> 0 AND t.tgenabled <> 'D'
ORDER BY t.tgrelid, t.tgname
