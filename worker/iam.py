"""What lets an Aurora cluster, or a worker, call a prediction's service: IAM's policies and the AWS CLI's commands; it
calls neither.

From AWS's user guides, "Setting up your Aurora ... DB cluster to use Aurora machine learning". The shell fills in
$REGION, $ACCOUNT, $CLUSTER and, for Aurora MySQL, $PARAMETERS, the cluster's own parameter group, and $WRITER, its
primary instance; for workers $ROLE, the role that they run as.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from worker.config import Prediction
from worker.errors import ConfigurationError
from worker.kinds.aurora import (
    AuroraService,
    BedrockEmbeddings,
    BedrockInvocation,
    ComprehendSentiment,
    SageMakerEndpoint,
)
from worker.kinds.aws import AwsModel
from worker.kinds.bedrock import BedrockModel
from worker.kinds.comprehend import ComprehendModel
from worker.kinds.sagemaker import SageMakerModel
from worker.kinds.sql import SqlModel

TRUST = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Principal": {"Service": "rds.amazonaws.com"}, "Action": "sts:AssumeRole"}
    ],
}


@dataclass(frozen=True, slots=True)
class Access:
    """The role that the cluster assumes.

    Attributes:
        service: as `add-role-to-db-cluster` names the feature.
        role: its name.
        policy: what it may do, and to what.
        trust: who may assume it.
        parameter: the cluster's parameter that names it; None where associating it is enough.
    """

    service: str
    role: str
    policy: dict[str, Any]
    trust: dict[str, Any]
    parameter: str | None

    @property
    def variables(self) -> tuple[str, ...]:
        """What the shell has to know for them."""
        return ("REGION", "ACCOUNT", "CLUSTER", *(("PARAMETERS", "WRITER") if self.parameter else ()))

    @property
    def commands(self) -> tuple[str, ...]:
        """The commands of a shell, in order; the last makes the parameter take effect."""
        arn = f"arn:aws:iam::$ACCOUNT:role/{self.role}"
        associate = f'aws rds add-role-to-db-cluster --db-cluster-identifier "$CLUSTER" --role-arn "{arn}"'
        commands = [
            f"aws iam create-role --role-name {self.role} --assume-role-policy-document {_document(self.trust)}",
            f"aws iam put-role-policy --role-name {self.role} --policy-name rowscore "
            f"--policy-document {_document(self.policy)}",
        ]
        if self.parameter is None:
            return (*commands, f"{associate} --feature-name {self.service}")
        return (
            *commands,
            associate,
            'aws rds modify-db-cluster-parameter-group --db-cluster-parameter-group-name "$PARAMETERS" '
            f'--parameters "ParameterName={self.parameter},ParameterValue={arn},ApplyMethod=pending-reboot"',
            'aws rds reboot-db-instance --db-instance-identifier "$WRITER"',
        )


@dataclass(frozen=True, slots=True)
class WorkerAccess:
    """What the workers' role needs to call a service themselves.

    Attributes:
        service: its name.
        policies: by the role that they belong to: the workers' own is `$ROLE`.
        name: the policies'.
    """

    service: str
    policies: dict[str, dict[str, Any]]
    name: str

    @property
    def variables(self) -> tuple[str, ...]:
        """What the shell has to fill in."""
        text = "".join(self.commands)
        return tuple(
            name for name in ("REGION", "ACCOUNT", "ROLE", "ASSUMED") if re.search(rf"\$\{{?{name}\b", text)
        )

    @property
    def commands(self) -> tuple[str, ...]:
        """The commands of a shell, in order."""
        return tuple(
            f'aws iam put-role-policy --role-name "{role}" --policy-name {self.name} '
            f"--policy-document {_document(policy)}"
            for role, policy in self.policies.items()
        )


def worker_access(prediction: Prediction) -> WorkerAccess | None:
    """What workers need for this prediction's model; None where it is no service of AWS's that they call."""
    model = prediction.model
    if not isinstance(model, AwsModel):
        return None
    service, statements = _called(model)
    if model.role is None:
        policies = {"$ROLE": statements}
    else:
        literal = model.role.startswith("arn:")
        assume = {
            "Effect": "Allow",
            "Action": ["sts:AssumeRole"],
            "Resource": model.role if literal else "$ASSUMED",
        }
        policies = {
            "$ROLE": [assume],
            model.role.rpartition("/")[2] if literal else "${ASSUMED##*/}": statements,
        }
    return WorkerAccess(
        service,
        {role: {"Version": "2012-10-17", "Statement": each} for role, each in policies.items()},
        f"rowscore-{prediction.name}",
    )


def _called(model: AwsModel) -> tuple[str, list[dict[str, Any]]]:
    """The service, and what it allows to be done."""
    if isinstance(model, SageMakerModel):
        resources = [f"arn:aws:sagemaker:$REGION:$ACCOUNT:endpoint/{model.sagemaker}"]
        if model.component is not None:
            resources.append(f"arn:aws:sagemaker:$REGION:$ACCOUNT:inference-component/{model.component}")
        return "SageMaker", [_allowed(["sagemaker:InvokeEndpoint"], resources)]
    if isinstance(model, ComprehendModel):
        return "Comprehend", [_allowed([f"comprehend:{name}" for name in model.operations], ["*"])]
    assert isinstance(model, BedrockModel)  # noqa: S101 - for mypy: there are no others
    name, profile = model.bedrock, None
    if "inference-profile/" in name:
        profile = name
    elif not name.startswith("arn:") and name != model.foundation:
        profile = f"arn:aws:bedrock:$REGION:$ACCOUNT:inference-profile/{name}"
    if profile is None:
        arn = name if name.startswith("arn:") else f"arn:aws:bedrock:$REGION::foundation-model/{name}"
        return "Bedrock", [_allowed(["bedrock:InvokeModel"], [arn])]
    through = _allowed(
        ["bedrock:InvokeModel"], [f"arn:aws:bedrock:*::foundation-model/{model.foundation or '*'}"]
    )
    through["Condition"] = {"StringLike": {"bedrock:InferenceProfileArn": profile}}
    return "Bedrock", [_allowed(["bedrock:InvokeModel"], [profile]), through]


def _allowed(actions: list[str], resources: list[str]) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": actions, "Resource": resources}


def cluster_access(prediction: Prediction, *, by_parameter: bool) -> Access:
    """What the cluster needs for this prediction's service.

    Args:
        by_parameter: whether a parameter of the cluster names the role, as Aurora MySQL wants it.

    Raises:
        ConfigurationError: the prediction's model calls no service of Aurora's.
    """
    model = prediction.model
    if not isinstance(model, SqlModel) or model.aurora is None:
        raise ConfigurationError(
            f"predictions.{prediction.name}.model: it names no service under `aurora` that a cluster would have to call"
        )
    service, actions, resource = _needed(model.aurora)
    statement = {"Effect": "Allow", "Action": actions, "Resource": resource}
    return Access(
        service=service,
        role=f"rowscore-{prediction.name}-{service.lower()}",
        policy={"Version": "2012-10-17", "Statement": [statement]},
        trust=TRUST,
        parameter=f"aws_default_{service.lower()}_role" if by_parameter else None,
    )


def _needed(service: AuroraService) -> tuple[str, list[str], str]:
    """The feature, the actions, and what they are done to: the one endpoint or model, where there is such a thing."""
    if isinstance(service, SageMakerEndpoint):
        arn = f"arn:aws:sagemaker:$REGION:$ACCOUNT:endpoint/{service.sagemaker}"
        return "SageMaker", ["sagemaker:InvokeEndpoint"], arn
    if isinstance(service, ComprehendSentiment):
        return "Comprehend", ["comprehend:DetectSentiment", "comprehend:BatchDetectSentiment"], "*"
    assert isinstance(service, BedrockInvocation | BedrockEmbeddings)  # noqa: S101  for mypy
    model = service.bedrock if isinstance(service, BedrockInvocation) else service.embeddings
    arn = model if model.startswith("arn:") else f"arn:aws:bedrock:$REGION::foundation-model/{model}"
    return "Bedrock", ["bedrock:InvokeModel"], arn


def _document(document: dict[str, Any]) -> str:
    """JSON as one word of a shell that fills in variables; none of its texts holds a quote or a dollar of its own."""
    return '"' + json.dumps(document).replace('"', '\\"') + '"'
