"""The loop trains what is not of SLIC's shape: a method of this file's own."""

import importlib.metadata
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from slic.cache import ClipStore
from slic.clips.positions import clip_span, random_start
from slic.clips.samples import Clip
from slic.clips.seeding import even_batches, seeded
from slic.config import Settings, read_preset, reading, setting, settings_from
from slic.encoders.checkpoints import load_checkpoint, load_encoder
from slic.encoders.encoder import new_encoder
from slic.encoders.tensor_files import state_mismatch
from slic.engine.checkpoint import resume
from slic.engine.forward import ComputeOptions, make_forward
from slic.engine.loop import Loop
from slic.engine.task import Sums
from slic.errors import CheckpointError, SettingsError
from slic.runs import Run, create_run, open_run
from slic.train.methods.base import Method
from slic.train.run import train
from slic.train.training import training

CPU = torch.device("cpu")
STEPS = 3  # an epoch: 18 training videos in batches of 6
STAGE = 2  # the epoch with which the second stage begins


@dataclass(frozen=True, kw_only=True)
class ToySettings(Settings):
    """Settings that SLIC does not know, and none of SLIC's own.

    Attributes:
        queued: keys of earlier steps.
        inertia: of the second network.
        second_stage: the epoch with which it begins.
    """

    method: ClassVar[str] = "toy"

    queued: int = setting(16, at_least=2, help="Keys of earlier steps.")
    inertia: float = setting(0.9, at_least=0, at_most=1, help="Of the second network.")
    second_stage: int = setting(STAGE, at_least=1, help="First epoch of it.")


@dataclass(frozen=True)
class Five:
    """Five clips of a video."""

    video: str
    starts: tuple[int, ...]
    seed: int

    @property
    def clips(self) -> tuple[Clip, ...]:
        return tuple(Clip(self.video, start) for start in self.starts)


class Toy(Method):
    """Four clips each find the fifth, as another network embeds it, among those of a queue.

    The other network follows the first. First all is trained, by SGD; then the last layers alone,
    by another optimiser.
    """

    Settings = ToySettings
    clips_per_sample = 5
    settings: ToySettings

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        s = self.settings
        other = new_encoder(s.encoder, seed=s.seed + 1).to(self.compute.device)
        self.other = other.to(memory_format=torch.channels_last_3d).train()
        self.embed_other = make_forward(self.other, self.compute, s.precision)
        rows = torch.randn(s.queued, 128, generator=torch.Generator().manual_seed(s.seed))
        self.queue = normalize(rows)
        self.stage = 0
        self.entered: list[int] = []

    def enter(self, epoch: int) -> None:
        self.entered.append(epoch)
        stage = int(epoch >= self.settings.second_stage)
        if stage != self.stage:
            self.stage = stage
            self.optimiser = torch.optim.AdamW(self.encoder.head.parameters(), lr=1e-3)

    def plan(self, epoch: int) -> list[list[Five]]:  # type: ignore[override]
        lengths, settings = self.lengths, self.settings
        rng, span = seeded(settings.seed, epoch, "toy"), clip_span(settings.frames, settings.stride)
        samples = [
            Five(
                video,
                tuple(random_start(lengths[video], span, rng) for _ in range(5)),
                int(rng.integers(2**62)),
            )
            for video in rng.permutation(sorted(lengths)).tolist()
        ]
        return even_batches(samples, settings.batch_size)

    def loss(
        self, clips: Tensor, batch: Sequence[Any], *, epoch: int, step: int
    ) -> tuple[Tensor, Sums]:
        with torch.no_grad():
            self.keys = normalize(self.embed_other(clips[4]))
        *asked, _ = self.project(clips, len(batch))
        among = torch.cat((self.keys, self.queue))
        target = torch.arange(len(batch)).repeat(4)
        loss = cross_entropy(normalize(torch.cat(asked)) @ among.T / 0.1, target)
        return loss, {"loss": (loss.detach() * len(batch)).double()}

    def after_step(self) -> None:
        with torch.no_grad():
            for mine, theirs in zip(
                self.other.parameters(), self.encoder.parameters(), strict=True
            ):
                mine.lerp_(theirs, 1 - self.settings.inertia)
        self.queue = torch.cat((self.queue, self.keys))[-self.settings.queued :]

    def validate(self, epoch: int) -> dict[str, Any]:
        return {"stage": self.stage}

    def end_epoch(
        self,
        plan: Sequence[Sequence[Any]],
        sums: Mapping[str, float],
        measured: Mapping[str, Any],
        *,
        epoch: int,
    ) -> dict[str, Any]:
        return {**super().end_epoch(plan, sums, measured, epoch=epoch), **measured}

    def figures(self, plan: Sequence[Sequence[Any]], sums: Mapping[str, float]) -> dict[str, Any]:
        return {"loss": sums["loss"] / sum(map(len, plan))}

    def state(self) -> dict[str, Any]:
        return {"queue": self.queue, "other": self.other.state_dict()}

    def load_state(self, state: Mapping[str, Any], epoch: int) -> None:
        if state.keys() != {"queue", "other"}:
            raise ValueError("no queue")
        if unfit := state_mismatch({"queue": state["queue"]}, {"queue": self.queue}):
            raise ValueError(unfit)
        if unfit := state_mismatch(state["other"], self.other.state_dict()):
            raise ValueError(f"the second network: {unfit}")
        self.queue = state["queue"].clone()
        self.other.load_state_dict(state["other"])


@pytest.fixture(scope="module", autouse=True)
def offered() -> Iterator[None]:
    """As if another package offered the method."""
    real = importlib.metadata.entry_points

    class Point:
        name = "toy"

        def load(self) -> type[Toy]:
            return Toy

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "entry_points", lambda group: [*real(group=group), Point()])
        yield


OPTIONS = {"frames": 2, "stride": 1, "size": 12, "batch_size": 6, "epochs": 4, "optimiser": "sgd"}
COMMON = {each.name for each in fields(Settings)}
VALUES = {k: v for k, v in read_preset("cpu-small").items() if k in COMMON}
TOY = ToySettings(**{**VALUES, **OPTIONS, "lr": 0.05})  # type: ignore[arg-type]


def new_run(folder: Path, store: Path, settings: Settings = TOY) -> Run:
    digest = ClipStore(store).digest(flow=settings.uses_flow)
    return create_run(folder, settings, store=store, store_digest=digest, preset="cpu-small")


def trained(run: Run) -> Toy:
    with training(run, compute=ComputeOptions(CPU), say=str) as (method, loop):
        loop()
    assert isinstance(method, Toy)
    return method


def assert_same(mine: Any, theirs: Any) -> None:
    """Equal bit for bit."""
    assert type(mine) is type(theirs)
    if isinstance(mine, Tensor):
        assert torch.equal(mine, theirs)
    elif isinstance(mine, dict):
        assert list(mine) == list(theirs)
        for key in mine:
            assert_same(mine[key], theirs[key])
    elif isinstance(mine, list):
        for pair in zip(mine, theirs, strict=True):
            assert_same(*pair)
    else:
        assert mine == theirs


def outcome(run: Run) -> dict[str, Any]:
    """All that a training has come to."""
    lines = [{k: v for k, v in line.items() if k != "seconds"} for line in run.records("epoch")]
    return {**load_checkpoint(run.checkpoint), "lines": lines, "done": run.records("done")}


@pytest.fixture(scope="module")
def whole(offered: None, drawn_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run trained without interruption."""
    run = new_run(tmp_path_factory.mktemp("toy") / "whole", drawn_store)
    trained(run)
    return run


def test_a_method_of_another_shape_is_trained(whole: Run) -> None:
    lines = whole.records("epoch")
    assert [(line["step"], line["stage"]) for line in lines] == [(3, 0), (6, 0), (9, 1), (12, 1)]
    assert len(whole.records("done")) == 1
    assert not whole.records("clustering")
    assert not (whole.path / "clusters.h5").exists()
    content = load_checkpoint(whole.checkpoint)
    assert content["state"]["queue"].shape == (16, 128)
    begun = new_encoder(TOY.encoder, seed=TOY.seed).state_dict()
    assert any(not torch.equal(content["model"][k], begun[k]) for k in begun if "stem" in k)
    # The second stage has an optimiser of its own, of fewer weights.
    assert all("exp_avg" in kept for kept in content["optimiser"]["state"].values())
    assert len(content["optimiser"]["state"]) < len(begun) / 2
    # `after_step` was called: the other network left its own start, and the queue was filled anew.
    other = new_encoder(TOY.encoder, seed=TOY.seed + 1).state_dict()
    assert not torch.equal(content["state"]["other"]["stem.0.weight"], other["stem.0.weight"])
    first = torch.randn(16, 128, generator=torch.Generator().manual_seed(TOY.seed))
    assert not torch.isclose(content["state"]["queue"], normalize(first)).all(1).any()


def test_the_exported_network_is_the_encoder(whole: Run) -> None:
    encoder = load_encoder(whole.checkpoint)
    assert_same(dict(encoder.state_dict()), dict(load_checkpoint(whole.checkpoint)["model"]))
    assert open_run(whole.path).settings == TOY


@contextmanager
def stopping_after(steps: int, error: type[BaseException] = KeyboardInterrupt) -> Iterator[None]:
    """Within, training is told to stop before the step that comes after so many."""
    real, done = Loop._step, 0

    def step(self: Loop, *args: Any) -> int | None:
        nonlocal done
        if done == steps:
            raise error
        done += 1
        return real(self, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Loop, "_step", step)
        yield


@pytest.mark.parametrize("steps", [1, 3, 5, 6, 8, 9, 11])
def test_interrupted_in_either_stage_it_goes_on_exactly(
    whole: Run, drawn_store: Path, tmp_path: Path, steps: int
) -> None:
    run = new_run(tmp_path / "run", drawn_store)
    with stopping_after(steps), pytest.raises(KeyboardInterrupt):
        trained(run)
    assert load_checkpoint(run.checkpoint)["progress"]["total_steps"] == steps
    trained(run)
    assert_same(outcome(run), outcome(whole))


def test_each_epoch_is_entered_once(drawn_store: Path, tmp_path: Path) -> None:
    """Or an optimiser made for a stage would be made anew behind its restored state."""
    assert trained(new_run(tmp_path / "whole", drawn_store)).entered == [0, 1, 2, 3]
    run = new_run(tmp_path / "run", drawn_store)
    with stopping_after(STAGE * STEPS + 1), pytest.raises(KeyboardInterrupt):
        trained(run)
    assert trained(run).entered == [2, 3]
    assert trained(run).entered == [3]


class Crash(Exception):
    """What nobody can be told of beforehand."""


@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_after_a_crash_between_two_epochs_it_goes_on_exactly(
    whole: Run, drawn_store: Path, tmp_path: Path, epoch: int
) -> None:
    """Where a stage begins, the last checkpoint is of the stage before."""
    run = new_run(tmp_path / "run", drawn_store)
    with stopping_after(epoch * STEPS, Crash), pytest.raises(Crash):
        trained(run)
    assert load_checkpoint(run.checkpoint)["progress"]["epoch"] == epoch
    trained(run)
    assert_same(outcome(run), outcome(whole))


@pytest.mark.parametrize(
    "change",
    [
        lambda state: {**state, "queue": state["queue"][:-1]},
        lambda state: {**state, "queue": state["queue"].to(torch.int64)},
        lambda state: {**state, "queue": None},
        lambda state: {**state, "other": {}},
        lambda state: {"queue": state["queue"]},
        lambda state: {},
    ],
)
def test_a_state_of_another_method_is_refused(
    whole: Run, tmp_path: Path, change: Callable[[dict[str, Any]], dict[str, Any]]
) -> None:
    content = load_checkpoint(whole.checkpoint)
    content["state"] = change(content["state"])
    torch.save(content, tmp_path / "odd")
    with training(whole, compute=ComputeOptions(CPU), say=str) as (method, _):
        before = {k: v.clone() for k, v in method.encoder.state_dict().items()}
        queue = method.queue.clone()
        with pytest.raises(CheckpointError, match="cannot be continued from") as error:
            resume(tmp_path / "odd", method)
        assert "\n" not in str(error.value)
        assert_same(dict(method.encoder.state_dict()), before)
        assert torch.equal(method.queue, queue)


def test_settings_of_another_method_are_unknown() -> None:
    with pytest.raises(SettingsError, match="unknown setting 'objective'"):
        settings_from({**VALUES, "method": "toy", "objective": "triplet"}, where="here")
    with pytest.raises(SettingsError, match="unknown setting 'queued'"):
        settings_from({**read_preset("cpu-small"), "queued": 3}, where="here")


@pytest.mark.parametrize("by", ["options", "config"])
def test_the_command_trains_it_by_its_name(
    drawn_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("ucf101.zarr").symlink_to(drawn_store)
    Path("mine.toml").write_text('method = "toy"\nqueued = 8\n')
    chosen = {"method": "toy", "queued": 8} if by == "options" else {}
    said: list[str] = []
    how: dict[str, Any] = {
        "preset": "cpu-small",
        "config": "mine.toml" if by == "config" else None,
        "options": {**OPTIONS, "epochs": 1, **chosen},
        "device": "cpu",
        "workers": 0,
        "say": said.append,
    }
    found = train(**how)
    assert (found["epochs"], found["steps"]) == (1, 3)
    run = open_run(Path(found["run"]))
    assert isinstance(run.settings, ToySettings)
    assert run.settings.queued == 8
    assert train(**how) == found
    assert "already done" in said[-1]
