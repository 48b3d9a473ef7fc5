"""Where `celery -A worker` finds the application: built from $ROWSCORE_CONFIG or the folder's rowscore.toml."""

import sys

from worker.app import connect_signals, create_app
from worker.config import read_configuration
from worker.errors import RowscoreError

__all__ = ["app"]

try:
    app = create_app(read_configuration())
except RowscoreError as error:
    sys.stderr.write(f"rowscore: {error}\n")
    raise SystemExit(error.exit_code) from None
connect_signals(app)
