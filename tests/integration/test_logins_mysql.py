"""Who may log in to MySQL and MariaDB, and how: each password plugin, with TLS and without, and what is refused."""

from __future__ import annotations

import shutil
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from sqlalchemy import make_url

from tests.support.accounts import SECRET
from tests.support.certificates import Authority
from tests.support.cli import Cli
from tests.support.databases import INNODB, Session, databases, one, session
from tests.support.mysql import provided, skip_unless_real
from tests.support.predictions import add_items, applied, configuration, drain, make_items, opened, states
from worker.database import Database
from worker.demo.installs import mariadb_install, mysql_install
from worker.demo.mysql import FAST_SETTINGS, MySQLServer
from worker.errors import ConfigurationError, ConnectionFailedError
from worker.states import RowState

PLUGINS = {
    "mysql": ["caching_sha2_password", "sha256_password"],
    "mariadb": ["mysql_native_password"],  # ed25519 needs PyNaCl in PyMySQL, which rowscore does not bring
}
PASSWORD = f"{SECRET} € ö"


class Secured(NamedTuple):
    """A server with TLS, the file of the authority that signed for it, and one of another authority."""

    kind: str
    server: MySQLServer
    authority: Path
    stranger: Path
    administrator: Session


@pytest.fixture(scope="module", params=[name for name in databases() if name in INNODB])
def secured(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    """A server of each kind whose certificate is for 127.0.0.1 alone, with the database shop."""
    if request.param == "mysql":
        skip_unless_real()
    install = provided(mysql_install if request.param == "mysql" else mariadb_install)
    folder = tmp_path_factory.mktemp(f"secured_{request.param}")
    readable = Path(tempfile.mkdtemp())  # by the server, too, which root starts as somebody else
    readable.chmod(0o755)
    authority = Authority(readable, "rowscore's tests")
    certificate, key = authority.issue("127.0.0.1")
    stranger = Authority(folder / "stranger", "somebody else")
    settings = {
        **FAST_SETTINGS,
        "ssl_ca": str(authority.file),
        "ssl_cert": str(certificate),
        "ssl_key": str(key),
    }
    with (
        MySQLServer(folder / "server", settings=settings, install=install) as server,
        session(server.url()) as administrator,
    ):
        administrator.execute("CREATE DATABASE shop")
        yield Secured(request.param, server, authority.file, stranger.file, administrator)
    shutil.rmtree(readable)


@pytest.fixture
def shop(secured: Secured) -> Iterator[Session]:
    """The database with the table items, empty of rowscore."""
    secured.administrator.execute("DROP DATABASE shop; CREATE DATABASE shop")
    with session(secured.server.url("shop")) as connection:
        make_items(connection)
        yield connection


def login(secured: Secured, plugin: str, require: str = "") -> str:
    """The URL of a new account whose password that plugin checks; nobody has logged in as it before."""
    administrator = secured.administrator
    administrator.execute("DROP USER IF EXISTS 'scorer'@'%'")
    identified = (
        f"IDENTIFIED WITH {plugin} BY '{PASSWORD}'"
        if secured.kind == "mysql"
        else f"IDENTIFIED VIA {plugin} USING PASSWORD('{PASSWORD}')"
    )
    administrator.execute(f"CREATE USER 'scorer'@'%' {identified} {require}")
    administrator.execute("GRANT ALL ON shop.* TO 'scorer'@'%'; FLUSH PRIVILEGES")
    url = make_url(secured.server.url("shop")).set(username="scorer", password=PASSWORD)
    return url.render_as_string(hide_password=False)


def cipher(url: str) -> str:
    """What the connection is encrypted with; empty where it is not."""
    database = Database(url)
    try:
        with database.transaction() as transaction:
            return str(transaction.rows("SHOW SESSION STATUS LIKE 'Ssl_cipher'")[0][1])
    finally:
        database.dispose()


@pytest.mark.parametrize("way", ["verified", "encrypted", "plain"])
def test_each_password_plugin_with_tls_and_without(secured: Secured, shop: Session, way: str) -> None:
    """Without TLS caching_sha2_password sends the password encrypted with the server's RSA key."""
    options = {
        "verified": f"?ssl_ca={secured.authority}&ssl_verify_identity=true",
        "encrypted": "",
        "plain": "?ssl_disabled=true",
    }[way]
    for number, plugin in enumerate(PLUGINS[secured.kind], 1):
        url = login(secured, plugin) + options
        assert bool(cipher(url)) is (way != "plain"), plugin
        with opened(configuration(url)) as engine:
            applied(engine)
            add_items(shop, 2)
            assert drain(engine).scored == 2, plugin
        assert states(shop) == {RowState.SCORED: 2 * number}


@pytest.mark.usefixtures("shop")
def test_an_account_that_must_use_tls(secured: Secured) -> None:
    url = login(secured, PLUGINS[secured.kind][0], "REQUIRE SSL")
    assert cipher(url)
    assert cipher(url + "?ssl_disabled=false")
    with pytest.raises(ConnectionFailedError, match="Access denied"):
        cipher(url + "?ssl_disabled=true")


@pytest.mark.usefixtures("shop")
@pytest.mark.parametrize(
    ("options", "fine"),
    [
        ("ssl_ca={authority}", True),
        ("ssl_ca={authority}&ssl_verify_cert=true", True),
        ("ssl_ca={authority}&ssl_verify_cert=true&ssl_verify_identity=true", True),
        ("ssl_ca={stranger}&ssl_verify_cert=false", True),
        ("ssl_verify_cert=false", True),
        ("ssl_ca={stranger}", False),
        ("ssl_ca={stranger}&ssl_verify_identity=true", False),
        ("ssl_ca={stranger}&ssl_verify_cert=true&ssl_verify_identity=false", False),
        ("ssl_verify_cert=true", False),  # by the authorities that the machine believes
    ],
)
def test_whose_certificate_is_believed(secured: Secured, options: str, fine: bool) -> None:
    url = f"{login(secured, PLUGINS[secured.kind][0])}?{options}".format(
        authority=secured.authority, stranger=secured.stranger
    )
    if fine:
        assert cipher(url)
        return
    with pytest.raises(ConnectionFailedError, match="certificate verify failed") as caught:
        cipher(url)
    assert "\n" not in str(caught.value)
    assert SECRET not in str(caught.value)


@pytest.mark.usefixtures("shop")
def test_a_name_that_is_not_the_certificates(secured: Secured) -> None:
    url = make_url(login(secured, PLUGINS[secured.kind][0])).set(host="localhost")
    plain = url.render_as_string(hide_password=False) + f"?ssl_ca={secured.authority}"
    with pytest.raises(ConnectionFailedError, match="certificate verify failed"):
        cipher(plain)
    assert cipher(f"{plain}&ssl_verify_identity=false")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("ssl_ca=/no/such/file", "database: ssl_ca: /no/such/file: No such file"),
        ("ssl_verify_cert=maybe", "database: ssl_verify_cert: expected true or false, not 'maybe'"),
        ("ssl_verify_identity=true", "database: ssl_verify_identity needs the authority's certificate"),
    ],
)
def test_options_that_do_not_do_are_told_before_anybody_is_asked(options: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Database(f"mysql://u@127.0.0.1:1/x?{options}")


def test_what_is_no_certificate_is_told(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.write_text("words\n")
    with pytest.raises(ConfigurationError, match="database: TLS: "):
        cipher(f"mysql://u@127.0.0.1:1/x?ssl_ca={file}")


def test_init_doctor_and_a_run_over_tls(secured: Secured, shop: Session, tmp_path: Path) -> None:
    url = login(secured, PLUGINS[secured.kind][0], "REQUIRE SSL").replace("mysql+pymysql:", "mysql:")
    cli = Cli(tmp_path, f"{url}?ssl_ca={secured.authority}")
    (cli.folder / "rowscore.toml").unlink()
    cli.call("init")
    assert "predict" in tomllib.loads((cli.folder / "rowscore.toml").read_text())["predictions"]
    cli.configure()
    cli.call("apply")
    add_items(shop, 5)
    assert "5 rows scored" in cli.run("run").out
    assert "0 failures" in cli.call("doctor").out
    message = cli.error("run", status=1, DATABASE_URL=f"{url}?ssl_ca={secured.stranger}")
    assert "certificate verify failed" in message
    assert one(shop, "SELECT COUNT(*) FROM items WHERE churn_state = 1") == 5
