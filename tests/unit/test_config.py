"""rowscore.toml: each kind of mistake is one line with file, key and expectation; names, durations and secrets."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.config import Configuration, Prediction, find_file, parse_configuration, read_configuration
from worker.errors import ConfigurationError
from worker.kinds import KINDS
from worker.secret import resolve_secret
from worker.sections import parse_duration, split_name

COMMONEST = """
database = "$DATABASE_URL"

[predictions.churn]
table   = "churn_inserts"
inputs  = ["state", "acc_length", "day_mins"]
outputs = { churn_probability = "double precision" }
model   = { http = "http://127.0.0.1:8080/invocations" }
"""


def parsed(text: str = COMMONEST) -> Configuration:
    """The text as a configuration."""
    return parse_configuration(tomllib.loads(text), "rowscore.toml")


def changed(**keys: Any) -> Configuration:
    """The commonest file with some of the prediction's keys set anew; None takes a key away."""
    content = tomllib.loads(COMMONEST)
    section = content["predictions"]["churn"]
    section.update({key: value for key, value in keys.items() if value is not None})
    for key in [key for key, value in keys.items() if value is None]:
        section.pop(key, None)
    return parse_configuration(content, "rowscore.toml")


# What is wrong with the prediction, and the whole message that it earns.
MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"tabel": "x"}, "predictions.churn.tabel: unknown key"),
    ({"table": None}, "predictions.churn.table: is missing"),
    ({"table": "a.b.c"}, 'predictions.churn.table: expected table, schema.table or "Schema"."Table", not \'a.b.c\''),
    ({"table": ""}, "predictions.churn.table: expected table, schema.table or \"Schema\".\"Table\", not ''"),
    ({"table": 3}, "predictions.churn.table: Input should be a valid string (got 3)"),
    ({"inputs": []}, "predictions.churn.inputs: must not be empty"),
    ({"inputs": None}, "predictions.churn.inputs: is missing"),
    ({"inputs": ["a", "a"]}, "predictions.churn: input 'a' is listed twice"),
    ({"inputs": [3]}, "predictions.churn.inputs.0: expected a column name or a table"),
    ({"inputs": [{"column": "a", "sql": "b"}]},
     'predictions.churn.inputs.0: expected { column = "amount" } or { name = "text", sql = "title || body" }'),
    ({"inputs": [{"sql": "a"}]},
     'predictions.churn.inputs.0: an SQL input needs a name: { name = "text", sql = "..." }'),
    ({"inputs": ["a", {"column": "b", "defualt": 0}]}, "predictions.churn.inputs.1.defualt: unknown key"),
    ({"outputs": {}}, "predictions.churn.outputs: must not be empty"),
    ({"outputs": {"state": "text"}},
     "predictions.churn: column 'state' is an input and is written by rowscore as well"),
    ({"outputs": {"churn_state": "text"}},
     "predictions.churn: column 'churn_state' has two roles among outputs, state, scored_at and version"),
    ({"outputs": {"x" * 64: "text"}}, f"predictions.churn.outputs.{'x' * 64}: '{'x' * 64}' is longer than the 63 bytes"
     " of an identifier"),
    ({"state": "s", "scored_at": "s"},
     "predictions.churn: column 's' has two roles among outputs, state, scored_at and version"),
    ({"version": {"column": "v"}}, "predictions.churn.version.value: is missing"),
    ({"model": {}},
     f'predictions.churn.model: expected one kind of model ({", ".join(KINDS)}), such as {{ sql = "predict" }}'),
    ({"model": {"sql": "f", "http": "http://h"}},
     f'predictions.churn.model: expected one kind of model ({", ".join(KINDS)}), such as {{ sql = "predict" }}'),
    ({"model": {"http": "ftp://h"}}, "predictions.churn.model.http: expected http:// or https://, not 'ftp://h'"),
    ({"model": {"http": "http://h", "timout": "3s"}}, "predictions.churn.model.timout: unknown key"),
    ({"model": {"http": "http://h", "timeout": 3}},
     'predictions.churn.model.timeout: expected a duration such as "500ms", "30s" or "2h", not 3'),
    ({"model": {"sql": "f", "mode": "insert"}},
     "predictions.churn.model.mode: Input should be 'update' or 'select' (got 'insert')"),
    ({"model": {"python": "no colon"}},
     "predictions.churn.model.python: expected \"package.module:function\", not 'no colon'"),
    ({"every": "30"}, 'predictions.churn.every: expected a duration such as "500ms", "30s" or "2h", not \'30\''),
    ({"every": "40000d"}, "predictions.churn.every: a duration is at most 36500d, not '40000d'"),
    ({"max_age": "59m"}, 'predictions.churn.max_age: expected an hour or more, such as "30d": rows that are too old are'
     " looked for all over the table, and at most once an hour"),
    ({"max_age": 30}, 'predictions.churn.max_age: expected a duration such as "500ms", "30s" or "2h", not 30'),
    ({"every": "0s"}, "predictions.churn.every: a duration must be longer than zero"),
    ({"max_rows_per_claim": 0},
     "predictions.churn.max_rows_per_claim: Input should be greater than or equal to 1 (got 0)"),
    ({"max_rows_per_claim": "many"},
     "predictions.churn.max_rows_per_claim: Input should be a valid integer (got 'many')"),
    ({"concurrency": True}, "predictions.churn.concurrency: Input should be a valid integer (got True)"),
    ({"workers": 65}, "predictions.churn.workers: Input should be less than or equal to 64 (got 65)"),
    ({"on_input_change": "notice"},
     "predictions.churn.on_input_change: Input should be 'trigger', 'fingerprint' or 'ignore' (got 'notice')"),
    ({"on_input_change": "ignore", "fingerprint": "f"},
     'predictions.churn: fingerprint needs on_input_change = "fingerprint" or "trigger", not "ignore"'),
    ({"verify_every": "1h"}, 'predictions.churn: verify_every needs a fingerprint: set on_input_change = "fingerprint",'
     ' or name a column with fingerprint = "..."'),
    ({"fingerprint": "churn_state"}, "predictions.churn: column 'churn_state' has two roles among outputs, state,"
     " scored_at, version and fingerprint"),
    ({"on_input_change": "fingerprint", "outputs": {"churn_fingerprint": "bigint"}},
     "predictions.churn: column 'churn_fingerprint' has two roles among outputs, state, scored_at, version and"
     " fingerprint"),
    ({"fingerprint": "state"},
     "predictions.churn: column 'state' is an input and is written by rowscore as well"),
    ({"fingerprint": "f", "inputs": [{"name": "age", "sql": "now() - born"}]},
     "predictions.churn: input 'age' has 'now' in it, so its fingerprint would be another one each time and each row be"
     " scored anew; do without it, or keep no fingerprint"),
    ({"on_input_change": "fingerprint", "where": "born > CURRENT_DATE - 7"},
     "predictions.churn: where has 'CURRENT_DATE' in it, so its fingerprint would be another one each time and each row"
     " be scored anew; do without it, or keep no fingerprint"),
    ({"live": True}, "predictions.churn: live = true needs a model of kind sql: the view itself calls it"),
    ({"database": "other"}, "predictions.churn.database: [databases] has no 'other'"),
]  # fmt: skip


@pytest.mark.parametrize(("keys", "message"), MISTAKES, ids=[message[18:60] for _, message in MISTAKES])
def test_each_mistake_in_a_prediction_is_one_line(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        changed(**keys)
    assert str(raised.value).splitlines() == [f"rowscore.toml: {message}"]
    assert raised.value.exit_code == 2


FILES = {
    "": "predictions: is missing",
    'database = "x"\n[predictions]': "predictions: must not be empty",
    "predictions = 3": "predictions: Input should be a valid dictionary (got 3)",
    "[predictions]\nchurn = 3":
        "predictions.churn: Input should be a valid dictionary or instance of Prediction (got 3)",
    COMMONEST.replace('database = "$DATABASE_URL"', ""): 'database is missing, such as database = "$DATABASE_URL"',
    COMMONEST.replace("[predictions.churn]", '[predictions."Churn!"]'):
        "predictions.Churn!.name: a prediction's name is 1 to 40 of a-z, 0-9 and _, and begins with a letter",
    COMMONEST.replace("database =", "databse ="): "databse: unknown key",
}  # fmt: skip


@pytest.mark.parametrize(("text", "message"), FILES.items(), ids=list(FILES.values()))
def test_each_mistake_in_the_file_is_named(text: str, message: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        parsed(text)
    assert f"rowscore.toml: {message}" in str(raised.value).splitlines()


def test_several_mistakes_are_several_lines() -> None:
    with pytest.raises(ConfigurationError) as raised:
        changed(table=None, every="soon", max_rows_per_claim=-1)
    lines = str(raised.value).splitlines()
    assert [line.split(": ")[1] for line in lines] == [
        "predictions.churn.table", "predictions.churn.every", "predictions.churn.max_rows_per_claim",
    ]  # fmt: skip


def refusal(attempt: Callable[[], Any], kind: type[Exception]) -> str | None:
    """What the attempt is refused with; None where it is not."""
    try:
        attempt()
    except kind as error:
        return str(error)
    return None


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=5,
)


@given(st.sampled_from([name for name in Prediction.model_fields if name != "name"]), junk)
def test_any_value_for_any_key_is_taken_or_refused_in_words(key: str, value: Any) -> None:
    content = tomllib.loads(COMMONEST)
    content["predictions"]["churn"][key] = value
    message = refusal(lambda: parse_configuration(content, "rowscore.toml"), ConfigurationError)
    assert message is None or message.startswith("rowscore.toml: ")


# --- defaults ---------------------------------------------------------------------------------------------


def test_the_commonest_file_and_its_defaults() -> None:
    configuration = parsed()
    churn = configuration.prediction()
    assert churn is configuration.prediction("churn")
    assert [item.name for item in churn.inputs] == ["state", "acc_length", "day_mins"]
    assert (churn.state_column, churn.scored_at_column) == ("churn_state", "churn_scored_at")
    assert (churn.view_name, churn.version_value, churn.every) == (
        "churn_inserts_scored",
        "",
        timedelta(seconds=30),
    )
    assert changed(view=False).prediction().view_name is None
    assert changed(table='"My"."T"').prediction().view_name == '"My"."T_scored"'
    assert changed(key="id").prediction().key == ("id",)


def test_a_prediction_that_is_not_there_and_one_that_is_not_named() -> None:
    content = tomllib.loads(COMMONEST)
    content["predictions"]["other"] = content["predictions"]["churn"]
    configuration = parse_configuration(content, "f.toml")
    with pytest.raises(ConfigurationError, match=r"which prediction\? f.toml has churn, other"):
        configuration.prediction()
    with pytest.raises(ConfigurationError, match=r"f.toml has no prediction 'x'; it has churn, other"):
        configuration.prediction("x")


def test_the_definition_changes_with_what_lands_in_the_table_and_with_nothing_else() -> None:
    plain = changed().prediction().definition_hash
    same = [{"every": "5s"}, {"workers": 7}, {"max_rows_per_claim": 3}, {"concurrency": 9}, {"max_attempts": 1},
            {"view": False}, {"version": None}]  # fmt: skip
    other = [{"table": "x"}, {"inputs": ["a"]}, {"outputs": {"q": "text"}}, {"where": "true"}, {"key": "id"},
             {"state": "s"}, {"model": {"sql": "f"}}]  # fmt: skip
    assert {changed(**keys).prediction().definition_hash for keys in same} == {plain}
    hashes = [changed(**keys).prediction().definition_hash for keys in other]
    assert len({plain, *hashes}) == len(other) + 1


# --- durations and names ----------------------------------------------------------------------------------


@given(st.integers(1, 10_000), st.sampled_from(["ms", "s", "m", "h", "d"]), st.sampled_from(["", " "]))
def test_durations_round_trip(number: int, unit: str, space: str) -> None:
    seconds = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}[unit] * number
    duration = parse_duration(f"{number}{space}{unit}")
    assert duration == timedelta(seconds=seconds)
    assert parse_duration(duration) is duration


@given(st.one_of(st.text(), st.integers(), st.floats(), st.none()))
def test_what_is_no_duration_is_refused_in_words(value: Any) -> None:
    message = refusal(lambda: parse_duration(value), ValueError)
    assert message is None or "duration" in message


bare = st.text(
    alphabet=st.characters(exclude_characters='".\x00', exclude_categories=("Cs",)), min_size=1
).filter(str.strip)
any_name = st.text(
    alphabet=st.characters(exclude_characters="\x00", exclude_categories=("Cs",)), min_size=1
).filter(str.strip)


@given(st.one_of(st.none(), bare), bare)
def test_bare_names_round_trip(schema: str | None, name: str) -> None:
    assert split_name(name if schema is None else f"{schema}.{name}") == (schema, name)


@given(st.one_of(st.none(), any_name), any_name)
def test_quoted_names_round_trip(schema: str | None, name: str) -> None:
    def quoted(part: str) -> str:
        return '"' + part.replace('"', '""') + '"'

    text = quoted(name) if schema is None else f"{quoted(schema)}.{quoted(name)}"
    assert split_name(text) == (schema, name)


@pytest.mark.parametrize(
    "text", ["", ".", "a.", ".a", "a..b", '"a', 'a"b', '""', '"a""', "a.b.c", " ", '"a" "b"', '"a"b']
)
def test_what_is_no_name_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected table"):
        split_name(text)


# --- secrets and files ------------------------------------------------------------------------------------


def test_secrets_come_from_variables_and_files(tmp_path: Path) -> None:
    environ = {"PASSWORD": "p$w", "HOST": "h"}
    assert resolve_secret("$PASSWORD", "k", environ) == "p$w"
    assert resolve_secret("${HOST}:1/$PASSWORD", "k", environ) == "h:1/p$w"
    assert resolve_secret("Bearer $PASSWORD", "k", environ) == "Bearer p$w"
    assert resolve_secret("postgres://u:a$PASSWORD@h", "k", environ) == "postgres://u:a$PASSWORD@h", (
        "a password may hold $"
    )
    secret = tmp_path / "secret"
    secret.write_text("s3cret\n", encoding="utf-8")
    assert resolve_secret(f"file:{secret}", "k") == "s3cret"
    with pytest.raises(ConfigurationError, match=r"^k: the environment variable GONE is not set$"):
        resolve_secret("$GONE", "k", environ)
    with pytest.raises(ConfigurationError, match=r"^k: cannot read file:.*: No such file"):
        resolve_secret(f"file:{tmp_path}/none", "k")


def test_files_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone.toml"
    with pytest.raises(
        ConfigurationError, match=re.escape(f"{gone}: no such file; `rowscore init` writes one")
    ):
        read_configuration(gone)
    broken = tmp_path / "broken.toml"
    broken.write_text("a = = 1", encoding="utf-8")
    with pytest.raises(ConfigurationError, match=r"broken.toml: not valid TOML: .*at line 1"):
        read_configuration(broken)
    broken.write_bytes(b"a = '\xff'")
    with pytest.raises(ConfigurationError, match=r"broken.toml: cannot be read: "):
        read_configuration(broken)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_configuration(tmp_path)
    good = tmp_path / "good.toml"
    good.write_text(COMMONEST, encoding="utf-8")
    monkeypatch.setenv("ROWSCORE_CONFIG", str(good))
    assert find_file() == good
    assert read_configuration().path == str(good)
    monkeypatch.setenv("DATABASE_URL", "postgresql://here")
    assert read_configuration().database_url(read_configuration().prediction()) == "postgresql://here"


def test_a_fingerprint_is_kept_where_it_is_asked_for_and_only_there_belongs_to_the_definition() -> None:
    plain, ignoring = changed().prediction(), changed(on_input_change="ignore").prediction()
    alone, both = (
        changed(**keys).prediction() for keys in ({"on_input_change": "fingerprint"}, {"fingerprint": "f"})
    )
    assert [item.fingerprint_column for item in (plain, ignoring, alone, both)] == [
        None, None, "churn_fingerprint", "f",
    ]  # fmt: skip
    assert plain.definition["columns"] == ["churn_state", "churn_scored_at", None]
    assert alone.definition["columns"] == ["churn_state", "churn_scored_at", None, "churn_fingerprint"]
    assert plain.definition_hash == ignoring.definition_hash
    assert len({plain.definition_hash, alone.definition_hash, both.definition_hash}) == 3


@pytest.mark.parametrize(
    ("keys", "every"),
    [
        ({}, None),
        ({"on_input_change": "fingerprint"}, timedelta(days=1)),
        ({"on_input_change": "fingerprint", "verify_every": "6h"}, timedelta(hours=6)),
        ({"on_input_change": "fingerprint", "verify_every": False}, None),
        ({"fingerprint": "f"}, None),
        ({"fingerprint": "f", "verify_every": "7d"}, timedelta(days=7)),
    ],
)
def test_rows_are_verified_by_themselves_where_no_trigger_watches_them(
    keys: dict[str, Any], every: timedelta | None
) -> None:
    assert changed(**keys).prediction().verified_every == every


@pytest.mark.parametrize("expression", ["nowadays", "brand(a)", "strand", "a_random", "uuid_of_row", '"now"'])
def test_words_that_only_look_like_a_clock_are_taken(expression: str) -> None:
    inputs = [{"name": "x", "sql": expression}]
    assert changed(fingerprint="f", inputs=inputs).prediction().fingerprint_column == "f"
