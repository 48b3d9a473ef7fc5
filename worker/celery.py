"""Where `celery -A worker` finds the application, made from $ROWSCORE_CONFIG or ./rowscore.toml."""

import sys

import worker.peers  # noqa: F401  registers the remote control command, for workers and for `celery inspect`
from worker.app import connect_signals, create_app
from worker.config import read_configuration
from worker.errors import RowscoreError
from worker.heartbeat import connect_heartbeat

__all__ = ["app"]

try:
    app = create_app(read_configuration())
except RowscoreError as error:
    sys.stderr.write(f"rowscore: {error}\n")
    raise SystemExit(error.exit_code) from None
connect_signals(app)
connect_heartbeat()
