"""Processes that are forked from one which has imported rowscore already: to start Python and import it all costs 0.8 s
of processor time, for each of hundreds of commands and workers.
"""

from __future__ import annotations

import multiprocessing

import sql

children = multiprocessing.get_context("forkserver")
children.set_forkserver_preload(["tests.support.prefork", "tests.support.dying"])
for _dialect in ("postgresql", "mysql", "mariadb"):
    sql.load(_dialect)  # by the fork server, once for all children
