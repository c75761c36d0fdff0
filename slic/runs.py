"""Run folders: which one a command means, and what stands in it."""

import json
import os
import re
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import tomli_w

from slic import __version__
from slic.config import Settings, read_toml, settings_from
from slic.errors import CheckpointError, InputError, SettingsError, StoreError
from slic.runtime.disk import disk_errors_at
from slic.runtime.regular_files import LARGE, read_regular
from slic.runtime.text import is_one_line

RUNS = Path("runs")
# Of the table `run` in a config.toml: texts must be there, flags came later.
_ABOUT: dict[str, type] = {"store": str, "store_digest": str, "preset": str}
_ABOUT |= dict.fromkeys(("imported", "head", "fitted"), bool)


@dataclass(frozen=True)
class Run:
    """One run folder.

    Attributes:
        path: the folder.
        settings: all settings of the run.
        store: path of its clip store, as seen from here.
        store_digest: what the store held when the run began.
        preset: the preset that the settings started from.
        imported: it was not trained here, but holds weights from elsewhere.
        head: its projection head was trained.
        fitted: its batch size is what fitted the GPU.
    """

    path: Path
    settings: Settings
    store: Path
    store_digest: str
    preset: str
    imported: bool = False
    head: bool = True
    fitted: bool = False

    @property
    def checkpoint(self) -> Path:
        """The latest checkpoint; whole or absent."""
        return self.path / "checkpoints" / "latest"

    @property
    def embeddings(self) -> Path:
        """Folder of the embedding caches."""
        return self.path / "embeddings"

    @property
    def metrics(self) -> Path:
        """One JSON line an epoch and a clustering."""
        return self.path / "metrics.jsonl"

    @property
    def store_name(self) -> str:
        """Name of the store, without `.zarr`."""
        return self.store.name.removesuffix(".zarr")

    def records(self, kind: str) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl of one kind: `epoch`, `clustering` or `done`.

        A last line that a crash or a full disk has cut short is left out.

        Raises:
            CheckpointError: another line is damaged.
        """
        if not self.metrics.exists():
            return []
        try:
            lines = read_regular(self.metrics, limit=LARGE).decode().split("\n")
            records = [json.loads(line) for line in lines[:-1]]
            return [record for record in records if record["kind"] == kind]
        except OSError as error:
            raise CheckpointError(f"{self.metrics}: cannot be read: {error.strerror}") from None
        except (ValueError, TypeError, KeyError, RecursionError):
            raise CheckpointError(f"{self.metrics}: contains a line that is not a record") from None


def lock_run(path: Path, *, name: str = "lock") -> Callable[[], None]:
    """Keep other processes from training a run folder; returns what unlocks it.

    `name` is of the lock's file: what has another may be trained beside.

    The system drops the lock with the process, however that ends, so it is never stale.

    Raises:
        CheckpointError: another process holds the lock.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        return lambda: None
    handle = os.open(path / name, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise CheckpointError(f"{path}: is being trained by another process") from None
    except OSError:
        # A file system without locks: training matters more.
        os.close(handle)
        return lambda: None
    return partial(os.close, handle)


def create_run(
    path: Path,
    settings: Settings,
    *,
    store: Path,
    store_digest: str,
    preset: str,
    imported: bool = False,
    head: bool = True,
    fitted: bool = False,
) -> Run:
    """Make a run folder with its complete config.toml; the arguments are those of `Run`.

    Raises:
        CheckpointError: there is such a run already.
        DiskError: the file system refuses.
    """
    about = {
        "store": Path(os.path.relpath(store, path)).as_posix(),
        "store_digest": store_digest,
        "preset": preset,
        "slic": __version__,
        "imported": imported,
        "head": head,
        "fitted": fitted,
    }
    with disk_errors_at(path):
        (path / "checkpoints").mkdir(parents=True, exist_ok=True)
        _claim(path / "config.toml", tomli_w.dumps({**settings.as_dict(), "run": about}))
    return Run(path, settings, store, store_digest, preset, imported, head, fitted)


def _claim(config: Path, text: str) -> None:
    """Write a file whole, unless another process has: of two that make a run, one does."""
    aside = config.with_name(f".{config.name}.{uuid.uuid4().hex[:8]}")
    try:
        aside.write_text(text, encoding="utf-8")
        _link(aside, config)
    finally:
        aside.unlink(missing_ok=True)


def _link(aside: Path, config: Path) -> None:
    try:
        os.link(aside, config)
    except FileExistsError:
        raise CheckpointError(f"{config.parent}: exists already; choose another --run") from None
    except OSError:
        aside.replace(config)  # a file system without links


def open_run(path: Path) -> Run:
    """Read a run folder.

    Raises:
        CheckpointError: no run, or its config.toml is damaged.
    """
    config = path / "config.toml"
    try:
        if not config.exists():
            raise CheckpointError(f"{path}: not a run (it has no config.toml)")
        values = read_toml(config)
        about = values.pop("run", None)
        settings = settings_from(values, where=str(config))
    except SettingsError as error:
        raise CheckpointError(str(error)) from None
    return _run(path, settings, about)


def _run(path: Path, settings: Settings, about: Any) -> Run:
    """A run from the table `run` of its config.toml."""
    if not isinstance(about, dict):
        raise CheckpointError(f"{path / 'config.toml'}: has no [run] table")
    missing = [key for key, kind in _ABOUT.items() if kind is str and key not in about]
    wrong = [key for key, kind in _ABOUT.items() if not isinstance(about.get(key, kind()), kind)]
    if missing or wrong or not is_one_line(about["store"]):
        named = ", ".join([*missing, *wrong] or ["store"])
        raise CheckpointError(f"{path / 'config.toml'}: run.{named}: missing or invalid")
    store = Path(os.path.relpath(path / about["store"]))
    flags = {key: about[key] for key, kind in _ABOUT.items() if kind is bool and key in about}
    return Run(path, settings, store, about["store_digest"], about["preset"], **flags)


def find_run(name: str | None) -> Run:
    """The run of `--run` (a name below `runs/`, or a path), else the newest one trained here.

    Raises:
        CheckpointError: there is none.
    """
    if name is not None:
        path = RUNS / name
        return open_run(path if path.is_dir() else Path(name))
    folders = [config.parent for config in RUNS.glob("*/config.toml")]
    for path in sorted(folders, key=lambda path: (_last_change(path), path.name), reverse=True):
        run = open_run(path)
        if not run.imported:
            return run
    raise CheckpointError("no run in runs/; start one with `slic train`, or give --run")


def _last_change(path: Path) -> int:
    """When a run last progressed: evaluating it does not make it the newest."""
    times = [
        p.stat().st_mtime_ns
        for p in (path / "config.toml", path / "checkpoints" / "latest")
        if p.exists()
    ]
    return max(times)


def numbered_runs(prefix: str) -> Iterator[tuple[int, Path]]:
    """The runs `runs/<prefix>-<number>`, in order of number."""
    pattern = re.compile(re.escape(prefix) + r"-(\d+)")
    found = [(m, p) for p in RUNS.glob("*") if (m := pattern.fullmatch(p.name)) and p.is_dir()]
    yield from sorted((int(m.group(1)), p) for m, p in found)


def choose_run(
    settings: Settings,
    *,
    store: Path,
    store_digest: str,
    preset: str,
    name: str | None,
    new: bool,
    fitted: bool = False,
) -> Run:
    """The run that `slic train` continues, or a new one.

    The newest run of the same store and settings is continued, or found done; otherwise, or
    with `new`, the next number starts.

    Raises:
        CheckpointError: the run `name` has other settings or another store.
    """
    about = {"store": store, "store_digest": store_digest, "preset": preset, "fitted": fitted}
    if name is not None:
        path = Path(name) if "/" in name else RUNS / name
        if not (path / "config.toml").exists():
            return create_run(path, settings, **about)  # type: ignore[arg-type]
        run = _same_or_refuse(open_run(path), settings, store_digest, new=new)
        # The same store may have moved.
        return replace(run, store=store)
    prefix = _prefix(store, settings)
    if not new:
        for run in _newest_first(prefix):
            if run.settings == settings and run.store_digest == store_digest:
                return replace(run, store=store)
    known = list(numbered_runs(prefix))
    number = known[-1][0] + 1 if known else 1
    return create_run(RUNS / f"{prefix}-{number}", settings, **about)  # type: ignore[arg-type]


def _prefix(store: Path, settings: Settings) -> str:
    return f"{store.name.removesuffix('.zarr')}-{settings.encoder}"


def _newest_first(prefix: str) -> Iterator[Run]:
    for _, path in reversed(list(numbered_runs(prefix))):
        if (path / "config.toml").exists():
            yield open_run(path)


def run_of_any_batch(
    settings: Settings, store: Path, store_digest: str, *, name: str | None
) -> int | None:
    """Batch size of the run that is named, or has these settings and a fitted one; or None."""
    if name is not None:
        path = Path(name) if "/" in name else RUNS / name
        return open_run(path).settings.batch_size if (path / "config.toml").exists() else None
    for run in _newest_first(_prefix(store, settings)):
        size = run.settings.batch_size
        alike = replace(settings, batch_size=size) == run.settings
        if run.fitted and alike and run.store_digest == store_digest:
            return size
    return None


def _same_or_refuse(run: Run, settings: Settings, store_digest: str, *, new: bool) -> Run:
    if new:
        raise CheckpointError(f"{run.path}: exists already; choose another --run, or drop --new")
    mine, theirs = settings.as_dict(), run.settings.as_dict()
    changed = [f"{k} {theirs[k]} -> {mine[k]}" for k in mine if mine[k] != theirs[k]]
    if changed:
        raise CheckpointError(
            f"{run.path}: has other settings ({', '.join(changed)}); choose another --run"
        )
    if run.store_digest != store_digest:
        raise CheckpointError(
            f"{run.path}: its store has changed since it began; choose another --run"
        )
    return run


def only_store(given: str | None) -> Path:
    """The store a command means: the one given, else the only `*.zarr` here.

    Raises:
        StoreError: none is given, and here is none, or several (the message names them).
        InputError: what is given is no store.
    """
    if given is not None:
        if not Path(given).is_dir():
            raise InputError(f"{given}: no such store; create one with `slic prep frames DATASET`")
        return Path(given)
    here = sorted(path for path in Path().glob("*.zarr") if path.is_dir())
    if len(here) == 1:
        return here[0]
    if not here:
        raise StoreError(
            "no *.zarr here; create one with `slic prep frames DATASET`, or name a store"
        )
    names = ", ".join(str(path) for path in here)
    raise StoreError(f"several stores here ({names}); name one")
