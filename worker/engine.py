"""One process's composition root: the configuration, and the databases, tables and models opened from it on demand."""

from __future__ import annotations

import os
import socket
import threading

from worker.config import Configuration, Prediction
from worker.database import Database
from worker.kinds.base import CalledModel
from worker.kinds.sql import SqlModel
from worker.materialisation import Materialisation, resolve
from worker.memory import Memory
from worker.models.protocol import Model
from worker.models.registry import open_model
from worker.rates import Rates
from worker.store import Store, broker_url
from worker.throttle import Signals, Watch


class Engine:
    """What a process needs to score: opened when first asked for, shared by its threads, closed by `dispose`.

    Args:
        stop: set when the process shall end; drains return soon after.
    """

    def __init__(self, configuration: Configuration, *, stop: threading.Event | None = None) -> None:
        self.configuration = configuration
        self.owner = f"{socket.gethostname()}:{os.getpid()}"
        self.stop = stop or threading.Event()
        self._databases: dict[str, Database] = {}
        self._models: dict[str, Model] = {}
        self._watches: dict[str, Watch] = {}
        self._store: Store | None = None
        self._memories: dict[str, Memory] = {}
        self._lock = threading.Lock()

    def prediction(self, name: str | None = None) -> Prediction:
        """The prediction of that name, or the only one."""
        return self.configuration.prediction(name)

    def database(self, prediction: Prediction) -> Database:
        """The pool to the prediction's database."""
        url = self.configuration.database_url(prediction)
        with self._lock:
            if url not in self._databases:
                self._databases[url] = Database(url, pool_size=4)
            return self._databases[url]

    def materialisation(self, prediction: Prediction) -> Materialisation:
        """The prediction resolved against its table as it is now."""
        with self.database(prediction).transaction() as transaction:
            return resolve(transaction, prediction)

    def model(self, prediction: Prediction) -> Model | None:
        """The model that this process calls, loaded once; None where the database's function scores."""
        kind = prediction.model
        if isinstance(kind, SqlModel):
            return None
        with self._lock:
            if prediction.name not in self._models:
                self._models[prediction.name] = self.open_model(prediction, prediction.concurrency)
            return self._models[prediction.name]

    def open_model(self, prediction: Prediction, concurrency: int) -> Model:
        """The model that the worker calls, once more, for as many calls at once; whoever asked closes it."""
        return open_model(
            prediction.model,
            prediction.outputs,
            concurrency,
            inputs=[item.name for item in prediction.inputs],
            folder=self.configuration.folder,
        )

    def store(self) -> Store:
        """The Redis that this process shares rates and answers through; it connects when it is first asked something.

        Raises:
            ConfigurationError: the broker is not set, or no Redis.
        """
        with self._lock:
            self._store = self._store or Store(broker_url(self.configuration))
            return self._store

    def rates(self, prediction: Prediction) -> Rates | None:
        """What calls of its model wait for, together with those of other workers; None: for nothing.

        Where answers are remembered Redis is at hand, so a rest that the service asks for is shared, too.
        """
        settings = prediction.model
        if not isinstance(settings, CalledModel) or not (settings.rate_limit or settings.remember):
            return None
        return Rates(self.store(), prediction.name, settings.rate_limit)

    def memory(self, prediction: Prediction) -> Memory | None:
        """What its model answered lately; None where nothing is remembered."""
        settings = prediction.model
        if not isinstance(settings, CalledModel) or not settings.remember:
            return None
        store = self.store()
        with self._lock:
            if prediction.name not in self._memories:
                self._memories[prediction.name] = Memory(
                    store,
                    prediction.definition_hash,
                    prediction.version_value,
                    outputs=len(prediction.outputs),
                    seconds=settings.remember.total_seconds(),
                )
            return self._memories[prediction.name]

    def watch(self, prediction: Prediction) -> Watch:
        """This process's look at what holds the prediction's work up."""
        database = self.database(prediction)
        with self._lock:
            if prediction.name not in self._watches:
                replicas = self.configuration.replica_urls(prediction)
                signals = Signals(database, prediction.throttle, replicas)
                self._watches[prediction.name] = Watch(database, signals)
            return self._watches[prediction.name]

    def dispose(self) -> None:
        """Close every connection and model; they open again when asked for."""
        with self._lock:
            for database in self._databases.values():
                database.dispose()
            for model in self._models.values():
                model.close()
            for watch in self._watches.values():
                watch.signals.dispose()
            if self._store is not None:
                self._store.close()
            self._store = None
            self._memories.clear()
            self._databases.clear()
            self._watches.clear()
            self._models.clear()
