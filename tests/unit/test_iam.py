"""What lets a cluster call a service: policies of the least that is needed, and commands that a shell takes."""

from __future__ import annotations

import json
import shlex
import subprocess
from typing import Any

import pytest

from tests.support.applied import prediction
from worker.errors import ConfigurationError
from worker.iam import cluster_access

CASES = [
    ({"sagemaker": "churn-endpoint"}, "SageMaker", ["sagemaker:InvokeEndpoint"],
     "arn:aws:sagemaker:$REGION:$ACCOUNT:endpoint/churn-endpoint"),
    ({"comprehend": "sentiment"}, "Comprehend", ["comprehend:DetectSentiment", "comprehend:BatchDetectSentiment"], "*"),
    ({"bedrock": "amazon.titan-text-express-v1"}, "Bedrock", ["bedrock:InvokeModel"],
     "arn:aws:bedrock:$REGION::foundation-model/amazon.titan-text-express-v1"),
    ({"embeddings": "arn:aws:bedrock:eu-west-1:1:inference-profile/x"}, "Bedrock", ["bedrock:InvokeModel"],
     "arn:aws:bedrock:eu-west-1:1:inference-profile/x"),
]  # fmt: skip


def of(service: dict[str, Any]) -> Any:
    return prediction(model={"sql": "f", "aurora": service}, inputs=["note"])


@pytest.mark.parametrize(("service", "feature", "actions", "resource"), CASES)
def test_the_policy_allows_the_one_service_and_no_more(
    service: dict[str, Any], feature: str, actions: list[str], resource: str
) -> None:
    access = cluster_access(of(service), by_parameter=False)
    assert access.service == feature
    assert access.policy["Statement"] == [{"Effect": "Allow", "Action": actions, "Resource": resource}]
    assert access.trust["Statement"][0]["Principal"] == {"Service": "rds.amazonaws.com"}


def words(command: str) -> list[str]:
    """The command's words as a shell hands them on, with its variables filled in."""
    filled = {"REGION": "eu-west-1", "ACCOUNT": "123456789012", "CLUSTER": "shop"}
    filled |= {"PARAMETERS": "ours", "WRITER": "shop-1"}
    script = f'set -- {command}; for word in "$@"; do printf \'%s\\n\' "$word"; done'
    done = subprocess.run(["sh", "-ceu", script], env=filled, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def option(found: list[str], name: str) -> str:
    return found[found.index(name) + 1]


def test_the_commands_of_aurora_postgresql_name_the_feature() -> None:
    create, put, associate = map(words, cluster_access(of(CASES[0][0]), by_parameter=False).commands)
    assert create[:3] == ["aws", "iam", "create-role"]
    assert json.loads(option(create, "--assume-role-policy-document"))["Version"] == "2012-10-17"
    (statement,) = json.loads(option(put, "--policy-document"))["Statement"]
    assert statement["Resource"] == "arn:aws:sagemaker:eu-west-1:123456789012:endpoint/churn-endpoint"
    role = option(create, "--role-name")
    assert role == option(put, "--role-name") == "rowscore-churn-sagemaker"
    assert option(associate, "--role-arn") == f"arn:aws:iam::123456789012:role/{role}"
    assert option(associate, "--feature-name") == "SageMaker"


def test_the_commands_of_aurora_mysql_set_the_clusters_parameter() -> None:
    access = cluster_access(of(CASES[1][0]), by_parameter=True)
    *_, associate, modify, restart = map(words, access.commands)
    assert "--feature-name" not in associate
    assert option(modify, "--db-cluster-parameter-group-name") == "ours"
    arn = "arn:aws:iam::123456789012:role/rowscore-churn-comprehend"
    set_to = f"ParameterName=aws_default_comprehend_role,ParameterValue={arn},ApplyMethod=pending-reboot"
    assert option(modify, "--parameters") == set_to
    assert shlex.join(restart) == "aws rds reboot-db-instance --db-instance-identifier shop-1"


@pytest.mark.parametrize("model", [{"sql": "f"}, {"http": "http://h"}])
def test_a_model_without_a_service_of_auroras_is_told_so(model: dict[str, Any]) -> None:
    with pytest.raises(
        ConfigurationError, match=r"predictions\.churn\.model: it names no service under `aurora`"
    ):
        cluster_access(prediction(model=model), by_parameter=False)
