"""`slic eval classify`: a linear layer on a run's embeddings, or finetuning (section 4.3)."""

from collections.abc import Callable, Mapping
from typing import Any

from slic.config import Feature
from slic.errors import InputError
from slic.eval.linear import linear_probe
from slic.eval.recipe import Mode, Recipe
from slic.runs import Run


def classify(
    run: Run,
    *,
    mode: Mode = "linear",
    store: str | None = None,
    split: int | None = None,
    clips: int | None = None,
    feature: Feature | None = None,
    options: Mapping[str, Any] | None = None,
    device: str = "auto",
    workers: int | None = None,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Train a classifier on a split's training videos and measure it on its test videos.

    Args:
        run: whose latest checkpoint.
        mode: `linear` on cached embeddings; `linear-augmented`, a linear layer trained on
            augmented clips; or `finetune`, the whole network.
        store: another store than the run's.
        split: number; the run's if None.
        clips: clips a video, of which `linear` takes the mean embedding, and the others test on
            all; if None, the run's setting, and 10.
        feature: which embedding; None and `backbone` are the same, `projection` is for `linear`.
        options: fields of `Recipe` for the other modes, None where they are not given; the seed
            is then the run's.
        device, workers: for what is not there yet.
        say: takes lines meant for the user.

    Returns:
        run, store, split, mode, train, validation, test (videos), top1, top5 (fractions),
        feature, clips, crops, per_class ({label: top-1}), confusion (path of a JSON file with
        the confusion matrix and every prediction); of `linear` also cache, of the others epochs,
        best_epoch (from 1) and validation_top1.

    Raises:
        InputError and its kinds: unusable input.
        WorkError: training diverged, memory did not suffice, or a video is damaged.
    """
    number = run.settings.split if split is None else split
    given = {name: value for name, value in (options or {}).items() if value is not None}
    if mode == "linear":
        if given:
            name = next(iter(given)).replace("_", "-")
            raise InputError(f"--{name} is not of --mode linear, but of the other modes")
        return linear_probe(
            run,
            store=store,
            split=number,
            clips=clips,
            feature=feature or "backbone",
            device=device,
            workers=workers,
            say=say,
        )
    if feature == "projection":
        raise InputError(f"--feature projection: --mode {mode} has a linear layer in its place")
    from slic.eval.finetune import finetune

    seed = {"seed": run.settings.seed}
    return finetune(
        run,
        mode=mode,
        store=store,
        split=number,
        recipe=Recipe(**seed | given | ({} if clips is None else {"clips": clips})),
        device=device,
        workers=workers,
        say=say,
    )
