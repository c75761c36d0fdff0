"""`prep flow --check`: figures worked by hand, and stores whose flow is not of their frames."""

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import zarr

import slic.prep.check as check_module
from slic import cli
from slic.cache import ClipStore, Codec, Entry, quantise, video_key
from slic.errors import InputError, StoreError
from slic.prep.check import check_flow
from slic.prep.tvl1 import Tvl1Parameters, tvl1_flow

RAW, JPEG = Codec("zstd", quality=0), Codec("jpeg", quality=95)
HEIGHT, WIDTH, BOUND = 36, 48, 3.0
STEPS = ((1.5, -1), (-2, 0.5), (0.5, 2), (2.5, 1))  # pixels, right and down


@pytest.fixture
def _here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs run in this process: what is tested is not how they are spread."""

    def serial(work: Callable, jobs: Iterable, *, workers: int) -> Iterator[Any]:
        return map(work, list(jobs)[::-1])

    monkeypatch.setattr(check_module, "run_jobs", serial)


def moving(count: int, *, seed: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """A texture that moves by another step of `STEPS` each frame, `(T, H, W, 3)` uint8."""
    rng = np.random.default_rng(seed)
    ground = cv2.resize(rng.integers(0, 256, (20, 24, 3)).astype(np.uint8), (96, 80))
    place, frames = np.array([24.0, 22.0]), []
    for number in range(count):
        shift = np.float64([[1, 0, -place[0]], [0, 1, -place[1]]])
        frames.append(cv2.warpAffine(ground, shift, (width, height)))
        place -= STEPS[(number + seed) % len(STEPS)]
    return np.stack(frames)


def gray(frames: np.ndarray) -> np.ndarray:
    return np.stack([cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames])


def put(
    store: ClipStore,
    video: str,
    frames: np.ndarray,
    levels: np.ndarray | None,
    *,
    codec: Codec = RAW,
    bound: float = BOUND,
    parameters: dict | None = None,
) -> None:
    """Store a video and levels of flow, by the same steps as prep."""
    count, height, width, _ = frames.shape
    attributes = {"bound": bound, "engine": "by-hand", "parameters": asdict(Tvl1Parameters())}
    if parameters is not None:
        attributes["parameters"] = parameters
    for view, fields, more in (("frames", frames, {"source": video}), ("flow", levels, attributes)):
        if fields is not None:
            with store.write(video, view=view, codec=RAW if view == "frames" else codec) as writer:
                for field in fields:
                    writer.append(field)
                writer.close({"id": video, **more}, empty_shape=(height, width, 2))
                store.publish(writer, video, view=view)
    entry = Entry(video, video_key(video), video, None, None, None, None, None)
    entry = replace(entry, frames=count, height=height, width=width, fps=25.0)
    store.index.put(replace(entry, source_digest=video, settings="s"))
    if levels is not None:
        store.index.set_flow(store.entry(video), "f")


def make(path: Path, videos: dict[str, tuple], **how: Any) -> Path:
    store = ClipStore.create(path)
    for video, (frames, levels) in videos.items():
        put(store, video, frames, levels, **how)
    store.index.close()
    return path


def right(frames: np.ndarray, *, bound: float = BOUND, **parameters: Any) -> np.ndarray:
    return quantise(tvl1_flow(gray(frames), engine="cpu", **parameters), bound)


@pytest.fixture(scope="module")
def videos() -> dict[str, tuple]:
    """Three videos with right flow by the `cpu` engine, and one of a single frame."""
    found = {f"{name}.avi": moving(5, seed=seed) for seed, name in enumerate("abc")}
    one = moving(1, seed=5)
    flows = {video: (frames, right(frames)) for video, frames in found.items()}
    return {**flows, "one.avi": (one, np.empty((0, HEIGHT, WIDTH, 2), np.uint8))}


def run(*words: str) -> int:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["slic", *words])
        with pytest.raises(SystemExit) as stop:
            cli.main()
    return int(stop.value.code or 0)


# --- figures ---------------------------------------------------------------------------------


@pytest.mark.usefixtures("_here")
def test_figures_are_those_of_a_plain_loop(videos: dict, tmp_path: Path) -> None:
    path = make(tmp_path / "s.zarr", videos, codec=JPEG)
    result = check_flow(str(path), pairs=100)
    errors, equal, near, alike = [], [], [], []
    for video in ("a.avi", "b.avi", "c.avi"):
        stored = zarr.open_array(path / "flow" / video_key(video), mode="r")[:].astype(float)
        frames = gray(videos[video][0])
        for t in range(4):
            solver = cv2.optflow.DualTVL1OpticalFlow_create()
            flow = np.clip(solver.calc(frames[t], frames[t + 1], None), -BOUND, BOUND)
            pixels = (stored[t] - 128) * BOUND / 127
            errors.append(np.hypot(*np.moveaxis(pixels - flow, -1, 0)).mean())
            levels = 128 + np.rint(127 * flow / BOUND)
            equal.append((stored[t] == levels).mean())
            near.append((np.abs(stored[t] - levels) <= 1).mean())
            back = JPEG.encode(levels.astype(np.uint8))
            again = np.empty_like(levels, dtype=np.uint8)
            JPEG.decode(back, again)
            alike.append((np.abs(again - levels) <= 1).mean())
    figures = result.json()
    assert (figures["pairs"], figures["of_pairs"], figures["videos"]) == (12, 12, 3)
    assert figures["error_px"] == pytest.approx(np.mean(errors), rel=1e-4)
    assert figures["worst_px"] == pytest.approx(np.max(errors), rel=1e-4)
    # A value on the verge of two levels may be rounded to either.
    assert figures["equal"] == pytest.approx(np.mean(equal), abs=1e-3)
    assert figures["within_1"] == pytest.approx(np.mean(near), abs=1e-3)
    assert figures["worst_within_1"] == pytest.approx(np.min(near), abs=2e-3)
    assert figures["storing"]["within_1"] == pytest.approx(np.mean(alike), abs=1e-3)
    place = int(np.argmax(errors))
    assert figures["worst"] == {"id": "abc"[place // 4] + ".avi", "pair": place % 4}
    assert (figures["engine"], figures["against"]) == ("by-hand", f"opencv-{cv2.__version__}")
    assert result.problem is None
    assert json.loads(json.dumps(figures)) == figures


@pytest.mark.usefixtures("_here")
def test_flow_of_opencv_stored_without_loss_agrees_but_for_its_levels(
    videos: dict, tmp_path: Path
) -> None:
    frames = videos["a.avi"][0]
    levels = quantise(tvl1_flow(gray(frames), engine="opencv"), BOUND)
    figures = check_flow(str(make(tmp_path / "s.zarr", {"a": (frames, levels)})), pairs=9).json()
    assert (figures["equal"], figures["within_1"], figures["deviation"]) == (1, 1, 0)
    for key, value in figures["storing"].items():
        assert figures[key] == value
    # Each component is half a level off at most, and evenly so.
    assert 0.2 < figures["error_px"] / (BOUND / 127) < 0.5 * 2**0.5


@pytest.mark.usefixtures("_here")
def test_flow_beyond_the_bound_counts_as_the_bound(videos: dict, tmp_path: Path) -> None:
    frames = videos["a.avi"][0]
    store = make(tmp_path / "s.zarr", {"a": (frames, right(frames, bound=0.25))}, bound=0.25)
    figures = check_flow(str(store), pairs=9).json()
    assert figures["worst_px"] < 0.25 / 10
    assert figures["problem"] is None


@pytest.mark.usefixtures("_here")
def test_the_recorded_parameters_are_those_compared_with(videos: dict, tmp_path: Path) -> None:
    frames, how = videos["a.avi"][0], {"lambda_": 0.5, "nscales": 1, "warps": 2}
    parameters = asdict(Tvl1Parameters(**how))
    flow = {"a": (frames, right(frames, **how))}
    same = make(tmp_path / "s.zarr", flow, parameters=parameters)
    assert check_flow(str(same), pairs=9).problem is None
    short = make(tmp_path / "t.zarr", flow, parameters={"lambda_": 0.5})
    assert check_flow(str(short), pairs=9).problem is not None


# --- which pairs -----------------------------------------------------------------------------


@pytest.mark.usefixtures("_here")
def test_pairs_are_distinct_seeded_and_uniform(
    videos: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long, short = moving(9, seed=1), moving(3, seed=2)
    content = {"long": (long, right(long)), "short": (short, right(short)), **videos}
    content["bare"] = (short, None)
    path = str(make(tmp_path / "s.zarr", content))

    def drawn(count: int, seed: int) -> list[tuple[str, int]]:
        result = check_flow(path, pairs=count, seed=seed)
        return [(check.id, check.pair) for check in result.checks]

    everything = [(v, t) for v in ("a.avi", "b.avi", "c.avi") for t in range(4)]
    everything += [("long", t) for t in range(8)] + [("short", t) for t in range(2)]
    one = check_flow(path, pairs=1).checks[0]
    monkeypatch.setattr(
        check_module, "check_pair", lambda _, drawn: replace(one, id=drawn[0], pair=drawn[1])
    )
    assert drawn(22, 0) == drawn(500, 3) == everything
    assert drawn(5, 1) == drawn(5, 1)
    assert drawn(5, 1) != drawn(5, 2)
    counts = Counter(pair for seed in range(400) for pair in drawn(11, seed))
    assert counts.keys() == set(everything)
    # Each is drawn with probability 1/2: 200 times, give or take four deviations of 10.
    assert all(160 <= count <= 240 for count in counts.values())


# --- flow that is not of its frames ----------------------------------------------------------


def of_another_video(videos: dict) -> dict:
    return {**videos, "b.avi": (videos["b.avi"][0], videos["c.avi"][1])}


def of_the_next_frame(videos: dict) -> dict:
    return {v: (frames, np.roll(levels, -1, axis=0)) for v, (frames, levels) in videos.items()}


def with_components_swapped(videos: dict) -> dict:
    return {v: (frames, levels[..., ::-1]) for v, (frames, levels) in videos.items()}


def of_another_lambda(videos: dict) -> dict:
    return {v: (frames, right(frames, lambda_=0.5)) for v, (frames, _) in videos.items()}


@pytest.mark.usefixtures("_here")
@pytest.mark.parametrize(
    "wrong", [of_another_video, of_the_next_frame, with_components_swapped, of_another_lambda]
)
def test_wrong_flow_is_found_and_named(wrong: Callable, videos: dict, tmp_path: Path) -> None:
    path = make(tmp_path / "s.zarr", wrong(videos), codec=JPEG)
    problem = check_flow(str(path), pairs=100).problem
    assert problem is not None
    assert problem.startswith(f"{path}: ")
    assert "b.avi: flow of pair " in problem or wrong is not of_another_video
    assert problem.endswith(f"run `slic prep flow {path} --overwrite`")
    assert "\n" not in problem


@pytest.mark.usefixtures("_here")
def test_still_frames_are_well(tmp_path: Path) -> None:
    still = np.repeat(moving(1, seed=0), 3, axis=0)
    path = make(tmp_path / "s.zarr", {"still": (still, np.full((2, HEIGHT, WIDTH, 2), 128, "u1"))})
    result = check_flow(str(path), pairs=5)
    assert (result.json()["error_px"], result.problem) == (0, None)


# --- what cannot be compared -----------------------------------------------------------------


@pytest.mark.usefixtures("_here")
def test_damaged_chunks_are_named_counted_and_stop_nothing(
    videos: dict, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = make(tmp_path / "s.zarr", videos)
    shard = path / "flow" / video_key("b.avi") / "c.0.0.0.0"
    content = bytearray(shard.read_bytes())
    content[10] ^= 4  # in the first of four fields
    shard.write_bytes(content)
    code = run("prep", "flow", str(path), "--check", "100", "--json")
    out, err = capsys.readouterr()
    figures = json.loads(out)
    assert (code, figures["pairs"], figures["problem"]) == (1, 11, None)
    ((damaged),) = figures["damaged"]
    assert (damaged["id"], damaged["pair"]) == ("b.avi", 0)
    assert "checksum" in damaged["reason"]
    assert "not compared: 1 pair of b.avi: " in err


@pytest.mark.usefixtures("_here")
@pytest.mark.parametrize("recorded", [{"lambda": 0.1}, {"warps": 0}, "none"])
def test_parameters_that_say_nothing_are_damage(
    recorded: Any, videos: dict, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = make(tmp_path / "s.zarr", {"a.avi": videos["a.avi"]}, parameters=recorded)
    result = check_flow(str(path), pairs=2)
    assert (len(result.checks), len(result.damaged)) == (0, 2)
    assert run("prep", "flow", str(path), "--check", "2", "--json") == 1
    out, err = capsys.readouterr()
    assert json.loads(out)["error_px"] is None
    assert err.splitlines()[-1] == f"slic: {path}: none of the sampled pairs could be compared"


@pytest.mark.usefixtures("_here")
def test_lines_of_pixels_are_left_out(
    videos: dict, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = moving(4, seed=1, height=1)
    content = {"line": (line, right(line)), "a.avi": videos["a.avi"]}
    path = make(tmp_path / "s.zarr", content)
    assert run("prep", "flow", str(path), "--check", "100", "--json") == 0
    out, err = capsys.readouterr()
    figures = json.loads(out)
    assert (figures["pairs"], figures["of_pairs"], figures["left_out"]) == (4, 4, 1)
    assert "skipped: 1 video " in err
    only = make(tmp_path / "only.zarr", {"line": content["line"], "one.avi": videos["one.avi"]})
    with pytest.raises(StoreError, match="has no pair of frames"):
        check_flow(str(only), pairs=3)


def test_a_store_without_flow_and_wrong_use(
    videos: dict, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = make(tmp_path / "s.zarr", {"a.avi": (videos["a.avi"][0], None)})
    cases = {
        (str(path), "--check", "5"): f"{path}: has no flow to check; run `slic prep flow {path}`",
        (str(tmp_path / "none.zarr"), "--check", "5"): "none.zarr",
        (str(path), "--check", "0"): "--check 0: must be at least 1",
        (
            str(path),
            "--check",
            "5",
            "--short-side",
            "64",
        ): "--short-side does not apply",
    }
    for words, says in cases.items():
        assert run("prep", "flow", *words) == 2
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1)
        assert says in err
    with pytest.raises(InputError):
        check_flow(str(path), pairs=-1)


# --- as typed --------------------------------------------------------------------------------


@pytest.mark.usefixtures("_here")
def test_the_table_fits_80_columns_and_a_problem_is_the_last_line(
    videos: dict, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    path = make(tmp_path / "s.zarr", videos)
    assert run("prep", "flow", str(path), "--check", "5", "--seed", "2") == 0
    out, _ = capsys.readouterr()
    assert max(map(len, out.splitlines())) <= 80
    assert "end-point error" in out
    wrong = make(tmp_path / "w.zarr", of_another_video(videos))
    assert run("prep", "flow", str(wrong), "--check", "50") == 1
    out, err = capsys.readouterr()
    assert "end-point error" in out
    assert err.splitlines()[-1].startswith(f"slic: {wrong}: b.avi: flow of pair ")
