"""The migrations inside the package lead to the tables that the code uses."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from opened import Store
from sqlalchemy import create_engine

from fleet_rlm.errors import StorageError
from fleet_rlm.integrations.database.migrate import FOLDER, upgrade
from fleet_rlm.integrations.database.schema import HEAD_REVISION, IS_SOUGHT, metadata


def test_a_migrated_database_is_the_schema(store: Store) -> None:
    engine = create_engine(f"sqlite:///{store.home / 'fleet.db'}")
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    engine.dispose()


def test_the_head_is_the_newest_revision() -> None:
    config = Config()
    config.set_main_option("script_location", str(FOLDER))
    assert ScriptDirectory.from_config(config).get_heads() == [HEAD_REVISION]


def test_a_database_of_the_first_version_is_brought_up_to_date(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'fleet.db'}")
    with engine.begin() as connection:
        upgrade(connection, "0001")
        values = {"sid": "ses_1", "epoch": "e", "title": "kept", "created_ms": 1, "updated_ms": 2, "head": 0}
        connection.execute(metadata.tables["sessions"].insert().values(**values))
    engine.dispose()
    store = Store(tmp_path)
    assert store.sessions.get("ses_1").title == "kept"
    store.close()
    engine = create_engine(f"sqlite:///{tmp_path / 'fleet.db'}")
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
        made = connection.exec_driver_sql("select sql from sqlite_master where name = 'ix_events_type'").scalar_one()
    engine.dispose()
    assert str(IS_SOUGHT) in made, "word for word, or no query is answered from it"


def test_a_database_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    Store(tmp_path).close()
    with sqlite3.connect(tmp_path / "fleet.db") as connection:
        connection.execute("update alembic_version set version_num = '9999'")
    connection.close()
    with pytest.raises(StorageError, match="newer than this version"):
        Store(tmp_path)
