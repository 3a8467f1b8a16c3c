"""What a shipper finds after crashes, restores and other people: it loses nothing, deletes nothing, and goes on."""

import asyncio
import os
import shutil
import sqlite3
from contextlib import closing

import pytest
from uuid6 import uuid7

from flywheel.capture import outbox_file
from flywheel.capture.outbox import Outbox
from flywheel.capture.ship import unshipped


@pytest.fixture
def damaged(pipeline):
    """An outbox of a dead replica whose pages were overwritten, its lock and its log beside it."""
    outbox_id = str(uuid7())
    pipeline.folder.mkdir(parents=True)
    (pipeline.folder / f"{outbox_id}.db").write_bytes(b"this is no database, but long enough to be looked at" * 50)
    (pipeline.folder / f"{outbox_id}.db-wal").write_bytes(b"log")
    (pipeline.folder / f"{outbox_id}.lock").touch()
    return outbox_id


def test_a_damaged_file_is_put_aside_with_its_log_and_the_rest_goes_on(pipeline, make, damaged, caplog):
    pipeline.record(make.inference())
    report = pipeline.ship()
    assert report.events == 1
    assert list(report.corrupt) == [damaged]
    assert report.failed == {}
    aside = pipeline.folder / "corrupt"
    assert (aside / f"{damaged}.db").read_bytes().startswith(b"this is no database")
    assert "nothing of it is deleted" in caplog.text
    again = pipeline.ship()
    assert (again.corrupt, again.failed) == ({}, {})
    assert (aside / f"{damaged}.db").exists()


def test_a_damaged_page_inside_is_found_and_nothing_is_deleted(pipeline, make):
    outbox = pipeline.record(*(make.inference("x" * 3000) for _ in range(40)))
    path = pipeline.folder / f"{outbox.outbox_id}.db"
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(4096 * 3)
        file.write(os.urandom(size - 4096 * 3))
    report = pipeline.ship()
    assert list(report.corrupt) == [outbox.outbox_id]
    assert (pipeline.folder / "corrupt" / path.name).stat().st_size == size


def test_a_damaged_file_whose_owner_lives_stays_where_it_is(pipeline, damaged):
    lock = outbox_file.try_lock(pipeline.folder / f"{damaged}.lock")
    report = pipeline.ship()
    assert list(report.failed) == [damaged]
    assert (pipeline.folder / f"{damaged}.db").exists()
    os.close(lock)


def test_files_of_others_are_left_alone(pipeline, make):
    pipeline.record(make.inference())
    with closing(sqlite3.connect(pipeline.folder / "notes.db")) as other:
        other.execute("create table notes(text)")
    (pipeline.folder / "somebody.lock").touch()
    assert pipeline.ship().events == 1
    assert {path.name for path in pipeline.folder.iterdir()} == {"notes.db", "somebody.lock", "shipper.lock"}


def test_a_file_of_before_formats_were_counted_is_shipped(pipeline, make):
    outbox = pipeline.record(make.inference())
    with closing(sqlite3.connect(pipeline.folder / f"{outbox.outbox_id}.db")) as old:
        old.execute("pragma user_version = 0")
    report = pipeline.ship()
    assert (report.events, report.removed) == (1, 1)


def test_a_file_of_a_newer_program_is_kept_for_it(pipeline, make):
    outbox = pipeline.record(make.inference())
    with closing(sqlite3.connect(pipeline.folder / f"{outbox.outbox_id}.db")) as newer:
        newer.execute("pragma user_version = 99")
    report = pipeline.ship()
    assert "newer version" in report.failed[outbox.outbox_id]
    assert unshipped(pipeline.folder) == 1


def test_a_file_whose_last_transaction_was_cut_keeps_the_ones_before(pipeline, make):
    """What a power cut leaves: a log whose tail is torn. The copy is taken while the owner lives."""
    outbox = Outbox.open(pipeline.folder, group_commit_ms=0)
    for _ in range(5):
        asyncio.run(outbox.append([pipeline.event(make.inference())]))
    torn = str(uuid7())
    for suffix in (".db", ".db-wal"):
        shutil.copy(pipeline.folder / f"{outbox.outbox_id}{suffix}", pipeline.folder / f"{torn}{suffix}")
    with (pipeline.folder / f"{torn}.db-wal").open("r+b") as log:
        log.truncate((pipeline.folder / f"{torn}.db-wal").stat().st_size - 100)
    (pipeline.folder / f"{torn}.lock").touch()
    outbox.close()
    report = pipeline.ship()
    assert report.events == 5 + 4
    assert report.corrupt == report.failed == {}


def test_half_made_tables_held_nothing(pipeline):
    pipeline.folder.mkdir(parents=True)
    outbox_id = str(uuid7())
    (pipeline.folder / f"{outbox_id}.lock").touch()
    with closing(outbox_file.connect(pipeline.folder / f"{outbox_id}.db", create=True)) as connection:
        connection.execute(outbox_file.TABLES.split(";")[0])
    assert pipeline.ship().removed == 1


def test_what_waits_counts_open_requests_of_the_dead_only(pipeline, make):
    outbox = Outbox.open(pipeline.folder)
    asyncio.run(outbox.open_request(make.inference()))
    assert unshipped(pipeline.folder) == 0
    outbox.close()
    assert unshipped(pipeline.folder) == 1
