"""The versions that are served: found in a directory, loaded, switched and let go while requests go on."""

import gc
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import tensorflow as tf
from tensorflow.core.protobuf import error_codes_pb2
from tensorflow_serving.apis.get_model_status_pb2 import ModelVersionStatus
from tensorflow_serving.apis.status_pb2 import StatusProto

from serving.model_server.directory import find_models, find_versions, fingerprint
from serving.model_server.model import LoadedModel
from serving.model_server.request_checks import RequestError, show

# What TensorFlow advises where a file is missing; nobody who reads of it here calls TensorFlow.
_ADVICE = "You may be trying to load on a different device"


class ServedVersion:
    """A version while it answers.

    Attributes:
      name: the model's.
      version: its number.
      model: what answers.
    """

    def __init__(self, name: str, status: ModelVersionStatus, model: LoadedModel):
        self.name = name
        self.version = status.version
        self.model = model
        self.status = status
        self.num_requests = 0


class _Model:
    """The newest version of a model that could be loaded, and what became of the others."""

    def __init__(self) -> None:
        self.current: ServedVersion | None = None
        self.statuses: dict[int, ModelVersionStatus] = {}
        self.failed: dict[int, object] = {}  # by version, the fingerprint of what could not be loaded


class ServedModels:
    """The newest version of every model in a directory.

    One thread calls `poll`; any number of others `use` and `status`.

    Args:
      directory: `<model>/<version>/saved_model.pb`, watched.
      report: told, in a line, what was loaded, what was not and why.
    """

    def __init__(self, directory: Path, report: Callable[[str], None]):
        self._directory = directory
        self._report = report
        self._models: dict[str, _Model] = {}
        self._lock = threading.Lock()  # of what requests read and `poll` changes
        self._ended = False

    def poll(self) -> None:
        """Looks at the directory once, and makes what is served follow it.

        A new version is loaded and called before it takes the place of the old one, which then ends with
        its last request. A version that cannot be loaded is reported, and tried again once its directory
        has changed.

        Raises:
          OSError: if the directory cannot be read; what is served stays.
        """
        found = find_models(self._directory)
        with self._lock:
            for name in found:
                self._models.setdefault(name, _Model())
        for name, model in self._models.items():
            self._follow(name, model, find_versions(self._directory / name))
        if self._ended:
            self._ended = False
            gc.collect()  # a SavedModel's objects refer to each other; its memory would be kept for long

    def _follow(self, name: str, model: _Model, found: dict[int, Path]) -> None:
        for version in sorted(found, reverse=True):
            if model.current is not None and version == model.current.version:
                break
            if self._load(name, model, version, found[version]):
                break
        else:
            self._switch(name, model, None)
        with self._lock:
            for version in model.statuses.keys() - found.keys():
                if model.statuses[version].state == ModelVersionStatus.END:
                    del model.statuses[version]
                    model.failed.pop(version, None)

    def _load(self, name: str, model: _Model, version: int, path: Path) -> bool:
        """Loads a version and switches to it; whether it could be done."""
        content = fingerprint(path)
        if model.failed.get(version) == content:
            return False
        status = ModelVersionStatus(version=version, state=ModelVersionStatus.LOADING, status=StatusProto())
        with self._lock:
            model.statuses[version] = status
        try:
            loaded = LoadedModel(path)
            loaded.warm_up()
        except Exception as error:  # noqa: BLE001  (a damaged SavedModel makes TensorFlow raise anything)
            model.failed[version] = content
            code = error.error_code if isinstance(error, tf.errors.OpError) else error_codes_pb2.UNKNOWN
            with self._lock:
                status.state = ModelVersionStatus.END
                status.status.error_code = code
                status.status.error_message = f"{type(error).__name__}: {_in_a_line(error)}"
            self._report(
                f"ALARM: {name} version {version} cannot be loaded and is skipped: "
                f"{status.status.error_message}. Push a new version; this one is tried again once a file "
                f"of {path} changes."
            )
            return False
        model.failed.pop(version, None)
        self._switch(name, model, ServedVersion(name, status, loaded))
        return True

    def _switch(self, name: str, model: _Model, new: ServedVersion | None) -> None:
        old = model.current
        with self._lock:
            model.current = new
            if new is not None:
                new.status.state = ModelVersionStatus.AVAILABLE
            if old is not None:
                old.status.state = ModelVersionStatus.UNLOADING
                self._end_if_drained(old)
        if new is not None:
            self._report(f"serving {name} version {new.version}")
        elif old is not None:
            self._report(
                f"ALARM: no longer serving {name}: version {old.version} is gone, and there is no other that "
                "can be loaded. Its requests are refused until one is pushed."
            )

    def _end_if_drained(self, served: ServedVersion) -> None:
        if served.status.state == ModelVersionStatus.UNLOADING and not served.num_requests:
            served.status.state = ModelVersionStatus.END
            self._ended = True

    @contextmanager
    def use(self, name: str, version: int | None = None) -> Iterator[ServedVersion]:
        """The version that answers a request, kept until the block ends, whatever is pushed meanwhile.

        Args:
          name: the model.
          version: its number; None is whichever is served.

        Raises:
          RequestError: if it is not served.
        """
        with self._lock:
            model = self._models.get(name)
            served = model.current if model is not None else None
            if served is None or version not in (None, served.version):
                raise self._not_found(name, version)
            served.num_requests += 1
        try:
            yield served
        finally:
            with self._lock:
                served.num_requests -= 1
                self._end_if_drained(served)

    def status(self, name: str, version: int | None = None) -> list[ModelVersionStatus]:
        """The state of each version that was tried and is still there, newest first; or of one.

        Raises:
          RequestError: if there is none.
        """
        with self._lock:
            known = self._models[name].statuses if name in self._models else {}
            chosen = [known[number] for number in sorted(known, reverse=True) if version in (None, number)]
            if not chosen:
                raise self._not_found(name, version)
            copies = [ModelVersionStatus() for _ in chosen]
            for copy, status in zip(copies, chosen, strict=True):
                copy.CopyFrom(status)
        return copies

    def available(self) -> dict[str, int]:
        """The version that is served of each model."""
        with self._lock:
            return {name: m.current.version for name, m in self._models.items() if m.current is not None}

    def _not_found(self, name: str, version: int | None) -> RequestError:
        """The lock is held."""
        there = {n: m.current.version for n, m in self._models.items() if m.current is not None}
        asked = f"model {show(name)}" if version is None else f"model {show(name)} version {show(version)}"
        known = ", ".join(f"{n} version {v}" for n, v in sorted(there.items())) or "nothing"
        return RequestError(grpc.StatusCode.NOT_FOUND, f"{asked} is not served; served: {known}")


def _in_a_line(error: Exception) -> str:
    return " ".join(str(error).partition(_ADVICE)[0].split())
