"""Decoding in a guarded child, against PyAV in this process."""

import os
import signal
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from slic.decode.child import fitted_size
from slic.decode.guarded import Decoding, GuardedDecoder, decode_video
from slic.errors import DecodeError
from tests.videos import write_video


def write(
    path: Path, frames: int, *, size: tuple[int, int] = (64, 48), codec: str = "mpeg4"
) -> Path:
    """A video of moving colours, `size` (width, height)."""
    pictures = np.full((frames, *size[::-1], 3), (30, 60, 200), np.uint8)
    for number, picture in enumerate(pictures):
        picture[:, : (3 + 5 * number) % size[0]] = (200, 40, 90)
    return write_video(path, pictures, codec=codec)


def by_pyav(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])


@pytest.fixture(scope="module")
def decoder() -> Iterator[GuardedDecoder]:
    decoder = GuardedDecoder()
    yield decoder
    decoder.close()


@pytest.fixture
def fresh() -> Iterator[GuardedDecoder]:
    """A decoder of the test's own, whose child may be harmed."""
    decoder = GuardedDecoder()
    yield decoder
    decoder.close()


def read(
    decoder: GuardedDecoder, path: Path, *, short_side: int = 128
) -> tuple[np.ndarray, Decoding]:
    about = Decoding()
    blocks = list(decoder.blocks(path, reader="pyav", short_side=short_side, about=about))
    assert all(1 <= len(block) <= 16 for block in blocks)
    return np.concatenate(blocks), about


# --- what is decoded -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "codec", "frames", "size"),
    [
        ("a.avi", "mpeg4", 20, (64, 48)),
        ("a.mp4", "libx264", 20, (64, 48)),
        ("a.mkv", "mpeg4", 33, (32, 24)),
        ("one.avi", "mpeg4", 1, (64, 48)),
        ("block.avi", "mpeg4", 16, (32, 32)),
        ("odd.avi", "mpeg4", 5, (33, 27)),
    ],
)
def test_frames_are_pyavs(
    tmp_path: Path,
    decoder: GuardedDecoder,
    name: str,
    codec: str,
    frames: int,
    size: tuple[int, int],
) -> None:
    path = write(tmp_path / name, frames, size=size, codec=codec)
    found, about = read(decoder, path)
    assert found.shape == (frames, size[1], size[0], 3)
    np.testing.assert_array_equal(found, by_pyav(path))
    assert about == Decoding(fps=25.0, promised=frames, remark=None)


@pytest.mark.parametrize(
    ("size", "short_side", "fitted"),
    [
        ((320, 240), 128, (171, 128)),
        ((240, 320), 128, (128, 171)),
        ((320, 240), 240, (320, 240)),
        ((64, 48), 128, (64, 48)),
        ((129, 128), 128, (129, 128)),
        ((129, 129), 128, (128, 128)),
        ((1000, 10), 8, (800, 8)),
    ],
)
def test_fitted_size(size: tuple[int, int], short_side: int, fitted: tuple[int, int]) -> None:
    assert fitted_size(size[1], size[0], short_side=short_side) == fitted[::-1]


def test_large_video_is_shrunk_by_area(tmp_path: Path, decoder: GuardedDecoder) -> None:
    path = write(tmp_path / "a.avi", 3, size=(240, 320))
    expected = [cv2.resize(f, (128, 171), interpolation=cv2.INTER_AREA) for f in by_pyav(path)]
    found, _ = read(decoder, path)
    np.testing.assert_array_equal(found, np.stack(expected))


def test_frame_rate_that_is_no_whole_number(tmp_path: Path, decoder: GuardedDecoder) -> None:
    pictures = [np.zeros((32, 32, 3), np.uint8)] * 3
    path = write_video(tmp_path / "a.avi", pictures, rate=Fraction(30000, 1001))
    assert read(decoder, path)[1].fps == pytest.approx(30000 / 1001, rel=1e-6)


# --- what is not -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["text.mp4", "folder.avi", "missing.avi"])
def test_what_does_not_decode_is_one_line(tmp_path: Path, name: str) -> None:
    (tmp_path / "text.mp4").write_text("not a video\n" * 200)
    (tmp_path / "folder.avi").mkdir()
    with pytest.raises(DecodeError) as caught:
        decode_video(tmp_path / name)
    assert str(caught.value).startswith(f"{tmp_path / name}: ")
    assert "\n" not in str(caught.value)


def test_child_answers_after_errors_without_a_restart(
    tmp_path: Path, fresh: GuardedDecoder
) -> None:
    good = write(tmp_path / "good.avi", 3)
    assert len(read(fresh, good)[0]) == 3
    child = fresh._child
    with pytest.raises(DecodeError):
        read(fresh, tmp_path / "missing.avi")
    assert len(read(fresh, good)[0]) == 3
    assert fresh._child is child


def test_names_that_are_odd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "ü 'x' %20 #1?.avi", 3)
    assert len(decode_video(path)) == 3
    monkeypatch.chdir(tmp_path)
    assert len(decode_video(path.name)) == 3


# --- the child -------------------------------------------------------------------------------


def gone(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    return False


def test_stalled_child_is_killed_and_replaced(tmp_path: Path, fresh: GuardedDecoder) -> None:
    good = write(tmp_path / "good.avi", 3)
    assert len(read(fresh, good)[0]) == 3
    assert fresh._child is not None
    child = fresh._child.pid
    os.kill(child, signal.SIGSTOP)
    fresh.stall_limit_s = 0.5
    with pytest.raises(DecodeError, match=r"pyav: no frame within 0\.5 s"):
        read(fresh, good)
    assert gone(child)
    fresh.stall_limit_s = 60
    assert len(read(fresh, good)[0]) == 3


def test_video_without_end_is_given_up(tmp_path: Path, fresh: GuardedDecoder) -> None:
    """Each block comes in time, and still they may not go on for ever."""
    long = write(tmp_path / "long.avi", 64, size=(320, 240))
    assert len(read(fresh, long)[0]) == 64
    fresh.time_limit_s = 1e-9
    with pytest.raises(DecodeError, match="pyav: did not finish within 1e-09 s"):
        read(fresh, long)
    fresh.time_limit_s = 60
    # Waiting is counted for each video anew.
    fresh._waited_s = 60
    assert len(read(fresh, long)[0]) == 64


def test_crashed_child_is_replaced(tmp_path: Path, fresh: GuardedDecoder) -> None:
    # Larger than what a pipe holds, so that the child cannot have finished.
    long = write(tmp_path / "long.avi", 64, size=(320, 240))
    blocks = fresh.blocks(long, reader="pyav", short_side=240, about=Decoding())
    assert next(blocks).shape == (16, 240, 320, 3)
    assert fresh._child is not None
    os.kill(fresh._child.pid, 9)
    with pytest.raises(DecodeError, match="pyav: crashed"):
        list(blocks)
    assert len(read(fresh, long)[0]) == 64
    # Dead between two videos: that is no error of the next one.
    assert fresh._child is not None
    os.kill(fresh._child.pid, 9)
    fresh._child.wait()
    assert len(read(fresh, long)[0]) == 64


def test_reading_that_is_broken_off_does_not_mix_videos(
    tmp_path: Path, fresh: GuardedDecoder
) -> None:
    long = write(tmp_path / "long.avi", 64, size=(320, 240))
    short = write(tmp_path / "short.avi", 3)
    blocks = fresh.blocks(long, reader="pyav", short_side=240, about=Decoding())
    next(blocks)
    blocks.close()  # type: ignore[attr-defined]
    np.testing.assert_array_equal(read(fresh, short)[0], by_pyav(short))


def test_more_open_files_than_select_takes(tmp_path: Path) -> None:
    import resource

    path = write(tmp_path / "a.avi", 3)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 1100 if hard == resource.RLIM_INFINITY else min(1100, hard)
    assert wanted == 1100, "this machine allows too few open files for the test"
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 1100), hard))
    handles = [os.open(os.devnull, os.O_RDONLY) for _ in range(1030)]
    try:
        assert len(decode_video(path)) == 3
    finally:
        for handle in handles:
            os.close(handle)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
