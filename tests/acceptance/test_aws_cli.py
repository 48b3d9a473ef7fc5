"""A prediction whose model is a service of AWS, on the command line."""

from __future__ import annotations

from pathlib import Path

from tests.conftest import Connect
from tests.support.aws import REGION, serving
from tests.support.cli import Cli

MODEL = {"comprehend": ["sentiment", "pii"], "region": REGION}
OUTPUTS = {"s": "text", "i": "jsonb"}


def test_apply_iam_prints_what_the_workers_need(tmp_path: Path, database_url: str) -> None:
    cli = Cli(tmp_path, database_url)
    cli.configure(model=MODEL, inputs=["note"], outputs=OUTPUTS)
    title, variables, command = cli.call("apply", "--iam").out.splitlines()
    assert title == "# rowscore apply churn --iam: lets workers call Comprehend"
    assert variables == ': "${ROLE:?}"'
    assert command.startswith('aws iam put-role-policy --role-name "$ROLE" --policy-name rowscore-churn ')
    document = cli.call("apply", "--iam", "--json").document
    assert document["prediction"] == "churn"
    assert document["commands"] == [command]
    (statement,) = document["policies"]["$ROLE"]["Statement"]
    assert statement["Action"] == ["comprehend:BatchDetectSentiment", "comprehend:DetectPiiEntities"]


def test_doctor_says_who_may_not_call(tmp_path: Path, database_url: str, connect: Connect) -> None:
    connect().execute("CREATE TABLE items (id bigint PRIMARY KEY, note text)")
    cli = Cli(tmp_path, database_url)
    cli.environment.pop("CELERY_BROKER_URL", None)
    cli.configure(model=MODEL, inputs=["note"], outputs=OUTPUTS)
    with serving() as aws:
        cli.environment |= aws.environment
        assert "Comprehend answered 2 requests" in found(cli, status=0)
        cli.environment["AWS_SECRET_ACCESS_KEY"] = "another"
        assert "InvalidSignatureException" in found(cli)
        del cli.environment["AWS_SECRET_ACCESS_KEY"], cli.environment["AWS_ACCESS_KEY_ID"]
        assert "no credentials of AWS were found" in found(cli)


def found(cli: Cli, status: int = 1) -> str:
    """What the doctor found of the model."""
    result = cli.call("doctor", "--json", status=status)
    return " ".join(item["message"] for item in result.document["findings"] if item["subject"] == "model")
