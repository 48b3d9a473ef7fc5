"""What lets workers call a service of AWS themselves: policies of the least that is needed, for the right roles."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

from tests.support.applied import prediction
from worker.iam import worker_access

INVOKE = ["bedrock:InvokeModel"]
PROFILE = "arn:aws:bedrock:$REGION:$ACCOUNT:inference-profile/eu.amazon.titan-embed-text-v2:0"
APPLICATION = "arn:aws:bedrock:eu-west-1:123456789012:application-inference-profile/abc"
FOUNDATION = "arn:aws:bedrock:*::foundation-model/"
WORKERS = [
    ({"sagemaker": "churn-endpoint"}, [(["sagemaker:InvokeEndpoint"],
                                        ["arn:aws:sagemaker:$REGION:$ACCOUNT:endpoint/churn-endpoint"], None)]),
    ({"sagemaker": "e", "component": "c"}, [(["sagemaker:InvokeEndpoint"],
                                             ["arn:aws:sagemaker:$REGION:$ACCOUNT:endpoint/e",
                                              "arn:aws:sagemaker:$REGION:$ACCOUNT:inference-component/c"], None)]),
    ({"comprehend": "confidence"}, [(["comprehend:BatchDetectSentiment"], ["*"], None)]),
    ({"bedrock": "amazon.titan-embed-text-v2:0"},
     [(INVOKE, ["arn:aws:bedrock:$REGION::foundation-model/amazon.titan-embed-text-v2:0"], None)]),
    ({"bedrock": "eu.amazon.titan-embed-text-v2:0"},
     [(INVOKE, [PROFILE], None), (INVOKE, [f"{FOUNDATION}amazon.titan-embed-text-v2:0"], PROFILE)]),
    ({"bedrock": APPLICATION, "prompt": "{note}"},
     [(INVOKE, [APPLICATION], None), (INVOKE, [f"{FOUNDATION}*"], APPLICATION)]),
    ({"bedrock": "arn:aws:bedrock:eu-west-1:123456789012:imported-model/abc", "prompt": "{note}"},
     [(INVOKE, ["arn:aws:bedrock:eu-west-1:123456789012:imported-model/abc"], None)]),
]  # fmt: skip
FILLED = {
    "ROLE": "workers", "REGION": "eu-west-1", "ACCOUNT": "123456789012",
    "ASSUMED": "arn:aws:iam::123456789012:role/teams/scoring",
}  # fmt: skip


def words(command: str) -> list[str]:
    """The command's words as a shell hands them on, with its variables filled in."""
    script = f'set -- {command}; for word in "$@"; do printf \'%s\\n\' "$word"; done'
    done = subprocess.run(["sh", "-ceu", script], env=FILLED, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def option(found: list[str], name: str) -> str:
    return found[found.index(name) + 1]


@pytest.mark.parametrize(("model", "allowed"), WORKERS)
def test_workers_may_do_what_the_model_takes_and_no_more(model: dict[str, Any], allowed: list[Any]) -> None:
    access = worker_access(prediction(model=model, inputs=["note"], outputs={"p": "real"}))
    assert access is not None
    (policy,) = access.policies.values()
    assert [
        (
            each["Action"],
            each["Resource"],
            each["Condition"]["StringLike"]["bedrock:InferenceProfileArn"] if "Condition" in each else None,
        )
        for each in policy["Statement"]
    ] == allowed
    assert set(access.variables) == {"ROLE"} | {
        name for name in ("REGION", "ACCOUNT") if f"${name}" in json.dumps(policy)
    }


@pytest.mark.parametrize("role", [FILLED["ASSUMED"], "$SCORING_ROLE"])
def test_workers_that_assume_a_role_may_assume_it_and_it_may_call(role: str) -> None:
    model = {"comprehend": ["sentiment", "pii"], "role": role}
    access = worker_access(prediction(model=model, inputs=["note"], outputs={"s": "text", "i": "json"}))
    assert access is not None
    assert ("ASSUMED" in access.variables) == (role == "$SCORING_ROLE")
    own, other = map(words, access.commands)
    assert (option(own, "--role-name"), option(other, "--role-name")) == ("workers", "scoring")
    (assume,) = json.loads(option(own, "--policy-document"))["Statement"]
    assert (assume["Action"], assume["Resource"]) == (["sts:AssumeRole"], FILLED["ASSUMED"])
    (call,) = json.loads(option(other, "--policy-document"))["Statement"]
    assert call["Action"] == ["comprehend:BatchDetectSentiment", "comprehend:DetectPiiEntities"]


@pytest.mark.parametrize("model", [{"sql": "f"}, {"http": "http://h"}])
def test_other_models_are_no_services_of_awss(model: dict[str, Any]) -> None:
    assert worker_access(prediction(model=model)) is None
