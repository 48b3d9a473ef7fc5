"""TLS and the password as PyMySQL takes them, out of a URL whose options are texts; it opens no connection.

SQLAlchemy hands `ssl_verify_identity=false` on as a text, which PyMySQL takes for true, and then forgets `ssl_ca`.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pymysql

from worker.errors import ConfigurationError

_FILES = {"ssl_ca": "ca", "ssl_capath": "capath", "ssl_cert": "cert", "ssl_key": "key"}
_CHOICES = ("ssl_disabled", "ssl_verify_cert", "ssl_verify_identity", "ssl_check_hostname")
_WORDS = {
    "true": True,
    "1": True,
    "yes": True,
    "on": True,
    "false": False,
    "0": False,
    "no": False,
    "off": False,
}


class Connection(pymysql.Connection):
    """PyMySQL's, which reads the machine's authorities for each connection though it asks none of them: 20 of the 22 ms
    that connecting to a server without TLS takes.
    """

    def _create_ssl_ctx(self, sslp: Any) -> ssl.SSLContext:
        made: ssl.SSLContext = super()._create_ssl_ctx(sslp) if sslp else _unverified()  # type: ignore[misc]
        return made


@cache
def _unverified() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def tls_arguments(query: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments for PyMySQL's connect, over what SQLAlchemy makes of the same options.

    Without an option TLS is used where the server has it, and nothing is verified. Any but `ssl_disabled` asks for TLS.
    With `ssl_ca` the server's certificate and its name are verified, unless `ssl_verify_cert` or
    `ssl_verify_identity` is false.

    Raises:
        ConfigurationError: a file that cannot be read, or a choice that is neither true nor false.
    """
    asked = {name: _chosen(name, query[name]) for name in _CHOICES if name in query}
    files = {name: _readable(name, str(query[name])) for name in _FILES if name in query}
    if not asked and not files and "ssl_cipher" not in query:
        return {}
    said = {**dict.fromkeys(_CHOICES[1:3]), "ssl": None}  # instead of the texts
    if asked.pop("ssl_disabled", False):
        return {**said, "ssl_disabled": True}
    anchored = "ssl_ca" in files or "ssl_capath" in files
    name = asked.get("ssl_verify_identity", asked.get("ssl_check_hostname"))
    if name and not anchored:
        raise ConfigurationError(
            "database: ssl_verify_identity needs the authority's certificate: ssl_ca=FILE"
        )
    verified = asked.get("ssl_verify_cert", anchored)
    options: dict[str, Any] = {_FILES[key]: path for key, path in files.items()}
    if "ssl_cipher" in query:
        options["cipher"] = query["ssl_cipher"]
    if asked or options:
        options |= {
            "verify_mode": verified,
            "check_hostname": verified and (anchored if name is None else name),
        }
    return {**said, "ssl": options, "ssl_disabled": False}


def password_argument(password: object) -> dict[str, bytes]:
    """The password in the characters that the server keeps it in; PyMySQL would take it for latin1."""
    return {"password": str(password).encode()} if password is not None else {}


def _chosen(name: str, value: Any) -> bool:
    found = _WORDS.get(str(value).lower())
    if found is None:
        raise ConfigurationError(f"database: {name}: expected true or false, not {value!r}")
    return found


def _readable(name: str, path: str) -> str:
    try:
        if not Path(path).is_dir():
            Path(path).read_bytes()
    except OSError as error:
        raise ConfigurationError(f"database: {name}: {path}: {error.strerror}") from error
    return path
