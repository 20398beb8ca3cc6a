"""The record of documents: whole, in order, and fatal when it cannot be written."""

import os
import threading
from pathlib import Path

import numpy as np
import pytest

from orchestrator.errors import RecordError
from orchestrator.record import DocumentRecord, read_documents


@pytest.fixture
def record(tmp_path):
    record = DocumentRecord(tmp_path / "documents.jsonl")
    yield record
    record.close()


def test_documents_come_back_in_order(record):
    record("start", {"uid": "a", "time": 1.5})
    record("event", {"data": {"angles": np.arange(3.0), "count": np.int32(7)}})
    record("stop", {"exit_status": "success", "path": Path("/x/y")})
    assert list(read_documents(record.path)) == [
        ("start", {"uid": "a", "time": 1.5}),
        ("event", {"data": {"angles": [0.0, 1.0, 2.0], "count": 7}}),
        ("stop", {"exit_status": "success", "path": "/x/y"}),
    ]


def test_a_document_is_on_disk_when_the_call_returns(record, monkeypatch):
    synced = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (synced.append(fd), real(fd))[1])
    record("start", {"uid": "a"})
    assert len(synced) == 1


def test_a_torn_line_is_left_out_and_what_follows_is_whole(record):
    record("start", {"uid": "a"})
    record.close()
    with open(record.path, "a") as file:
        file.write('["stop", {"exit_st')  # the power went
    again = DocumentRecord(record.path)
    again("start", {"uid": "b"})
    again.close()
    assert list(read_documents(record.path)) == [
        ("start", {"uid": "a"}),
        ("start", {"uid": "b"}),
    ]


def test_a_full_disk_is_fatal(tmp_path):
    record = DocumentRecord(Path("/dev/full"))
    with pytest.raises(RecordError, match="No space left.*the experiment stops"):
        record("start", {"uid": "a"})
    record.close()


def test_a_document_that_is_no_json_is_fatal(record):
    with pytest.raises(RecordError, match="a object has no place in a document"):
        record("event", {"data": object()})


def test_two_threads_do_not_mix_their_lines(record):
    def write(uid):
        for number in range(50):
            record("event", {"uid": uid * 200, "number": number})

    threads = [threading.Thread(target=write, args=(uid,)) for uid in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(list(read_documents(record.path))) == 200


def test_a_folder_that_does_not_exist(tmp_path):
    with pytest.raises(RecordError, match="cannot be opened"):
        DocumentRecord(tmp_path / "none" / "documents.jsonl")
