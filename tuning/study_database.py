"""A copy of the study in a database, for those who watch many searches: `--study postgresql://user@host/name`.

The journal in the experiment's folder stays what the search and its report use. A thread reads it and writes what is
new in it to the database, so that one that is slow, or gone, holds nothing up; when it is back, the copy is made anew.
A password is never part of the address, which `ps`, experiment.json and the report show: PostgreSQL's client takes it
from PGPASSWORD or ~/.pgpass, for MySQL it is in MYSQL_PWD.
"""

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainable.errors import UsageError, UserError
from tuning.study import JOURNAL

if TYPE_CHECKING:
    from optuna.storages import RDBStorage
    from optuna.trial import FrozenTrial
    from sqlalchemy.engine import URL

LOOK_EVERY_S = 2.0
"""Between two looks into the journal."""
LONGEST_PAUSE_S = 60.0
"""Between two tries where the database doesn't answer."""
PATIENCE_S = 10.0
"""How long the end of a search waits for the last trials to be written."""
TIMEOUTS: dict[str, dict[str, Any]] = {
    "postgresql": {"connect_timeout": 5, "tcp_user_timeout": 20_000, "options": "-c statement_timeout=20s"},
    "mysql": {"connect_timeout": 5, "read_timeout": 20, "write_timeout": 20},
    "sqlite": {"timeout": 20},
}
"""What a connection to each kind of database is given, so that none waits for ever."""


def check_study_address(text: str) -> str:
    """The database's address, a file's as an absolute one; UsageError for what isn't one, or tells a password."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    kinds = "postgresql://USER@HOST/NAME, mysql://USER@HOST/NAME or sqlite:///FILE"
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise UsageError(f"--study: isn't a database's address; give {kinds}") from None
    if url.password is not None or any("passw" in name.lower() for name in url.query):
        raise UsageError(
            "--study: leave the password out, since others can read commands and experiment.json; it is taken from "
            "PGPASSWORD, ~/.pgpass or, for MySQL, MYSQL_PWD"
        )
    kind = url.get_backend_name()
    if kind not in TIMEOUTS:
        raise UsageError(f"--study {text}: {kind} isn't a kind of database that is known; give {kinds}")
    try:
        with_driver(url).get_dialect().import_dbapi()
    except ImportError as error:
        module = error.name or "its driver"
        raise UsageError(f"--study {text}: {module} isn't installed; {_how_to_install(kind)}") from None
    if kind == "sqlite":
        if not url.database or url.database == ":memory:":
            raise UsageError(f"--study {text}: name a file that others can open, sqlite:///FILE")
        url = url.set(database=str(Path(url.database).absolute()))
    return url.render_as_string()


def _how_to_install(kind: str) -> str:
    if kind == "postgresql":
        return "pip install -e '.[postgresql]'"
    return "pip install pymysql, and give mysql+pymysql://USER@HOST/NAME"


def with_driver(url: "URL") -> "URL":
    """The address with the driver that the extra installs, where it names none: SQLAlchemy's choice is another."""
    return url.set(drivername="postgresql+psycopg2") if url.drivername == "postgresql" else url


def open_database(address: str) -> "RDBStorage":
    """Optuna's storage there, with its tables; UserError where the database doesn't answer or can't be used."""
    from optuna.storages import RDBStorage
    from sqlalchemy.engine import make_url

    url = with_driver(make_url(address))
    kind = url.get_backend_name()
    if kind == "mysql" and "MYSQL_PWD" in os.environ:
        url = url.set(password=os.environ["MYSQL_PWD"])
    kwargs = {"connect_args": TIMEOUTS[kind], "pool_pre_ping": True}
    try:
        return RDBStorage(url.render_as_string(hide_password=False), engine_kwargs=kwargs)
    except Exception as error:  # whatever SQLAlchemy, the driver or Optuna's look at the tables raises
        what_to_do = "start it, mend the address, or leave --study out"
        raise UserError(f"--study {address}: can't be used ({reason(error)}); {what_to_do}") from None


def reason(error: BaseException) -> str:
    """An error of a database in one line of at most 200 characters, without SQLAlchemy's explanations."""
    cause = getattr(error, "orig", None) or error
    return " ".join(str(cause).split())[:200] or type(cause).__name__


class StudyCopy:
    """Keeps the study in a database as it is in the journal, from a thread of its own, until it is closed."""

    def __init__(self, folder: Path, name: str, address: str, say: Callable[[str], None]) -> None:
        self.journal = folder / JOURNAL
        self.name = name
        """The study's in the database, where others may be."""
        self.address = address
        self.say = say
        self.source: Any = None
        self.database: RDBStorage | None = None
        self.study = 0
        """The study's number in the database."""
        self.copied: dict[int, tuple[int, FrozenTrial]] = {}
        """By a trial's number in the journal: its number in the database, and what is there."""
        self.told = False
        """Whether it was said that the database doesn't answer."""
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._run, name="study copy", daemon=True)

    def __enter__(self) -> "StudyCopy":
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self.thread.join(PATIENCE_S)
        if self.thread.is_alive() or self.told:
            self.say(f"the study in {self.address} isn't complete; a --resume writes it again")

    def _run(self) -> None:
        pause = LOOK_EVERY_S
        while not self.ended.wait(pause):
            pause = LOOK_EVERY_S if self.catch_up() else min(LONGEST_PAUSE_S, 2 * pause)
        self.catch_up()
        if self.database is not None:
            self.database.engine.dispose()

    def catch_up(self) -> bool:
        """Write what is new in the journal; returns whether the database took it."""
        try:
            if self.database is None:
                self._begin()
            self._copy_new()
        except Exception as error:  # the search goes on, whatever happens to those who watch it
            self.database = None
            self.copied = {}
            if not self.told:
                self.say(f"--study {self.address}: {reason(error)}; the search goes on and tries again")
            self.told = True
            return False
        if self.told:
            self.say(f"--study {self.address}: the study is there again")
        self.told = False
        return True

    def _begin(self) -> None:
        """Connect, and put an empty study in the place of one that an earlier try or run has left."""
        from optuna.study import StudyDirection

        database = open_database(self.address)
        with suppress(KeyError):
            database.delete_study(database.get_study_id_from_name(self.name))
        self.study = database.create_new_study([StudyDirection.MAXIMIZE], self.name)
        self.database = database

    def _copy_new(self) -> None:
        for trial in self._trials():
            known = self.copied.get(trial.number)
            if known is None:
                self.copied[trial.number] = self._add(trial), trial
            elif known[1] is not trial:  # the journal's storage makes another of each that changes
                self._update(known[0], known[1], trial)
                self.copied[trial.number] = known[0], trial

    def _trials(self) -> "list[FrozenTrial]":
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        if self.source is None:
            self.source = JournalStorage(JournalFileBackend(str(self.journal)))
        (study,) = self.source.get_all_studies()
        return self.source.get_all_trials(study._study_id, deepcopy=False)

    def _add(self, trial: "FrozenTrial") -> int:
        assert self.database is not None
        return self.database.create_new_trial(self.study, template_trial=trial)

    def _update(self, number: int, before: "FrozenTrial", now: "FrozenTrial") -> None:
        database: Any = self.database
        for name in now.params.keys() - before.params.keys():
            kind = now.distributions[name]
            database.set_trial_param(number, name, kind.to_internal_repr(now.params[name]), kind)
        for name in now.user_attrs.keys() - before.user_attrs.keys():
            database.set_trial_user_attr(number, name, now.user_attrs[name])
        for step in sorted(now.intermediate_values.keys() - before.intermediate_values.keys()):
            database.set_trial_intermediate_value(number, step, now.intermediate_values[step])
        if now.state != before.state:
            database.set_trial_state_values(number, now.state, now.values)
