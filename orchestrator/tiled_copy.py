"""Copy the runs of a record to a Tiled server, one by one, once each has ended.

The record on disk is the queue: nothing waits in memory, nothing is lost when the
server is away or this process dies, and the experiment never notices. A run that the
server has whole is left alone; one that it has in part is written anew.
"""

import json
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any
from uuid import uuid4

Document = tuple[str, Mapping[str, Any]]

POLL_S = 1.0
TRIES_MAX = 3  # of a run that the server does not take
NOT_INSTALLED = "Tiled is not installed: pip install 'insitu-ct[tiled]'"

_log = logging.getLogger(__name__)


class ServerAwayError(Exception):
    """The server does not answer, or does not let us in."""


@dataclass(frozen=True)
class CopyStatus:
    """How far the copy is.

    Attributes
    ----------
    waiting : int
        Runs that ended and are not on the server.
    lag_s : float
        How long the oldest of them has waited.
    sent, refused : int
        Runs on the server; runs it did not take.
    fault : str
        Why it does not go on, empty where it does.
    """

    waiting: int = 0
    lag_s: float = 0.0
    sent: int = 0
    refused: int = 0
    fault: str = ""

    def line(self) -> str:
        """Return it as a line of JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_line(cls, line: str) -> "CopyStatus":
        """Return what `line` wrote."""
        return cls(**json.loads(line))


@dataclass(frozen=True)
class RecordedRun:
    """Where the documents of a run lie in a record.

    Attributes
    ----------
    ended_s : float
        When its end was read, monotonic clock.
    cut : bool
        The power went before its stop document was written.
    """

    uid: str
    begin: int
    end: int
    ended_s: float
    cut: bool


class RecordedRuns:
    """Finds the runs in a record that grows; the oldest one waits first.

    Parameters
    ----------
    path : Path
        The record; it need not exist yet.
    """

    def __init__(self, path: Path):
        self.waiting: deque[RecordedRun] = deque()
        self._path = path
        self._offset = 0
        self._open: tuple[str, int] | None = None

    def look(self) -> None:
        """Read on, up to the last whole line."""
        if not self._path.exists():
            return
        with open(self._path, "rb") as file:
            file.seek(self._offset)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                begin, self._offset = self._offset, self._offset + len(line)
                if (document := _parsed(line)) is not None:
                    self._take(*document, begin)

    def _take(self, name: str, document: Mapping[str, Any], begin: int) -> None:
        if name == "start":
            self._close(begin, cut=True)
            self._open = (str(document["uid"]), begin)
        elif name == "stop":
            self._close(self._offset, cut=False)

    def _close(self, end: int, *, cut: bool) -> None:
        if self._open is not None:
            uid, begin = self._open
            self.waiting.append(RecordedRun(uid, begin, end, time.monotonic(), cut))
            self._open = None

    def documents(self, run: RecordedRun) -> list[Document]:
        """Return the documents of a run; one that was cut gets a stop that says so."""
        with open(self._path, "rb") as file:
            file.seek(run.begin)
            lines = file.read(run.end - run.begin).splitlines()
        documents = [doc for line in lines if (doc := _parsed(line)) is not None]
        if run.cut:
            stop = {
                "uid": str(uuid4()),
                "run_start": run.uid,
                "time": documents[-1][1].get("time", documents[0][1]["time"]),
                "exit_status": "fail",
                "reason": "cut: its end was never recorded",
                "num_events": {},
            }
            documents.append(("stop", stop))
        return documents


class RunCopier:
    """Sends the runs of a record, the oldest first.

    Parameters
    ----------
    send : callable
        Sends the documents of a run. `ServerAwayError` has it wait; after any other
        error the run is tried again later, and passed over at last.
    tell : callable
        Told of each change.
    """

    def __init__(
        self,
        runs: RecordedRuns,
        send: Callable[[Sequence[Document]], None],
        tell: Callable[[CopyStatus], None],
    ):
        self._runs = runs
        self._send = send
        self._tell = tell
        self._sent = self._refused = self._tries = 0

    def follow(self, ended: threading.Event, retry_s: float) -> CopyStatus:
        """Send runs as the record grows; once it has ended, what the server takes."""
        while not ended.is_set():
            status = self.once(TRIES_MAX)
            ended.wait(retry_s if status.fault else POLL_S)
        return self.once()

    def once(self, tries_max: int = 1) -> CopyStatus:
        """Send what waits, until the server is away."""
        self._runs.look()
        fault = ""
        while self._runs.waiting and not fault:
            fault = self._send_oldest(tries_max)
            self._runs.look()
        status = self._status(fault)
        self._tell(status)
        return status

    def _send_oldest(self, tries_max: int) -> str:
        """Return why the runs must wait, empty if they need not."""
        run, refusal = self._runs.waiting[0], ""
        try:
            self._send(self._runs.documents(run))
            self._sent += 1
        except ServerAwayError as error:
            return _one_line(error)
        except Exception as error:
            _log.exception("run %s was not taken", run.uid)
            refusal = f"run {run.uid} was not taken: {_one_line(error)}"
            self._tries += 1
            if self._tries < tries_max:
                return refusal
            self._refused += 1
        self._tries = 0
        self._runs.waiting.popleft()
        self._tell(self._status(refusal))
        return ""

    def _status(self, fault: str) -> CopyStatus:
        waiting = self._runs.waiting
        lag_s = time.monotonic() - waiting[0].ended_s if waiting else 0.0
        return CopyStatus(len(waiting), lag_s, self._sent, self._refused, fault)


class TiledServer:
    """Writes runs to a Tiled server.

    Parameters
    ----------
    uri : str
        Of the server.
    api_key : str or None
        Lets us write there.

    Raises
    ------
    ImportError
        The extra ``tiled`` is not installed.
    """

    def __init__(self, uri: str, api_key: str | None):
        self._httpx = import_module("httpx")
        self._from_uri = import_module("tiled.client").from_uri
        self._writer = import_module("bluesky_tiled_plugins").TiledWriter
        self._uri = uri
        self._api_key = api_key
        self._client: Any = None

    def send(self, documents: Sequence[Document]) -> None:
        """Write one run, unless the server has it already.

        Raises
        ------
        ServerAwayError
            It does not answer, or refuses the key.
        """
        try:
            self._send(documents)
        except (self._httpx.TransportError, OSError) as error:
            self._client = None
            raise ServerAwayError(f"{self._uri} does not answer: {error}") from error
        except self._httpx.HTTPStatusError as error:
            code = error.response.status_code
            refused = code in (401, 403)
            if not refused and code < 500:
                raise
            self._client = None
            why = "refuses the key" if refused else "failed"
            raise ServerAwayError(f"{self._uri} {why} ({code})") from error

    def _send(self, documents: Sequence[Document]) -> None:
        if self._client is None:
            self._client = self._from_uri(self._uri, api_key=self._api_key)
        client, uid = self._client, documents[0][1]["uid"]
        if uid in client:
            if client[uid].metadata.get("stop"):
                return
            client.delete_contents([uid], recursive=True, external_only=False)
        writer = self._writer(client)
        for name, document in documents:
            writer(name, dict(document))


def _parsed(line: bytes) -> Document | None:
    try:
        name, document = json.loads(line)
    except (ValueError, TypeError):
        return None  # torn by a power cut
    return (name, document) if isinstance(document, dict) else None


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
