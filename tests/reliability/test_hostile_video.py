"""Broken and hostile video: stored as it decodes, or refused with a reason."""

import itertools
import json
import os
import random
import socket
import struct
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from hostile import (
    KINDS,
    UNTOLD,
    by_opencv,
    damaged,
    outcome,
    patch,
    peak_mb,
    pictures,
    png_bomb,
    stored,
    write,
)

from slic.cache import ClipStore
from slic.decode.guarded import Decoding, GuardedDecoder
from slic.decode.pictures import read_pictures
from slic.errors import DecodeError

LIMIT_S = 60.0
LIMIT_MB = 1024


@pytest.fixture(scope="module")
def decoder() -> Iterator[GuardedDecoder]:
    decoder = GuardedDecoder(stall_limit_s=LIMIT_S)
    yield decoder
    decoder.close()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A good video of each kind."""
    folder = tmp_path_factory.mktemp("whole")
    return {kind: write(folder / kind, seed=number) for number, kind in enumerate(KINDS)}


# --- what is whole ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_good_video_is_as_opencv_decodes_it(
    whole: dict[str, Path], decoder: GuardedDecoder, kind: str
) -> None:
    found = outcome(decoder, whole[kind])
    expected = by_opencv(whole[kind])
    assert found.frames is not None
    assert found.frames.shape == expected.shape == (30, 48, 64, 3)
    assert np.abs(found.frames.astype(int) - expected).mean() < 2
    assert found.about.remark is None


@pytest.mark.parametrize("kind", ["h264.mp4", "mpeg4.avi", "h264.mkv"])
@pytest.mark.parametrize(
    "times",
    [
        [0, 1, 2, 10, 11, 30, 31, 90, 91, 92, *range(200, 220)],
        [*range(29), 500],
        [*range(100, 130)],
    ],
    ids=["variable", "long last", "late"],
)
def test_rate_that_varies_is_no_damage(
    tmp_path: Path, decoder: GuardedDecoder, kind: str, times: list[int]
) -> None:
    found = outcome(decoder, write(tmp_path / kind, times=times))
    assert found.frames is not None
    # An avi repeats frames by empty packets, of which nothing is stored.
    assert len(found.frames) == 30
    assert found.about.remark is None


def test_negative_times_are_cut_off_as_the_file_says(
    tmp_path: Path, decoder: GuardedDecoder
) -> None:
    path = write(tmp_path / "h264.mp4", times=range(-10, 20), codec={"bf": "3"})
    found = outcome(decoder, path)
    expected = by_opencv(path)
    assert found.frames is not None
    assert found.frames.shape == expected.shape
    assert np.abs(found.frames.astype(int) - expected).mean() < 2
    assert found.about.remark is None


@pytest.mark.parametrize(
    ("count", "size"), [(1, (64, 48)), (30, (2, 2)), (1, (2, 2)), (3, (34, 2))]
)
def test_small_ones(
    tmp_path: Path, decoder: GuardedDecoder, count: int, size: tuple[int, int]
) -> None:
    found = outcome(decoder, write(tmp_path / "h264.mp4", count, size=size))
    assert found.frames is not None
    assert found.frames.shape == (count, size[1], size[0], 3)
    assert found.about.remark is None


@pytest.mark.parametrize("matrix", list(itertools.product((1, -1), (1, -1), (False, True))))
def test_rotated_and_mirrored_by_metadata(
    tmp_path: Path, decoder: GuardedDecoder, matrix: tuple[int, int, bool]
) -> None:
    (first, second, turned), count = matrix, 3
    path = write(tmp_path / "h264.mp4", count, size=(64, 32))
    plain = stored(decoder, path)
    a, b, c, d = (0, first, second, 0) if turned else (first, 0, 0, second)
    nine = (a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
    found = stored(decoder, patch(path, b"tkhd", 40, ">9i", *nine))
    # ISO 14496-12: (x, y) is shown at (a x + c y, b x + d y), moved into the picture.
    y, x = np.mgrid[:32, :64]
    shown_x, shown_y = a * x + c * y, b * x + d * y
    expected = np.zeros((count, *((64, 32) if turned else (32, 64)), 3), np.uint8)
    expected[:, shown_y - shown_y.min(), shown_x - shown_x.min()] = plain
    np.testing.assert_array_equal(found, expected)


def test_one_of_several_streams(tmp_path: Path, decoder: GuardedDecoder) -> None:
    found = stored(decoder, write(tmp_path / "h264.mp4", streams=[(96, 64)]))
    size = found.shape[2], found.shape[1]
    assert size in ((64, 48), (96, 64))
    alone = stored(decoder, write(tmp_path / "alone.h264.mp4", size=size))
    np.testing.assert_array_equal(found, alone)


def test_size_that_changes_midway_becomes_the_first(
    tmp_path: Path, decoder: GuardedDecoder
) -> None:
    parts = [write(tmp_path / f"{size[0]}.h264.ts", size=size) for size in ((64, 48), (96, 64))]
    path = tmp_path / "both.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    first, second = (stored(decoder, part) for part in parts)
    second = np.stack([cv2.resize(f, (64, 48), interpolation=cv2.INTER_AREA) for f in second])
    np.testing.assert_array_equal(stored(decoder, path), np.concatenate([first, second]))


def test_name_does_not_tell_the_container(
    tmp_path: Path, whole: dict[str, Path], decoder: GuardedDecoder
) -> None:
    for kind in ("h264.mp4", "h264.mkv", "gif.gif"):
        (tmp_path / "a.avi").write_bytes(whole[kind].read_bytes())
        expected = stored(decoder, whole[kind])
        np.testing.assert_array_equal(stored(decoder, tmp_path / "a.avi"), expected)


# --- damage ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_cut_at_every_tenth(
    tmp_path: Path, whole: dict[str, Path], decoder: GuardedDecoder, kind: str
) -> None:
    data, expected = whole[kind].read_bytes(), stored(decoder, whole[kind])
    for tenth in range(10):
        path = tmp_path / f"{tenth}{whole[kind].suffix}"
        path.write_bytes(data[: len(data) * tenth // 10])
        found = outcome(decoder, path)
        if found.frames is None:
            continue
        # The frames that the cut went through, or that waited for it, may be half there.
        sure = max(0, len(found.frames) - 2)
        np.testing.assert_array_equal(found.frames[:sure], expected[:sure])
        if kind not in UNTOLD and len(found.frames) < 25:
            assert found.about.remark is not None, (tenth, len(found.frames))
    np.testing.assert_array_equal(stored(decoder, whole[kind]), expected)


def test_damage_leaves_the_next_video_alone(
    tmp_path: Path, whole: dict[str, Path], decoder: GuardedDecoder
) -> None:
    """Bits flipped, bytes zeroed, headers that lie: one child for all, and its memory bounded."""
    rng = random.Random(6)
    good = {kind: stored(decoder, path) for kind, path in whole.items()}
    kinds = list(KINDS)
    for number in range(60):
        kind, other = rng.choice(kinds), rng.choice(kinds)
        path = tmp_path / f"{number}{whole[kind].suffix}"
        path.write_bytes(damaged(whole[kind].read_bytes(), whole[other].read_bytes(), rng))
        outcome(decoder, path)
        if number % 3 == 0:
            np.testing.assert_array_equal(stored(decoder, whole[other]), good[other])
    assert peak_mb(decoder) < LIMIT_MB


# Offsets of ISO 14496-12 boxes, and of AVI's headers.
LIES: dict[str, tuple[str, list[tuple[bytes, int, str, tuple[int, ...]]]]] = {
    "duration": (
        "h264.mp4",
        [(b, o, ">I", (0x7FFFFFFF,)) for b, o in ((b"mvhd", 16), (b"tkhd", 20), (b"mdhd", 16))],
    ),
    "frames of 0": ("h264.mp4", [(b"stsz", 8, ">I", (0,))]),
    "frames by time": ("h264.mp4", [(b"stts", 8, ">I", (0x7FFFFFFF,))]),
    "frames": ("h264.mp4", [(b"stsz", 8, ">I", (0x7FFFFFFF,))]),
    "frames of 1 byte": ("h264.mp4", [(b"stsz", 4, ">II", (1, 0x0FFFFFFF))]),
    "avi's length": ("mpeg4.avi", [(b"avih", 20, "<I", (0x7FFFFFFF,)), (b"strh", 36, "<I", (1,))]),
    "avi's frames": ("mpeg4.avi", [(b"strh", 36, "<I", (0x7FFFFFFF,))]),
    **{
        f"rate {number}/{scale}": (
            "mpeg4.avi",
            [(b"strh", 24, "<II", (scale, number & 0xFFFFFFFF))],
        )
        for number, scale in ((0, 1), (25, 0), (-25, 1), (10**9, 1))
    },
    **{f"time scale {s}": ("h264.mp4", [(b"mdhd", 12, ">I", (s,))]) for s in (0, 1, 10**9)},
    **{
        f"{kind} of {w}x{h}": (kind, [(mark, offset, form, (w, h))])
        for w, h in ((30000, 30000), (65535, 65535), (0, 0), (65535, 1))
        for kind, mark, offset, form in (
            ("h264.mp4", b"avc1", 24, ">HH"),
            ("mpeg4.avi", b"strf", 8, "<ii"),
            ("mjpeg.avi", b"\xff\xc0", 3, ">HH"),
            ("gif.gif", b"GIF89a", 0, "<HH"),
        )
    },
}


@pytest.mark.parametrize("lie", LIES)
def test_headers_that_lie_are_not_believed(
    tmp_path: Path, whole: dict[str, Path], decoder: GuardedDecoder, lie: str
) -> None:
    kind, patches = LIES[lie]
    path = tmp_path / kind
    path.write_bytes(whole[kind].read_bytes())
    for mark, offset, form, values in patches:
        patch(path, mark, offset, form, *values)
    found, good = outcome(decoder, path), stored(decoder, whole[kind])
    if found.frames is not None:
        assert 1 <= len(found.frames) <= 30
        assert 0 <= found.about.fps <= 1e5
        if found.frames.shape == good.shape:
            np.testing.assert_array_equal(found.frames, good)
    assert peak_mb(decoder) < LIMIT_MB


def test_promise_of_more_is_remarked(tmp_path: Path, decoder: GuardedDecoder) -> None:
    for kind, mark, offset, form in (
        ("mpeg4.avi", b"strh", 36, "<I"),
        ("h264.mkv", b"\x44\x89\x88", 0, ">d"),
    ):
        path = patch(write(tmp_path / kind), mark, offset, form, 1 << 20)
        found = outcome(decoder, path)
        assert found.frames is not None
        assert len(found.frames) == 30
        assert "1.2 s" in (found.about.remark or "")


def test_small_file_of_a_gigantic_frame(tmp_path: Path, decoder: GuardedDecoder) -> None:
    """The largest frame allowed stays within memory; larger ones are not decoded."""
    path = patch(write(tmp_path / "gif.gif", 1), b"GIF89a", 0, "<HH", 8192, 8192)
    assert stored(decoder, path).shape == (1, 128, 128, 3)
    for width, height in ((8193, 8192), (40000, 2)):
        patch(path, b"GIF89a", 0, "<HH", width, height)
        assert "too large" in outcome(decoder, path).reason
    assert peak_mb(decoder) < LIMIT_MB


def test_encrypted_video_is_said_to_be(tmp_path: Path, decoder: GuardedDecoder) -> None:
    key = {"encryption_key": "00" * 16, "encryption_kid": "11" * 16}
    for kind in ("h264.mp4", "mpeg4.mp4"):
        path = write(tmp_path / kind, container={"encryption_scheme": "cenc-aes-ctr", **key})
        assert outcome(decoder, path).reason == "pyav: the video is encrypted"


def test_cover_picture_is_no_video(tmp_path: Path, decoder: GuardedDecoder) -> None:
    path = tmp_path / "song.mp4"
    with av.open(str(path), "w") as container:
        sound: Any = container.add_stream("aac", rate=8000, layout="mono")
        cover: Any = container.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 64, 48, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        frame = av.VideoFrame.from_ndarray(pictures(1, (64, 48))[0], format="rgb24")
        container.mux([*cover.encode(frame), *cover.encode()])
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.float32), "fltp", "mono")
        silence.sample_rate = 8000
        container.mux([*sound.encode(silence), *sound.encode()])
    assert outcome(decoder, path).reason == "pyav: no video stream"


# --- what is no video ------------------------------------------------------------------------

PLAYLISTS: dict[str, Callable[[str, int], str]] = {
    "m3u8": lambda file, _: (
        f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{file}\n#EXT-X-ENDLIST\n"
    ),
    "m3u8 from http": lambda _, port: (
        f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nhttp://127.0.0.1:{port}/a.ts\n"
    ),
    "concat": lambda file, _: f"ffconcat version 1.0\nfile {os.path.basename(file)}\n",
    "concat by file:": lambda file, _: f"ffconcat version 1.0\nfile 'file:{file}'\n",
    "sdp": lambda _, port: f"v=0\nc=IN IP4 127.0.0.1\nt=0 0\nm=video {port} RTP/AVP 32\n",
    "mpd": lambda file, _: f'<?xml version="1.0"?><MPD><BaseURL>{file}</BaseURL></MPD>',
    "pls": lambda file, _: f"[playlist]\nFile1={file}\n",
    "name alone": lambda file, _: file,
}


@pytest.mark.parametrize("kind", PLAYLISTS)
def test_playlists_open_nothing(
    tmp_path: Path, whole: dict[str, Path], decoder: GuardedDecoder, kind: str
) -> None:
    secret = tmp_path / "secret.ts"
    secret.write_bytes(whole["h264.ts"].read_bytes())
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        path = tmp_path / "video.ts"
        path.write_text(PLAYLISTS[kind](str(secret), server.getsockname()[1]))
        found = outcome(decoder, path)
        with pytest.raises(BlockingIOError):
            server.accept()
    assert found.frames is None


def _jpeg() -> bytes:
    return cv2.imencode(".jpg", pictures(1, (64, 48))[0])[1].tobytes()


NO_VIDEO = {
    "empty": b"",
    "zeros": bytes(10000),
    "text": b"not a video\n" * 500,
    "jpeg": _jpeg(),
    "png": png_bomb(64, 48),
    "zip": b"PK\x03\x04" + bytes(500),
    "noise": random.Random(0).randbytes(20000),
    "box without end": struct.pack(">I4s", 0xFFFFFFFF, b"moov") + bytes(1000),
    "box of 0": struct.pack(">I4s", 0, b"moov") * 100,
    "deep boxes": b"".join(struct.pack(">I4s", 8 * (5000 - i), b"moov") for i in range(5000)),
}


def test_pipes_devices_folders_and_loops_are_not_waited_for(
    tmp_path: Path, decoder: GuardedDecoder
) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "zero.mp4").symlink_to("/dev/zero")
    (tmp_path / "loop.mp4").symlink_to("loop.mp4")
    (tmp_path / "folder.mp4").mkdir()
    for name in ("pipe", "zero", "loop", "folder", "missing"):
        assert "cannot be read: " in outcome(decoder, tmp_path / f"{name}.mp4").reason, name


def test_prep_goes_on_past_all_of_them(tmp_path: Path, whole: dict[str, Path], slic: Any) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    for number, (what, data) in enumerate(NO_VIDEO.items()):
        (folder / f"{number} {what}.mp4").write_bytes(data)
    data = whole["mjpeg.avi"].read_bytes()
    (folder / "cut.avi").write_bytes(data[: len(data) // 2])
    (folder / "good.avi").write_bytes(data)
    (folder / "link.avi").symlink_to(whole["h264.mkv"])
    os.mkfifo(folder / "pipe.mp4")
    (folder / "zero.mp4").symlink_to("/dev/zero")
    (folder / "loop.mp4").symlink_to("loop.mp4")
    (folder / "folder.mp4").mkdir()
    store = str(tmp_path / "s.zarr")
    code, out, _ = slic("prep", "frames", str(folder), "--store", store, "--workers", "1", "--json")
    result = json.loads(out)
    assert code == 1
    assert (result["written"], result["failed"]) == (3, len(NO_VIDEO))
    assert [entry["id"] for entry in result["damaged"]] == ["cut.avi"]
    assert all(entry["reason"].isprintable() for entry in result["failures"])
    assert ClipStore(store).entry("good.avi").frames == 30
    assert ClipStore(store).entry("link.avi").frames == 30
    code, out, _ = slic("prep", "frames", str(folder), "--store", store, "--json")
    assert (code, json.loads(out)["skipped"]) == (0, 3)


# --- images ----------------------------------------------------------------------------------


def test_image_bombs_are_refused(tmp_path: Path, decoder: GuardedDecoder) -> None:
    (tmp_path / "1.png").write_bytes(png_bomb(16384, 16384))
    (tmp_path / "2.png").write_bytes(png_bomb(40000, 16))
    jpeg = bytearray(_jpeg())
    struct.pack_into(">HH", jpeg, jpeg.index(b"\xff\xc0") + 5, 65500, 65500)
    (tmp_path / "3.jpg").write_bytes(jpeg)
    (tmp_path / "4.jpg").write_bytes(_jpeg()[:200])
    (tmp_path / "5.png").write_bytes(png_bomb(64, 48)[:60])
    for path in sorted(tmp_path.iterdir()):
        with pytest.raises(DecodeError, match=rf"images: {path.name} ") as caught:
            list(_images(decoder, [path]))
        assert str(caught.value).isprintable()
    assert peak_mb(decoder) < LIMIT_MB


def _images(decoder: GuardedDecoder, files: list[Path]) -> Iterator[np.ndarray]:
    return decoder.blocks(
        files[0].parent,
        reader="images",
        short_side=128,
        about=Decoding(),
        files=[[f] for f in files],
    )


def test_images_of_every_sort_against_pillow(tmp_path: Path) -> None:
    from PIL import Image

    picture = Image.fromarray(pictures(1, (64, 48))[0])
    turned = Image.Exif()
    turned[274] = 6  # a quarter turn, which is not applied, to images alike
    forms = {mode: picture.convert(mode) for mode in ("RGB", "L", "P", "1", "RGBA", "LA")}
    paths = [(tmp_path / f"{mode}.png", image) for mode, image in forms.items()]
    paths += [(tmp_path / "RGB.jpg", picture), (tmp_path / "grey.jpg", forms["L"])]
    for path, image in paths:
        image.save(path, exif=turned)
        (found,) = read_pictures([[str(path)]])
        expected = np.asarray(Image.open(path).convert("RGB"))
        np.testing.assert_array_equal(found, expected, err_msg=path.name)
    picture.convert("CMYK").save(tmp_path / "cmyk.jpg", quality=95)
    (found,) = read_pictures([[str(tmp_path / "cmyk.jpg")]])
    assert np.abs(found.astype(int) - np.asarray(picture)).mean() < 4
    deep = np.asarray(forms["L"]).astype(np.uint16) * 257
    Image.fromarray(deep).save(tmp_path / "16.png")
    (found,) = read_pictures([[str(tmp_path / "16.png")]])
    np.testing.assert_array_equal(found[..., 0], deep // 257)
    picture.save(tmp_path / "moving.png", save_all=True, append_images=[picture.rotate(180)])
    (found,) = read_pictures([[str(tmp_path / "moving.png")]])
    np.testing.assert_array_equal(found, np.asarray(picture))


# --- at length -------------------------------------------------------------------------------


def soak_hostile_video(seed: int, minutes: float) -> dict[str, Any]:
    """Damage videos at random and decode them in one child, until the time is over.

    After each, a good video must decode as before, bit for bit.

    Returns:
        Counts: tried, stored, refused, peak_child_MB, and `unexpected`, a line each.
    """
    rng = random.Random(seed)
    counts: dict[str, Any] = dict.fromkeys(("tried", "stored", "refused", "peak_child_MB"), 0)
    counts["unexpected"] = []
    decoder = GuardedDecoder(stall_limit_s=LIMIT_S)
    with tempfile.TemporaryDirectory() as folder:
        whole = {kind: write(Path(folder) / kind, seed=seed % 1000) for kind in KINDS}
        good = {kind: stored(decoder, path) for kind, path in whole.items()}
        end = time.monotonic() + 60 * minutes
        while time.monotonic() < end:
            kind, other = rng.choice(list(KINDS)), rng.choice(list(KINDS))
            path = Path(folder) / f"damaged{rng.choice(list(whole.values())).suffix}"
            path.write_bytes(damaged(whole[kind].read_bytes(), whole[other].read_bytes(), rng))
            counts["tried"] += 1
            try:
                found = outcome(decoder, path)
                counts["stored" if found.frames is not None else "refused"] += 1
                assert "no end" not in found.reason, found.reason
                assert np.array_equal(stored(decoder, whole[other]), good[other]), other
                counts["peak_child_MB"] = max(counts["peak_child_MB"], peak_mb(decoder))
                assert counts["peak_child_MB"] < 4 * LIMIT_MB, "too much memory"
            except Exception as error:
                counts["unexpected"].append(f"{counts['tried']} {kind}: {error!r}")
    decoder.close()
    return counts
