"""The study as others watch it: optuna-dashboard's pages while a search runs (`--dashboard`), and a database's copy.

The pages are served by a process of their own, `python -m tuning.watch_pages`, on 127.0.0.1 alone. They ask for no
password, so whoever has an account on this machine can look at them, and delete a study there.
"""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from trainable.errors import UsageError
from tuning.plan import SearchPlan
from tuning.study import JOURNAL
from tuning.study_database import StudyCopy, open_database

LOCALHOST = "127.0.0.1"
PATIENCE_S = 5.0
"""How long the pages' process may take to end."""


def check_pages() -> None:
    """UsageError where optuna-dashboard isn't installed."""
    if find_spec("optuna_dashboard") is None:
        raise UsageError("--dashboard: optuna-dashboard isn't installed; pip install -e '.[dashboard]'")


@contextmanager
def watched_study(plan: SearchPlan, experiment: str, pages: bool, say: Callable[[str], None]) -> Iterator[None]:
    """Let others see the study of this search meanwhile, in the plan's database and on pages where these are wanted.

    Args:
        plan: Of a search whose journal has begun.
        experiment: Its id, which tells its study in a database from those of other searches of that name.
        pages: Whether to serve optuna-dashboard's.
        say: Tells the user.
    """
    with ExitStack() as stack:
        if plan.study is not None:
            stack.enter_context(StudyCopy(plan.folder, f"{plan.name}-{experiment}", plan.study, say))
        if pages:
            url = stack.enter_context(study_pages(plan.study or str(plan.folder / JOURNAL)))
            say(f"the study's pages: {url}")
        yield


@contextmanager
def study_pages(storage: str) -> Iterator[str]:
    """Serve the study in `storage`, a journal's path or a database's address; yields the pages' address.

    The process ends with this one, however that ends: it reads a pipe whose other end is here. Ctrl-C doesn't reach it.
    """
    with socket.create_server((LOCALHOST, 0)) as listener:
        command = [sys.executable, "-m", __spec__.name, storage, str(listener.fileno())]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "stdin": subprocess.PIPE}
        process = subprocess.Popen(command, pass_fds=[listener.fileno()], start_new_session=True, **quiet)  # type: ignore[call-overload]
        url = "http://{}:{}".format(*listener.getsockname())
    try:
        yield url
    finally:
        process.stdin.close()
        try:
            process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class Server(ThreadingMixIn, WSGIServer):
    """A server on a socket that listens already; a thread for each request."""

    daemon_threads = True

    def __init__(self, listener: socket.socket) -> None:
        super().__init__(listener.getsockname(), WSGIRequestHandler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self.server_name, self.server_port = listener.getsockname()
        self.setup_environ()


def serve(storage: str, listener: socket.socket) -> None:
    """Answer until stdin ends."""
    import optuna_dashboard
    from optuna.storages import BaseStorage, JournalStorage
    from optuna.storages.journal import JournalFileBackend

    threading.Thread(target=_leave_with_parent, daemon=True).start()
    journal = Path(storage).is_file()
    opened: BaseStorage = JournalStorage(JournalFileBackend(storage)) if journal else open_database(storage)
    server = Server(listener)
    server.set_app(optuna_dashboard.wsgi(opened))
    server.serve_forever()


def _leave_with_parent() -> None:
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    serve(sys.argv[1], socket.socket(fileno=int(sys.argv[2])))
