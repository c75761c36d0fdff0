"""Files that are written completely or not at all, and errors of the file system."""

import errno
import os
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from slic.errors import DiskError
from slic.runtime.disk import (
    atomic_write,
    check_writable,
    disk_errors_at,
    process_start_errors,
    raise_if_unreadable,
    to_disk_error,
)

# In a child process, because HDF5 has ended processes at a full disk.
LIMITED = """
import resource, sys
from pathlib import Path
import numpy as np, torch
from slic.cache.hdf5 import write_hdf5
from slic.encoders.tensor_files import save_tensors
from slic.errors import DiskError
from slic.runtime.disk import atomic_write

rows = np.random.default_rng(0).random((400, 16), np.float32)

def plain(path):
    with atomic_write(path) as file:
        file.write(rows.tobytes())

writers = (
    plain,
    lambda path: save_tensors(path, {"rows": torch.from_numpy(rows)}),
    lambda path: write_hdf5(path, {"rows": rows}),
)
for limit in map(int, sys.argv[2:]):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    for write in writers:
        try:
            write(Path(sys.argv[1]))
        except DiskError as error:
            assert str(error).startswith(sys.argv[1] + ": File too large; "), error
        else:
            raise SystemExit(f"written completely within {limit} bytes")
"""


def test_a_full_disk_leaves_the_previous_file(tmp_path: Path) -> None:
    """A limit on the size of files makes real writes fail, PyTorch's and HDF5's among them."""
    path = tmp_path / "folder" / "file"
    path.parent.mkdir()
    path.write_bytes(b"before")
    limits = [0, 1, 100, 4096, *Random(1).sample(range(25_000), 8)]
    command = [sys.executable, "-c", LIMITED, str(path), *map(str, limits)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "")
    assert path.read_bytes() == b"before"
    assert list(path.parent.iterdir()) == [path]


def test_a_file_appears_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file"
    with atomic_write(path) as file:
        file.write(b"content")
        assert not path.exists()
    assert path.read_bytes() == b"content"
    assert list(path.parent.iterdir()) == [path]


def test_a_pipe_is_not_replaced_by_a_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DiskError, match="pipe"), atomic_write(tmp_path / "pipe"):
        pass
    assert (tmp_path / "pipe").is_fifo()
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


def test_other_errors_come_through(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"^of another kind$"), atomic_write(tmp_path / "x"):
        raise RuntimeError("of another kind")
    assert list(tmp_path.iterdir()) == []


def fail_for(cause: OSError) -> None:
    """Fail as PyTorch's writer does: with an error of its own."""
    try:
        raise cause
    finally:
        raise RuntimeError("unexpected pos")


def test_the_systems_error_behind_another_is_reported(tmp_path: Path) -> None:
    with pytest.raises(DiskError, match="No space left"), disk_errors_at(tmp_path):
        fail_for(OSError(errno.ENOSPC, "full"))


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        (errno.ENOSPC, "free some space there"),
        (errno.EDQUOT, "free some space there"),
        (errno.EROFS, "choose another place"),
        (errno.EACCES, "choose another place"),
        (errno.EMFILE, "ulimit -n"),
        (errno.EFBIG, "ulimit -f"),
        (errno.ENOENT, "removed"),
        (errno.EIO, "run the same command again"),
    ],
)
def test_each_refusal_says_where_and_what_to_do(code: int, advice: str) -> None:
    said = str(to_disk_error(Path("a") / "b", OSError(code, "whatever")))
    assert said.startswith(f"{Path('a') / 'b'}: {os.strerror(code)}; ")
    assert advice in said
    assert said.isprintable()


def test_an_error_without_a_number_keeps_its_text() -> None:
    assert str(to_disk_error(None, OSError("some\nreason"))).startswith("some; ")


@pytest.mark.parametrize(("code", "refused"), [(errno.EMFILE, True), (errno.EIO, False)])
def test_only_refusals_to_read_are_no_damage(code: int, refused: bool) -> None:
    if refused:
        with pytest.raises(DiskError, match="x: "):
            raise_if_unreadable("x", OSError(code, "whatever"))
    else:
        raise_if_unreadable("x", OSError(code, "whatever"))
    raise_if_unreadable("x", ValueError("damaged"))


@pytest.mark.parametrize(
    ("code", "said"), [(errno.ENOSPC, "^/dev/shm: "), (errno.EMFILE, "^Too many open files; ")]
)
def test_processes_that_cannot_start(code: int, said: str) -> None:
    with pytest.raises(DiskError, match=said), process_start_errors():
        raise OSError(code, "whatever")


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DiskError, match="file/folder: "):
        check_writable(tmp_path / "file" / "folder")
    check_writable(tmp_path / "new" / "folder")
    assert list((tmp_path / "new" / "folder").iterdir()) == []
