"""The model server: two protocols over the models of one directory."""

import gc
import os
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import uvicorn

from serving.model_server import grpc_api, rest_api
from serving.model_server.request_checks import MAX_REQUEST_BYTES
from serving.model_server.versions import ServedModels

# While some threads wait for TensorFlow, others read requests and write answers.
_THREADS = max(4, 2 * (os.cpu_count() or 1))
_KEEP_ALIVE_SECONDS = 75  # more than load balancers wait, or they send requests to a closed connection
_DRAIN_SECONDS = 30.0  # for the requests at work when the server is stopped


class PortError(Exception):
    """A port that cannot be listened on."""


class ModelServer:
    """Serves the newest version of every model in a directory until it is stopped.

    Args:
      directory: `<model>/<version>/saved_model.pb`, watched.
      host: the address to listen on.
      grpc_port: of the gRPC API; 0 is any free one.
      rest_port: of the REST API; likewise.
      poll_seconds: between looks at the directory.
      report: told, in a line, what was loaded, what was not and why.

    Attributes:
      models: what is served.
      grpc_port: the one that is bound.
      rest_port: likewise.

    Raises:
      PortError: if a port cannot be bound.
    """

    def __init__(
        self,
        directory: Path,
        host: str,
        grpc_port: int,
        rest_port: int,
        poll_seconds: float,
        report: Callable[[str], None],
    ):
        self.models = ServedModels(directory, report)
        self._report = report
        self._poll_seconds = poll_seconds
        self._executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="request")
        self._socket = _bind(host, rest_port)
        self.rest_port = self._socket.getsockname()[1]
        self._grpc = grpc.server(
            self._executor,
            options=[
                ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
                ("grpc.max_send_message_length", -1),
                ("grpc.so_reuseport", 0),  # else two servers share a port, and the requests
            ],
        )
        grpc_api.add_services(self._grpc, self.models)
        try:
            self.grpc_port = self._grpc.add_insecure_port(f"{host}:{grpc_port}")
        except RuntimeError as error:
            self._socket.close()
            raise PortError(f"port {grpc_port} of {host} cannot be listened on") from error
        config = uvicorn.Config(
            rest_api.make_app(self.models, self._executor),
            loop="asyncio",
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=int(_DRAIN_SECONDS),
        )
        self._rest = uvicorn.Server(config)
        self._rest_thread = threading.Thread(target=self._rest.run, args=([self._socket],), name="rest")
        self._stopped = threading.Event()
        self._watch_thread = threading.Thread(target=self._watch, name="watch")

    def start(self) -> None:
        """Loads what is there, then listens.

        Raises:
          OSError: if the directory cannot be read.
        """
        # The collection after each switch stops every thread; what is imported by now it need not look at.
        gc.collect()
        gc.freeze()
        self.models.poll()
        self._grpc.start()
        self._socket.listen()  # from here on requests wait for the thread, and are not turned away
        self._rest_thread.start()
        self._watch_thread.start()

    def stop(self) -> None:
        """Takes no more requests, lets those at work end, and returns."""
        self._stopped.set()
        self._rest.should_exit = True
        self._grpc.stop(_DRAIN_SECONDS).wait()
        self._rest_thread.join()
        self._watch_thread.join()
        self._executor.shutdown()

    def _watch(self) -> None:
        trouble = ""
        while not self._stopped.wait(self._poll_seconds):
            try:
                self.models.poll()
                trouble = ""
            except OSError as error:  # a file system may be away for a while
                if str(error) != trouble:
                    trouble = str(error)
                    self._report(f"ALARM: cannot look for new versions: {error}; what is served stays")


def _bind(host: str, port: int) -> socket.socket:
    """A socket that does not listen yet."""
    # asyncio sends at once (TCP_NODELAY) only on sockets that say what they are; others wait 40 ms.
    bound = socket.socket(proto=socket.IPPROTO_TCP)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
    except (OSError, OverflowError) as error:
        bound.close()
        raise PortError(f"port {port} of {host} cannot be listened on: {error}") from error
    return bound
