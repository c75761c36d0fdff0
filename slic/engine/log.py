"""What a run writes down: metrics.jsonl and TensorBoard events."""

import json
import os
import socket
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from slic.errors import CheckpointError
from slic.runs import Run
from slic.runtime.disk import atomic_write, disk_errors_at
from slic.runtime.regular_files import LARGE, read_regular


class Recorder:
    """Appends to metrics.jsonl and TensorBoard.

    Args:
        run: the run.
        lines: lines of metrics.jsonl that belong to the checkpoint continued from; later ones,
            of work that is done again, are dropped.
    """

    def __init__(self, run: Run, *, lines: int) -> None:
        self.run, self.path = run, run.metrics
        self.lines = _keep_lines(self.path, lines)
        self._events = Events(run.path / "tensorboard")

    def write(self, kind: str, step: int, values: Mapping[str, Any]) -> None:
        """Append one line, durably, and its numbers as TensorBoard scalars.

        Raises:
            DiskError: the file system refuses.
        """
        with disk_errors_at(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"kind": kind, "step": step, **values}) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self.lines += 1
        numbers = {f"{kind}/{name}": value for name, value in _flat(values).items()}
        self._events.write(step, numbers)

    def holds(self, kind: str) -> bool:
        """Whether there is a line of this kind."""
        return bool(self.run.records(kind))

    def close(self) -> None:
        """Close TensorBoard's events."""
        self._events.close()


class Events:
    """A file of TensorBoard events.

    Written at once, by the parts that TensorBoard's own writer is made of: that one writes in a
    thread, which answers a full disk with a traceback.

    Args:
        folder: where TensorBoard looks for it.

    Raises:
        DiskError: the file system refuses.
    """

    def __init__(self, folder: Path) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.summary.writer.record_writer import RecordWriter

        who = f"{socket.gethostname()}.{os.getpid()}.{uuid.uuid4().hex[:8]}"
        self.path = folder / f"events.out.tfevents.{int(time.time()):010d}.{who}"
        with disk_errors_at(self.path):
            folder.mkdir(exist_ok=True)
            self._file = self.path.open("wb")
            self._records = RecordWriter(self._file)
            first = Event(wall_time=time.time(), file_version="brain.Event:2")
            self._records.write(first.SerializeToString())
            self._records.flush()

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Append scalars, by name.

        Raises:
            DiskError: the file system refuses.
        """
        from tensorboard.compat.proto.event_pb2 import Event
        from torch.utils.tensorboard.summary import scalar

        with disk_errors_at(self.path):
            for name, value in values.items():
                event = Event(wall_time=time.time(), step=step, summary=scalar(name, value))
                self._records.write(event.SerializeToString())
            self._records.flush()

    def close(self) -> None:
        """Close the file."""
        with disk_errors_at(self.path):
            self._file.close()


def _flat(values: Mapping[str, Any]) -> dict[str, float]:
    numbers: dict[str, float] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            numbers |= {f"{name}/{key}": number for key, number in _flat(value).items()}
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            numbers[name] = float(value)
    return numbers


def _keep_lines(path: Path, count: int) -> int:
    """Cut a file to its first whole lines; how many there are, which is fewer if some got lost."""
    if not path.exists():
        return 0
    try:
        text = read_regular(path, limit=LARGE).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path}: cannot be read ({error})") from None
    whole = text.split("\n")[:-1][:count]
    with atomic_write(path) as file:
        file.write("".join(f"{line}\n" for line in whole).encode())
    return len(whole)
