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
    """Train a classifier on a split's training videos, and measure it on its test videos.

    Args:
        run: The run whose latest checkpoint is evaluated.
        mode: `linear`: logistic regression on cached embeddings. `linear-augmented`: a linear
            layer on a frozen backbone, trained on augmented clips. `finetune`: the whole network.
        store: Path of the clip store; default: the run's.
        split: Number of the split; default: the run's.
        clips: Clips of each video: `linear` averages their embeddings, the other modes test on
            all of them. Default: the run's setting, or 10.
        feature: Embedding to classify, `backbone` (default) or `projection`; the latter only in
            mode `linear`.
        options: Fields of `Recipe` for the other modes; None leaves the default. The default seed
            is the run's.
        device: `auto`, `cpu`, `cuda` or `cuda:<number>`.
        workers: Processes that read clips; default: by device.
        say: Called with each message for the user.

    Returns:
        run, store, split, pretrained_on, mode; train, validation, test: numbers of videos; top1,
        top5: fractions; feature, clips, crops; per_class: top-1 by label; confusion: path of a
        JSON file with the confusion matrix and every prediction. Mode `linear` adds cache, the
        others epochs, best_epoch (from 1) and validation_top1.

    Raises:
        InputError: Unusable input, or one of its subclasses.
        WorkError: Training diverged, memory was exhausted, or a video is damaged.
    """
    given = {name: value for name, value in (options or {}).items() if value is not None}
    shared: dict[str, Any] = {
        "store": store,
        "split": run.settings.split if split is None else split,
        "device": device,
        "workers": workers,
        "say": say,
    }
    if mode == "linear":
        if given:
            name = next(iter(given)).replace("_", "-")
            raise InputError(f"--{name} has no effect in --mode linear: omit it")
        return linear_probe(run, clips=clips, feature=feature or "backbone", **shared)
    if feature == "projection":
        raise InputError(f"--feature projection: --mode {mode} classifies the backbone's output")
    from slic.eval.finetune import finetune

    if clips is not None:
        given["clips"] = clips
    recipe = Recipe(**{"seed": run.settings.seed, **given})
    return finetune(run, mode=mode, recipe=recipe, **shared)
