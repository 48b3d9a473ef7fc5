"""The commands of `rowscore apply --iam`, run against moto's IAM and RDS as the AWS CLI would."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore import xform_name
from moto import mock_aws

from tests.support.applied import prediction
from worker.iam import Access, cluster_access

ACCOUNT = "123456789012"  # moto's
FILLED = {
    "REGION": "eu-west-1",
    "ACCOUNT": ACCOUNT,
    "CLUSTER": "shop",
    "PARAMETERS": "ours",
    "WRITER": "shop-1",
}
SERVICES: list[dict[str, Any]] = [
    {"sagemaker": "churn-endpoint"},
    {"comprehend": "sentiment"},
    {"bedrock": "amazon.titan-text-express-v1"},
]


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An account with a cluster that has a parameter group of its own."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", FILLED["REGION"])
    with mock_aws():
        client = boto3.client("rds")
        client.create_db_cluster_parameter_group(
            DBClusterParameterGroupName="ours", DBParameterGroupFamily="aurora-mysql8.0", Description="ours"
        )
        client.create_db_cluster(
            DBClusterIdentifier="shop",
            Engine="aurora-mysql",
            MasterUsername="u",
            MasterUserPassword="secret-12",
        )
        client.create_db_instance(
            DBInstanceIdentifier="shop-1",
            DBClusterIdentifier="shop",
            Engine="aurora-mysql",
            DBInstanceClass="db.r6g.large",
        )
        yield


def run(access: Access) -> None:
    """Each command as a shell splits it, and as botocore, whose names are the CLI's, calls it."""
    for command in access.commands:
        script = f'set -- {command}; for word in "$@"; do printf \'%s\\n\' "$word"; done'
        done = subprocess.run(["sh", "-ceu", script], env=FILLED, capture_output=True, text=True, check=True)
        _, service, operation, *options = done.stdout.splitlines()
        client = boto3.client(service)
        name = operation.replace("-", "_")
        model = client.meta.service_model.operation_model(client.meta.method_to_api_mapping[name])
        members = {f"--{xform_name(member, '-')}": member for member in model.input_shape.members}
        given = dict(zip(options[::2], options[1::2], strict=True))
        values: dict[str, Any] = {members[option]: value for option, value in given.items()}
        if "Parameters" in values:  # in the CLI's shorthand
            values["Parameters"] = [dict(part.split("=", 1) for part in values["Parameters"].split(","))]
        getattr(client, name)(**values)


@pytest.mark.usefixtures("aws")
@pytest.mark.parametrize("by_parameter", [False, True], ids=["postgresql", "mysql"])
@pytest.mark.parametrize("service", SERVICES, ids=lambda service: next(iter(service)))
def test_the_commands_are_taken_and_leave_the_cluster_with_the_role(
    service: dict[str, Any], by_parameter: bool
) -> None:
    asked = prediction(model={"sql": "f", "aurora": service}, inputs=["note"])
    access = cluster_access(asked, by_parameter=by_parameter)
    run(access)
    arn = f"arn:aws:iam::{ACCOUNT}:role/{access.role}"
    iam, rds = boto3.client("iam"), boto3.client("rds")
    role = iam.get_role(RoleName=access.role)["Role"]
    assert role["Arn"] == arn
    assert role["AssumeRolePolicyDocument"]["Statement"][0]["Principal"] == {"Service": "rds.amazonaws.com"}
    policy = iam.get_role_policy(RoleName=access.role, PolicyName="rowscore")["PolicyDocument"]
    (statement,) = policy["Statement"]
    assert statement["Action"] == access.policy["Statement"][0]["Action"]
    assert "$" not in statement["Resource"]
    (cluster,) = rds.describe_db_clusters(DBClusterIdentifier="shop")["DBClusters"]
    (associated,) = cluster["AssociatedRoles"]
    assert associated["RoleArn"] == arn
    assert associated.get("FeatureName") == (None if by_parameter else access.service)
    found = rds.describe_db_cluster_parameters(DBClusterParameterGroupName="ours")["Parameters"]
    named = {item["ParameterName"]: item["ParameterValue"] for item in found}
    assert named == ({f"aws_default_{access.service.lower()}_role": arn} if by_parameter else {})
