-- name: find_services
-- Whether this is Aurora, whether aws_ml is there, which of its functions can be called, whether one may be made beside.
SELECT EXISTS (SELECT FROM pg_proc WHERE proname = 'aurora_version' AND pronamespace = 'pg_catalog'::regnamespace) AS aurora,
       EXISTS (SELECT FROM pg_extension WHERE extname = 'aws_ml') AS installed,
       ARRAY(SELECT DISTINCT n.nspname || '.' || p.proname FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
             WHERE n.nspname IN ('aws_sagemaker', 'aws_comprehend', 'aws_bedrock') ORDER BY 1) AS functions,
       coalesce(has_schema_privilege(to_regnamespace(quote_ident(:schema))::oid, 'CREATE'), false) AS may_create, current_user::text AS role

-- name: find_models
-- Functions and types that `apply` made to call a service for a prediction, and what bears the names that are wanted.
{% macro dependents(class, oid) %}ARRAY(SELECT DISTINCT CASE WHEN r.oid IS NULL THEN pg_describe_object(d.classid, d.objid, d.objsubid)
                                  ELSE pg_describe_object('pg_class'::regclass, r.ev_class, 0) END
       FROM pg_depend d LEFT JOIN pg_rewrite r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid
       WHERE d.refclassid = '{{ class }}'::regclass AND d.refobjid = {{ oid }} AND d.deptype = 'n'
         AND NOT EXISTS (SELECT FROM pg_description o WHERE starts_with(o.description, {{ bind("own") }}) AND o.objsubid = 0
                         AND (o.objoid = d.objid AND o.classoid = d.classid OR o.objoid = r.ev_class AND o.classoid = 'pg_class'::regclass))
       ORDER BY 1){% endmacro %}
SELECT 'function' AS kind, n.nspname AS schema, p.proname AS name, d.description AS comment,
       format('%I.%I(%s)', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid)) AS signature,
       p.proargnames::text[] AS names, ARRAY(SELECT format_type(a.oid, NULL) FROM unnest(p.proargtypes) WITH ORDINALITY AS a(oid, place) ORDER BY a.place) AS types,
       CASE r.typtype WHEN 'c' THEN format('%I.%I', (SELECT nspname FROM pg_namespace WHERE oid = r.typnamespace), r.typname)
                      ELSE format_type(p.prorettype, NULL) END AS returns, {{ dependents("pg_proc", "p.oid") }} AS dependents
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace JOIN pg_type r ON r.oid = p.prorettype
LEFT JOIN pg_description d ON d.classoid = 'pg_proc'::regclass AND d.objoid = p.oid AND d.objsubid = 0
WHERE starts_with(d.description, :prefix) OR n.nspname = :schema AND p.proname = ANY (CAST(:names AS text[]))
UNION ALL
SELECT 'type', n.nspname, t.typname, d.description, format('%I.%I', n.nspname, t.typname), NULL, NULL, NULL, {{ dependents("pg_type", "t.oid") }}
FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
LEFT JOIN pg_description d ON d.classoid = 'pg_type'::regclass AND d.objoid = t.oid AND d.objsubid = 0
WHERE starts_with(d.description, :prefix) OR n.nspname = :schema AND t.typname = ANY (CAST(:names AS text[]))
ORDER BY 1, 2, 3

-- name: create_answer_type
-- What a function with several outputs returns: its fields in the order of the model's answer.
CREATE TYPE {{ answer_type }} AS ({% for field in fields %}{{ field.name|id }} {{ field.type }}{{ ", " if not loop.last }}{% endfor %})

-- name: create_sagemaker
-- One SELECT of the call, which Aurora may gather into batches; NULL is an empty field unless a default replaces it.
{% macro argument(a) %}{% if stand_in %}{{ "VARIADIC " if together }}CAST({{ a.expression }} AS text{{ "[]" if together }}){% else %}{{ a.expression }}{% endif %}{% endmacro %}
{% set sent = [] %}{% for a in arguments %}{% set _ = sent.append(argument(a)) %}{% endfor %}
CREATE{{ " OR REPLACE" if replace }} FUNCTION {{ target }}({% for a in arguments %}{{ a.name|id }} {{ a.type }}, {% endfor %}max_rows_per_batch integer DEFAULT NULL)
RETURNS {{ returns }} AS {{ tag }}
  SELECT (aws_sagemaker.invoke_endpoint({{ text(service.sagemaker) }}, max_rows_per_batch,
    {{ ", ".join(sent) }}))::{{ returns }}
{{ tag }} LANGUAGE SQL PARALLEL SAFE COST 5000

-- name: create_comprehend
-- One SELECT of the call; sentiment and confidence come of one call, as the record that it answers.
CREATE{{ " OR REPLACE" if replace }} FUNCTION {{ target }}({{ arguments[0].name|id }} {{ arguments[0].type }}, max_rows_per_batch integer DEFAULT NULL{% if fields|length > 1 %}, OUT {{ fields[0].name|id }} character varying, OUT {{ fields[1].name|id }} real{% endif %})
{% if fields|length == 1 %}
RETURNS {{ returns }} AS {{ tag }}
  SELECT ((aws_comprehend.detect_sentiment({{ arguments[0].expression }}, {{ text(service.language) }}, max_rows_per_batch)).{{ service.comprehend[0] }})::{{ returns }}
{% else %}
AS {{ tag }}
  SELECT aws_comprehend.detect_sentiment({{ arguments[0].expression }}, {{ text(service.language) }}, max_rows_per_batch)
{% endif %}
{{ tag }} LANGUAGE SQL PARALLEL SAFE COST 5000

-- name: create_bedrock
-- One row a call: Bedrock has no batches.
CREATE{{ " OR REPLACE" if replace }} FUNCTION {{ target }}({% for a in arguments %}{{ a.name|id }} {{ a.type }}{{ ", " if not loop.last }}{% endfor %})
RETURNS {{ returns }} AS {{ tag }}
  SELECT ({{ "CAST(" if service.answer }}aws_bedrock.invoke_model(
    model_id := {{ text(service.bedrock) }}, content_type := {{ text(service.content_type) }}, accept_type := {{ text(service.accept) }},
    model_input := {{ request }}){% if service.answer %} AS json) #>> {{ text("{" ~ service.answer.replace(".", ",") ~ "}") }}{% endif %})::{{ returns }}
{{ tag }} LANGUAGE SQL PARALLEL SAFE COST 5000

-- name: create_embeddings
-- One row a call; the numbers come as an array of double precision, which pgvector's types take.
CREATE{{ " OR REPLACE" if replace }} FUNCTION {{ target }}({% for a in arguments %}{{ a.name|id }} {{ a.type }}{{ ", " if not loop.last }}{% endfor %})
RETURNS {{ returns }} AS {{ tag }}
  SELECT (aws_bedrock.invoke_model_get_embeddings(
    model_id := {{ text(service.embeddings) }}, content_type := {{ text(service.content_type) }}, json_key := {{ text(service.answer) }},
    model_input := {{ request }}))::{{ returns }}
{{ tag }} LANGUAGE SQL PARALLEL SAFE COST 5000

-- name: create_expression
-- A configured expression over the arguments; the server may put it in the place of the call.
CREATE{{ " OR REPLACE" if replace }} FUNCTION {{ target }}({% for a in arguments %}{{ a.name|id }} {{ a.type }}{{ ", " if not loop.last }}{% endfor %})
RETURNS {{ returns }} AS {{ tag }}
  SELECT ({{ expression }})::{{ returns }}
{{ tag }} LANGUAGE SQL PARALLEL SAFE

-- name: request
-- A request's body as JSON: its constants as they are, an input in place of a text that is only its name, else within it.
{% macro made(node) %}{% if node.kind == "object" %}json_build_object({% for name, item in node.members %}{{ text(name) }}, {{ made(item) }}{{ ", " if not loop.last }}{% endfor %}){% elif node.kind == "array" %}json_build_array({% for item in node.members %}{{ made(item) }}{{ ", " if not loop.last }}{% endfor %}){% elif node.kind == "input" %}{{ node.value }}{% elif node.kind == "text" %}concat({% for input, part in node.members %}{{ part if input else text(part) }}{{ ", " if not loop.last }}{% endfor %}){% else %}CAST({{ text(node.value) }} AS json){% endif %}{% endmacro %}
CAST({{ made(node) }} AS text)

-- name: comment_model
-- The mark with the digest of the SQL that made it.
COMMENT ON {{ kind.upper() }} {{ signature }} IS {{ comment }}

-- name: drop_model
-- Refused by the database where anything of the user's depends on it.
DROP {{ kind.upper() }} {{ signature }}

-- name: aws_ml
-- Stand-ins for aws_ml where it is not: same names, arguments and answers, but texts where the real ones take anything.
BEGIN;
CREATE SCHEMA aws_sagemaker;
CREATE SCHEMA aws_comprehend;
CREATE SCHEMA aws_bedrock;
-- An endpoint or a model is an address in these tables, which takes plpython3u, or a function of the schema that bears its name:
-- INSERT INTO aws_sagemaker.endpoint VALUES ('churn-endpoint', 'http://127.0.0.1:8080/invocations');
-- CREATE FUNCTION aws_sagemaker."churn-endpoint"(v text[]) RETURNS text LANGUAGE sql AS $$ SELECT v[1] $$;
CREATE TABLE aws_sagemaker.endpoint (name text PRIMARY KEY, url text NOT NULL);
CREATE TABLE aws_bedrock.model (name text PRIMARY KEY, url text NOT NULL);
-- Every call takes a number, which no rollback undoes.
CREATE SEQUENCE aws_sagemaker.calls;
CREATE SEQUENCE aws_comprehend.calls;
CREATE SEQUENCE aws_bedrock.calls;
DO $do$
BEGIN
  IF NOT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'plpython3u') THEN
    CREATE FUNCTION aws_sagemaker.post(url text, body text, content_type text, accept text) RETURNS text LANGUAGE plpgsql AS $$
    BEGIN RAISE 'no address can be called from this server, which lacks plpython3u: make a function instead'; END $$;
    RETURN;
  END IF;
  CREATE EXTENSION IF NOT EXISTS plpython3u;
  CREATE FUNCTION aws_sagemaker.post(url text, body text, content_type text, accept text) RETURNS text LANGUAGE plpython3u AS $$
from urllib.error import HTTPError
from urllib.request import Request, urlopen
try:
    with urlopen(Request(url, body.encode(), {"Content-Type": content_type, "Accept": accept}), timeout=60) as reply:
        return reply.read().decode()
except HTTPError as error:
    words = f"{url} answered {error.code} {error.reason}: {error.read(200).decode(errors='replace')}"
    if error.code == 429:
        plpy.error(f"throttled: {words}")
    plpy.error(words, sqlstate="08006" if error.code in (502, 503, 504) else "38000")
except OSError as error:
    plpy.error(f"{url}: {error}", sqlstate="08006")
$$;
END $do$;
CREATE FUNCTION aws_sagemaker.csv(fields text[]) RETURNS text IMMUTABLE LANGUAGE sql
RETURN (SELECT string_agg(CASE WHEN f.value ~ '[",\r\n]' THEN '"' || replace(f.value, '"', '""') || '"' ELSE coalesce(f.value, '') END, ',' ORDER BY f.place)
        FROM unnest(fields) WITH ORDINALITY AS f(value, place));
CREATE FUNCTION aws_sagemaker.invoke_endpoint(endpoint_name varchar, max_rows_per_batch int, VARIADIC model_input text[], OUT model_output varchar)
SECURITY DEFINER LANGUAGE plpgsql AS $$
DECLARE address text := (SELECT e.url FROM aws_sagemaker.endpoint e WHERE e.name = endpoint_name);
BEGIN
  PERFORM nextval('aws_sagemaker.calls');
  IF max_rows_per_batch < 1 THEN RAISE 'max_rows_per_batch must be positive, and is %', max_rows_per_batch; END IF;
  IF address IS NOT NULL THEN
    model_output := rtrim(aws_sagemaker.post(address, aws_sagemaker.csv(model_input) || E'\n', 'text/csv; charset=utf-8', 'text/csv'), E'\r\n');
    -- A line of several fields is cast to a composite, which is read in parentheses.
    IF regexp_replace(model_output, '"[^"]*"', '', 'g') LIKE '%,%' THEN model_output := '(' || model_output || ')'; END IF;
  ELSE
    EXECUTE format('SELECT aws_sagemaker.%I($1)', endpoint_name) INTO model_output
    USING ARRAY(SELECT coalesce(i.value, '') FROM unnest(model_input) WITH ORDINALITY AS i(value, place) ORDER BY i.place);
  END IF;
END $$;
CREATE FUNCTION aws_comprehend.detect_sentiment(input_text varchar, language_code varchar, max_rows_per_batch int DEFAULT NULL,
                                                OUT sentiment varchar, OUT confidence real)
SECURITY DEFINER LANGUAGE plpgsql AS $$
BEGIN
  PERFORM nextval('aws_comprehend.calls');
  IF max_rows_per_batch < 1 THEN RAISE 'max_rows_per_batch must be positive, and is %', max_rows_per_batch; END IF;
  IF language_code NOT IN ('en', 'es', 'fr', 'de', 'it', 'pt', 'ar', 'hi', 'ja', 'ko', 'zh', 'zh-TW') THEN
    RAISE 'language code % is not supported', language_code;
  END IF;
  sentiment := CASE WHEN input_text ~* '\m(but|although)\M' THEN 'MIXED' WHEN input_text ~* '\m(thank|great|good|excellent)' THEN 'POSITIVE'
                    WHEN input_text ~* '\m(bad|never|stinks|rude)' THEN 'NEGATIVE' ELSE 'NEUTRAL' END;
  confidence := 0.5 + (length(input_text) % 50) / 100.0;
END $$;
CREATE FUNCTION aws_bedrock.reply(model_id text, content_type text, accept_type text, model_input text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  address text := (SELECT m.url FROM aws_bedrock.model m WHERE m.name = model_id);
  answer text;
BEGIN
  PERFORM nextval('aws_bedrock.calls');
  IF address IS NOT NULL THEN RETURN aws_sagemaker.post(address, model_input, content_type, accept_type); END IF;
  EXECUTE format('SELECT aws_bedrock.%I($1)', model_id) INTO answer USING model_input::json;
  RETURN answer;
END $$;
CREATE FUNCTION aws_bedrock.invoke_model(model_id varchar, content_type text, accept_type text, model_input text, OUT model_output varchar)
SECURITY DEFINER LANGUAGE sql AS $$ SELECT aws_bedrock.reply(model_id, content_type, accept_type, model_input) $$;
CREATE FUNCTION aws_bedrock.invoke_model_get_embeddings(model_id varchar, content_type text, json_key text, model_input text, OUT model_output float8[])
SECURITY DEFINER LANGUAGE sql AS $$
  SELECT ARRAY(SELECT e.value::float8
               FROM json_array_elements_text(aws_bedrock.reply(model_id, content_type, 'application/json', model_input)::json -> json_key)
                    WITH ORDINALITY AS e(value, place) ORDER BY e.place)
$$;
-- As aws_ml has it: its functions are granted one by one.
GRANT USAGE ON SCHEMA aws_sagemaker, aws_comprehend, aws_bedrock TO PUBLIC;
REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA aws_sagemaker, aws_comprehend, aws_bedrock FROM PUBLIC;
COMMIT
