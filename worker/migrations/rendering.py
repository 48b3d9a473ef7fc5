"""Alembic's rendering of the migrations as SQL; imported by who has some to run, since Alembic takes long to import."""

from __future__ import annotations

from functools import cache
from importlib import resources
from io import StringIO

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError

from worker.errors import RefusedError
from worker.migrations import Part
from worker.migrations.resuming import Parts


def revisions() -> tuple[str, ...]:
    """All that there are, the newest first."""
    scripts = ScriptDirectory.from_config(_config(StringIO()))
    return tuple(script.revision for script in scripts.walk_revisions())


@cache
def render(
    dialect: str, schema: str | None, prefix: str, span: str, *, down: bool, found: frozenset[Part]
) -> str:
    """The SQL between two revisions, without what is done already; 30 ms the first time.

    Args:
        schema: that rowscore's own tables are in; None: that of the database, their names with `prefix`.
        span: the two revisions, with a colon between them.
        down: undo them.
        found: what there is of the tables.

    Raises:
        RefusedError: a newer rowscore made the tables.
    """
    output = StringIO()
    config = _config(output)
    config.attributes.update(
        dialect=dialect, schema=schema, prefix="" if schema else prefix, parts=Parts(found)
    )
    try:
        (command.downgrade if down else command.upgrade)(config, span, sql=True)
    except CommandError as error:
        raise RefusedError(
            f"rowscore's own tables are not of this version ({error}); use the rowscore that made them"
        ) from error
    return output.getvalue().strip().rstrip(";")


def _config(output: StringIO) -> Config:
    config = Config(output_buffer=output)
    config.set_main_option("script_location", str(resources.files("worker.migrations")).replace("%", "%%"))
    return config
