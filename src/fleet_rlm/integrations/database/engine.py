"""The database of a data folder: one thread with an event loop that owns every connection.

The rest of the program is synchronous worker threads and other event loops; both reach the loop through `run` and
`arun`. Writers take `BEGIN IMMEDIATE` at once (a read that turns into a write would fail without waiting). The
journal's commits, several for each model call, have a connection of their own, on which a transaction runs in one go
in the thread that asks; what else writes has one connection, and readers a few.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, QueuePool, create_engine, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from fleet_rlm.errors import InternalError, InvalidInput, StorageError
from fleet_rlm.integrations.database.migrate import upgrade
from fleet_rlm.integrations.database.owner import Owner

T = TypeVar("T")

FILE_NAME = "fleet.db"
BUSY_MS = 5_000
READERS = 4
SYNCED = "fleet.synced"


class Database:
    """An open data folder. Every public method may be called from any thread but the database's own."""

    def __init__(self, home: Path) -> None:
        """Open or create `<home>/fleet.db` (0600, folder 0700) and bring it to the newest revision.

        Errors: StorageError when the folder or the file cannot be used.
        """
        try:
            _prepare_folder(home)
            self.owner = Owner(home)
        except OSError as error:
            raise StorageError(f"cannot use the data folder {home}: {error.strerror or error}") from error
        self.home = home
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name="fleet-journal", daemon=True)
        self._thread.start()
        file = home / FILE_NAME
        self._writer = _engine(file, size=1, begin="BEGIN IMMEDIATE")
        self._reader = _engine(file, size=READERS, begin="BEGIN")
        self._committer = _commit_engine(file)
        self._commit_lock = threading.Lock()
        self._held: Connection | None = None  # of commits: to take it from its pool costs as much as a row
        self._not_here = {self._thread}
        try:
            self.run(self._migrate())
        except BaseException:
            self.close()
            raise

    def _serve(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    async def _migrate(self) -> None:
        async with self.write() as connection:
            await connection.run_sync(_upgrade)

    def run(self, work: Coroutine[Any, Any, T], timeout: float | None = None) -> T:
        """Run on the database's loop and wait here.

        Errors: StorageError for what the database refuses; InternalError when called on the database's own thread.
        """
        try:
            self.check_thread()
        except InternalError:
            work.close()
            raise
        if self.loop.is_closed():
            work.close()
            raise StorageError("the data folder is closed")
        return asyncio.run_coroutine_threadsafe(_translated(work), self.loop).result(timeout)

    def bar_thread(self, thread: threading.Thread) -> None:
        """This thread must not wait for the database either."""
        self._not_here.add(thread)

    def check_thread(self) -> None:
        """InternalError on a thread that must not wait for the database."""
        if threading.current_thread() in self._not_here:
            raise InternalError("the journal's own thread must not wait for the database (a listener called it)")

    async def arun(self, work: Coroutine[Any, Any, T]) -> T:
        """Run on the database's loop and await from another loop."""
        if self.loop.is_closed():
            work.close()
            raise StorageError("the data folder is closed")
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(_translated(work), self.loop))

    @asynccontextmanager
    async def write(self) -> AsyncGenerator[AsyncConnection]:
        """A write transaction: commits at the end of the block, rolls back on any exception."""
        async with self._writer.begin() as connection:
            yield connection

    def commit(self, work: Callable[[Connection], T], *, synced: bool, before: Callable[[], None] | None = None) -> T:
        """`work` in one write transaction, in this thread: a change of threads for each statement would cost more than
        the statements. It also survives a power cut when `synced` (one more disk sync, about 3 ms). `before` is called
        before the transaction begins, which it prevents by an exception. Errors: as SQLAlchemy and SQLite raise them.
        """
        if before is not None:
            before()
        with self._commit_lock:
            connection = self._held = self._held or self._committer.connect()
            try:
                if connection.info.get(SYNCED) is not synced:
                    raw = connection.connection.driver_connection
                    assert raw is not None
                    raw.execute(f"PRAGMA synchronous={'FULL' if synced else 'NORMAL'}")
                    connection.info[SYNCED] = synced
                with connection.begin():
                    return work(connection)
            except BaseException:
                self._let_go()
                raise

    def _let_go(self) -> None:
        """Give the connection of commits back (with their lock)."""
        held, self._held = self._held, None
        if held is not None:
            held.close()

    @asynccontextmanager
    async def read(self) -> AsyncGenerator[AsyncConnection]:
        """A read transaction: one consistent view."""
        async with self._reader.begin() as connection:
            yield connection

    def close(self) -> None:
        """Close every connection and stop the thread. Idempotent."""
        if self.loop.is_closed():
            return
        try:
            self.run(self._dispose(), timeout=10)
        except TimeoutError as error:
            raise StorageError("the database did not close within 10 s") from error
        finally:
            self.loop.call_soon_threadsafe(self.loop.stop)
            self._thread.join(timeout=10)
            self.loop.close()
            self.owner.close()

    async def _dispose(self) -> None:
        await self._reader.dispose()
        await self._writer.dispose()
        with self._commit_lock:
            self._let_go()
            self._committer.dispose()


async def _translated(work: Coroutine[Any, Any, T]) -> T:
    try:
        return await work
    except (SQLAlchemyError, sqlite3.Error, OSError) as error:
        raise storage_error(error) from error
    except OverflowError:
        raise InvalidInput("a number is larger than any that is kept") from None
    except UnicodeEncodeError:  # an id or a title from a shell or a program: bytes that are not UTF-8
        message = "what was given holds half of a surrogate pair, not text"
        raise InvalidInput(message, hint="give it as valid UTF-8") from None


def storage_error(error: BaseException) -> StorageError:
    """One clear line for what SQLite or SQLAlchemy raised; never the SQL or its values."""
    cause = error.__cause__ or getattr(error, "orig", None) or error
    reason = str(cause).splitlines()[0] if str(cause) else type(cause).__name__
    hint = None
    if "full" in reason:
        hint = "free some space on the disk of the data folder"
    elif "locked" in reason:
        hint = "another program holds the database; try again"
    elif "not a database" in reason or "malformed" in reason:
        hint = f"{FILE_NAME} in the data folder is damaged: put a copy in its place, or move it away to begin anew"
    return StorageError(f"the database refused: {reason}", hint=hint)


def _upgrade(connection: Connection) -> None:
    upgrade(connection)


def _prepare_folder(home: Path) -> None:
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Created here, so that the file (and the -wal and -shm beside it, which copy its mode) is never readable by others.
    fd = os.open(home / FILE_NAME, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    os.close(fd)


def _engine(file: Path, *, size: int, begin: str) -> AsyncEngine:
    engine = create_async_engine(f"sqlite+aiosqlite:///{file}", pool_size=size, max_overflow=0, pool_timeout=30)
    _prepare(engine.sync_engine, begin)
    return engine


def _commit_engine(file: Path) -> Engine:
    engine = create_engine(f"sqlite:///{file}", poolclass=QueuePool, pool_size=1, max_overflow=0, pool_timeout=30)
    _prepare(engine, "BEGIN IMMEDIATE")
    return engine


def _prepare(engine: Engine, begin: str) -> None:
    """Pragmas of each connection, and how its transactions begin."""

    def connected(connection: DBAPIConnection, _record: object) -> None:
        # The driver's own BEGIN is off: the transaction starts where `started` says so.
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in (f"busy_timeout={BUSY_MS}", "journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    def started(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    event.listen(engine, "connect", connected)
    event.listen(engine, "begin", started)
