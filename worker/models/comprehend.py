"""What Amazon Comprehend finds in texts: the requests that the outputs need, at most 25 documents each; no retries.

A text longer than Comprehend takes is sent in parts (`worker.models.splitting`). The parts' scores are averaged by
their lengths, the sentiment of the whole is the one with the highest average, and lists are joined, with their offsets
in the whole text. A NULL or a blank text is not sent: its answers are NULL.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from botocore import xform_name

from worker.errors import FailureClass, ModelError, RowFaultError, ServiceFailedError
from worker.kinds.comprehend import OPERATIONS, ComprehendModel
from worker.models.aws import AwsClient
from worker.models.awserrors import item_fault, one_line
from worker.models.protocol import Answer, Batch, Model, RowFailure, Weight, check_size
from worker.models.splitting import average, moved, split

_MOST_DOCUMENTS = 25  # of a Batch operation
_MOST_KEPT = 2_500  # answers of calls that failed later on: with their texts 12 MB at most
_SAMPLE = "rowscore asks whether Amazon Comprehend answers."  # to tell a language takes 20 characters


@dataclass(frozen=True, slots=True)
class _Operation:
    """One of Comprehend's, from its API reference and its guidelines and quotas.

    Attributes:
        name: as the API has it.
        finds: the key of what it found, in the answer for a document.
        most_bytes: of a document: "fewer than 5,000 bytes", and 100 KB for PII.
        batched: whether it takes a list of documents.
        in_language: whether it is told the language.
    """

    name: str
    finds: str
    most_bytes: int = 4_999
    batched: bool = True
    in_language: bool = True


_SENTIMENT = _Operation("BatchDetectSentiment", "SentimentScore")
_KNOWN = (
    _SENTIMENT,
    _Operation("BatchDetectKeyPhrases", "KeyPhrases"),
    _Operation("BatchDetectEntities", "Entities"),
    _Operation("BatchDetectDominantLanguage", "Languages", in_language=False),
    _Operation("DetectPiiEntities", "Entities", most_bytes=99_999, batched=False),
)
_BY_NAME = {operation.name: operation for operation in _KNOWN}
_ITEMS = {"key_phrases": "Text", "entities": "Text", "pii": "Type"}  # of an array of texts

_Key = tuple[_Operation, str]  # a document to be read in one way
_Found = dict[str, Any]  # one document's item of an answer


class Comprehend(Model):
    """The findings that a `comprehend` section of the configuration names.

    Args:
        settings: the section.
        outputs: the outputs' SQL types by name, in the order of the findings: arrays of texts get texts, other
            columns what Comprehend answers, as JSON.
        concurrency: the most calls at once.
        where: the section's name in messages.
    """

    most_rows = _MOST_DOCUMENTS

    def __init__(
        self, settings: ComprehendModel, outputs: Mapping[str, str], *, concurrency: int, where: str = "model"
    ) -> None:
        self._findings = settings.comprehend
        self._as_texts = [kind.endswith("]") for kind in outputs.values()]
        self._language = settings.language
        self._max_bytes = settings.max_bytes
        self._operations = tuple(_BY_NAME[name] for name in settings.operations)
        self._client = AwsClient(settings, "comprehend", "Comprehend", concurrency=concurrency, where=where)
        self._kept = _Kept()

    def weigh(self, batch: Batch) -> Weight:
        """The requests that the texts take, long ones in parts; rows without a text are not counted."""
        texts = [text for (value,) in batch.rows if isinstance(text := _readable(value), str)]
        missing = self._kept.missing(self._keys(texts))
        return Weight(sum(1 for _ in _requests(missing)), len(texts))

    def call(self, batch: Batch) -> list[Answer | RowFailure]:
        """Ask for what the outputs need, and put each row's answers together."""
        texts = [_readable(value) for (value,) in batch.rows]
        keys = self._keys(text for text in texts if isinstance(text, str))
        found = self._kept.take(keys)
        requests = list(_requests([key for key in keys if key not in found]))
        for _, documents in requests:  # of all of them before anything is sent
            check_size(sum(len(each.encode()) for each in documents), self._max_bytes, len(documents))
        try:
            for operation, documents in requests:
                self._ask(operation, documents, found)
        except ModelError:
            self._kept.keep(found)  # what was paid for is not asked for again when the rest is
            raise
        return [self._answer(batch.names[0], text, found) for text in texts]

    def check(self) -> str:
        """Have a sentence read in each of the ways that the outputs need."""
        started = time.perf_counter()
        for operation in self._operations:
            found: dict[_Key, _Found | RowFailure] = {}
            self._ask(operation, [_SAMPLE], found)
        milliseconds = (time.perf_counter() - started) * 1000
        count = len(self._operations)
        return f"Comprehend answered {count} request{'s' if count > 1 else ''} in {milliseconds:.0f} ms"

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _keys(self, texts: Iterable[str]) -> list[_Key]:
        """What has to be read, and how, each once: blank parts are not sent."""
        known = list(texts)
        keys = {
            (operation, part): None
            for operation in self._operations
            for text in known
            for part in split(text, operation.most_bytes)
            if part.strip()
        }
        return list(keys)

    def _ask(
        self, operation: _Operation, documents: list[str], found: dict[_Key, _Found | RowFailure]
    ) -> None:
        """One request; what was found goes into `found`."""
        language = {"LanguageCode": self._language} if operation.in_language else {}
        if not operation.batched:
            answer = self._client.call(xform_name(operation.name), Text=documents[0], **language)
            found[operation, documents[0]] = self._checked(operation, answer)
            return
        answer = self._client.call(xform_name(operation.name), TextList=documents, **language)
        results, errors = answer.get("ResultList") or [], answer.get("ErrorList") or []
        indices = sorted(item.get("Index", -1) for item in (*results, *errors))
        if indices != list(range(len(documents))):
            raise RowFaultError(
                f"Comprehend answered {len(indices)} documents where {len(documents)} were sent, or not each once"
            )
        for item in results:
            found[operation, documents[item["Index"]]] = self._checked(operation, item)
        for item in errors:
            found[operation, documents[item["Index"]]] = _failure(item)

    def _checked(self, operation: _Operation, item: _Found) -> _Found:
        expected = dict if operation is _SENTIMENT else list
        if not isinstance(item.get(operation.finds), expected):
            raise RowFaultError(f"Comprehend answered without {operation.finds}: {one_line(item)}")
        return item

    def _answer(
        self, name: str, text: str | RowFailure | None, found: Mapping[_Key, _Found | RowFailure]
    ) -> Answer | RowFailure:
        """One row's outputs, from what was found in its parts."""
        if text is None:
            return (None,) * len(self._findings)
        if isinstance(text, RowFailure):
            return RowFailure(text.failure, f"input {name}: {text.message}")
        whole: dict[_Operation, _Whole] = {}
        for operation in self._operations:
            parts = split(text, operation.most_bytes)
            items = [found[operation, part] if part.strip() else None for part in parts]
            failed = next((item for item in items if isinstance(item, RowFailure)), None)
            if failed is not None:
                return failed
            whole[operation] = _Whole(operation, parts, items)  # type: ignore[arg-type]  # no failure is left
        try:
            return tuple(
                whole[_BY_NAME[OPERATIONS[finding]]].output(finding, as_texts=as_texts)
                for finding, as_texts in zip(self._findings, self._as_texts, strict=True)
            )
        except (LookupError, TypeError, ValueError) as error:
            raise RowFaultError(f"Comprehend's answer lacks what it should have: {error!r}") from None


@dataclass(frozen=True, slots=True)
class _Whole:
    """What one operation found in a text: its parts, and the item for each, None for a blank one."""

    operation: _Operation
    parts: Sequence[str]
    items: Sequence[_Found | None]

    def output(self, finding: str, *, as_texts: bool) -> Any:
        """One finding as the value of its output."""
        if finding in _ITEMS:
            joined = moved(
                [item[self.operation.finds] if item else [] for item in self.items],
                list(map(len, self.parts)),
            )
            if as_texts:
                return [item[_ITEMS[finding]] for item in joined]
            return json.dumps(joined, ensure_ascii=False)
        if finding == "language":
            scores = self._mean([_languages(item) for item in self._read])
            return max(scores, key=scores.__getitem__, default=None)
        scores = self._mean([item["SentimentScore"] for item in self._read])
        sentiment = self._sentiment(scores)
        if finding == "sentiment":
            return sentiment.upper()
        return scores[sentiment if finding == "confidence" else finding.capitalize()]

    @property
    def _read(self) -> list[_Found]:
        return [item for item in self.items if item is not None]

    def _mean(self, scores: Sequence[Mapping[str, float]]) -> dict[str, float]:
        if len(scores) == 1:  # as it was answered, to the last digit
            return dict(scores[0])
        lengths = [len(part) for part, item in zip(self.parts, self.items, strict=True) if item is not None]
        return average(scores, lengths)

    def _sentiment(self, scores: Mapping[str, float]) -> str:
        said = self._read[0].get("Sentiment") if len(self._read) == 1 else None
        return str(said).capitalize() if said else max(scores, key=scores.__getitem__)


class _Kept:
    """Answers that were paid for in calls that failed later on, for the call that repeats them; for any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: dict[_Key, _Found] = {}

    def keep(self, found: Mapping[_Key, _Found | RowFailure]) -> None:
        """Keep answers, and forget the oldest beyond `_MOST_KEPT`."""
        with self._lock:
            self._found |= {key: item for key, item in found.items() if not isinstance(item, RowFailure)}
            for key in list(self._found)[: max(0, len(self._found) - _MOST_KEPT)]:
                del self._found[key]

    def take(self, keys: Sequence[_Key]) -> dict[_Key, _Found | RowFailure]:
        """Those of these that are kept, which are kept no longer."""
        with self._lock:
            return {key: self._found.pop(key) for key in keys if key in self._found}

    def missing(self, keys: Sequence[_Key]) -> list[_Key]:
        """Those of these that are not kept."""
        with self._lock:
            return [key for key in keys if key not in self._found]


def _requests(keys: Sequence[_Key]) -> Iterator[tuple[_Operation, list[str]]]:
    """The keys in requests, each of one operation and of as many documents as it takes."""
    for operation in dict.fromkeys(operation for operation, _ in keys):
        documents = [document for each, document in keys if each is operation]
        most = _MOST_DOCUMENTS if operation.batched else 1
        for start in range(0, len(documents), most):
            yield operation, documents[start : start + most]


def _readable(value: Any) -> str | RowFailure | None:
    """The text; None where there is none; a failure where it is not one that Comprehend reads."""
    if value is None:
        return None
    if not isinstance(value, str):
        kind = type(value).__name__
        return RowFailure(
            FailureClass.ROW_PERMANENT, f"expected a text for Comprehend, not a value of type {kind}"
        )
    try:
        value.encode()
    except UnicodeEncodeError:
        return RowFailure(FailureClass.ROW_PERMANENT, "the text is not valid Unicode")
    return value if value.strip() else None


def _languages(item: _Found) -> dict[str, float]:
    return {each["LanguageCode"]: each["Score"] for each in item["Languages"]}


def _failure(item: _Found) -> RowFailure:
    """One document's error; one that is no document's fault is raised."""
    fault = item_fault(str(item.get("ErrorCode", "")))
    message = f"Comprehend: {item.get('ErrorCode')}: {one_line(item.get('ErrorMessage', ''))}"
    if issubclass(fault, RowFaultError):
        return RowFailure(fault.failure, message)
    if issubclass(fault, ServiceFailedError):
        return RowFailure(FailureClass.ROW_TEMPORARY, message)
    raise fault(message)
