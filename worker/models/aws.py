"""A client of one of AWS's services, for models that are one; its errors say who is at fault, and it retries nothing.

boto3 finds credentials as the AWS CLI does: variables, ~/.aws, the role of the container or machine. Its own retries
are off: `worker.patience` does them, and counts what is paid. boto3's clients may be called by several threads.
"""

from __future__ import annotations

import os
import time
from functools import cache
from typing import Any

import boto3
import botocore.session
from botocore.config import Config
from botocore.credentials import DeferredRefreshableCredentials
from botocore.exceptions import BotoCoreError, ClientError, NoRegionError
from botocore.loaders import create_loader
from botocore.parsers import ResponseParserError

from worker.errors import ConfigurationError, ModelError, RowFaultError, ServiceTimeoutError
from worker.kinds.aws import AwsModel
from worker.models.awserrors import one_line, translated
from worker.secret import resolve_secret

_CONNECT_SECONDS = 5.0
_CHUNK = 65_536
_ANSWER_FACTOR = 4  # an answer of more than so many times max_bytes is not read to its end
_NO_CREDENTIALS = (
    "no credentials of AWS were found; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or name a `profile`, "
    "or run it where a role is attached (EC2, ECS, EKS)"
)
_STS = Config(connect_timeout=_CONNECT_SECONDS, read_timeout=10)
_BEARER = "AWS_BEARER_TOKEN_BEDROCK"  # an API key of Bedrock, which takes the place of credentials


class AwsClient:
    """One service in one region, called as one role.

    Args:
        settings: a section of the configuration; `$NAME` and `file:` in it are resolved here.
        service: as boto3 names it.
        who: the service, and its model or endpoint, in messages.
        concurrency: the most requests in flight at once.
        where: the section's name in messages.

    Raises:
        ConfigurationError: there is no region, no profile of that name, or there are no credentials.
    """

    def __init__(
        self, settings: AwsModel, service: str, who: str, *, concurrency: int, where: str = "model"
    ) -> None:
        self.who = who
        self._seconds = settings.timeout.total_seconds()
        self._most = settings.max_bytes * _ANSWER_FACTOR
        resolved = {
            key: None if (text := getattr(settings, key)) is None else resolve_secret(text, f"{where}.{key}")
            for key in ("region", "role", "endpoint")
        }
        config = Config(
            connect_timeout=min(_CONNECT_SECONDS, self._seconds),
            read_timeout=self._seconds,
            retries={"total_max_attempts": 1, "mode": "standard"},
            max_pool_connections=concurrency,
            tcp_keepalive=True,
        )
        region = resolved["region"] or os.environ.get("AWS_REGION")  # boto3 reads AWS_DEFAULT_REGION alone
        try:
            session = _session(settings.profile, resolved["role"], region, where)
            if session.get_credentials() is None and not (
                service.startswith("bedrock") and _BEARER in os.environ
            ):
                raise ConfigurationError(f"{where}: {_NO_CREDENTIALS}")
            self._client = session.client(service, config=config, endpoint_url=resolved["endpoint"])
        except NoRegionError:
            raise ConfigurationError(
                f"{where}.region: no region is known; set it here, or AWS_REGION, or in ~/.aws/config"
            ) from None
        except (BotoCoreError, ValueError) as error:
            raise ConfigurationError(f"{where}: {one_line(error)}") from error

    def call(self, operation: str, **arguments: Any) -> dict[str, Any]:
        """One request: the answer as boto3 gives it.

        Raises:
            ModelError: it failed; the class says who is at fault.
        """
        fault: ModelError
        try:
            answer: dict[str, Any] = getattr(self._client, operation)(**arguments)
        except (BotoCoreError, ClientError) as error:
            fault = translated(error, self.who, self._seconds)
        except (ResponseParserError, ValueError, TypeError, AttributeError) as error:  # of botocore's parsers
            fault = RowFaultError(f"{self.who} answered what boto3 cannot read: {one_line(error)}")
        else:
            return answer
        raise fault  # out here it has no context, whose frames would hold on to the connection

    def invoke(self, operation: str, body: str, /, **arguments: Any) -> tuple[dict[str, Any], bytes]:
        """One request whose answer has a body of its own under that key: the rest of the answer, and the body.

        The body is given up when it comes too slowly, or is larger than any answer to `max_bytes` would be.

        Raises:
            ModelError: it failed; the class says who is at fault.
        """
        ends_at = time.monotonic() + self._seconds
        answer = self.call(operation, **arguments)
        stream, parts, size = answer.pop(body), [], 0
        try:
            while part := stream.read(_CHUNK):
                parts.append(part)
                size += len(part)
                if size > self._most:
                    raise RowFaultError(
                        f"{self.who} answered more than {self._most} bytes; the rest was not read"
                    )
                if time.monotonic() > ends_at:
                    raise ServiceTimeoutError(f"{self.who} did not answer within {self._seconds:g} s")
        except BotoCoreError as error:
            fault = translated(error, self.who, self._seconds)
        else:
            return answer, b"".join(parts)
        finally:
            stream.close()
        raise fault

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


@cache
def _loader() -> Any:
    """boto3's descriptions of services, read once a process: a client then takes 7 ms instead of 50."""
    return create_loader()


def _core(profile: str | None) -> Any:
    core = botocore.session.Session(profile=profile)
    core.register_component("data_loader", _loader())
    return core


def _session(profile: str | None, role: str | None, region: str | None, where: str) -> boto3.Session:
    """A session as that profile, or as that role, which boto3 assumes when it is first needed and again in time."""
    source = boto3.Session(botocore_session=_core(profile), region_name=region)
    if role is None:
        return source
    if source.get_credentials() is None:
        raise ConfigurationError(f"{where}.role: {_NO_CREDENTIALS}")

    def assume() -> dict[str, str]:
        client, refusal = source.client("sts", config=_STS), None
        try:
            keys = client.assume_role(RoleArn=role, RoleSessionName="rowscore")["Credentials"]
        except ClientError as error:
            refusal = ClientError(error.response, error.operation_name)
        finally:
            client.close()
        if refusal is not None:
            raise refusal  # without the other's frames, as in `AwsClient.call`
        return {
            "access_key": keys["AccessKeyId"],
            "secret_key": keys["SecretAccessKey"],
            "token": keys["SessionToken"],
            "expiry_time": keys["Expiration"].isoformat(),
        }

    assumed = _core(profile)
    assumed._credentials = DeferredRefreshableCredentials(assume, "assume-role")
    return boto3.Session(botocore_session=assumed, region_name=region)
