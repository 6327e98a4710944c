"""Where a policy looks: picture, target and prediction side by side, for held-out moments."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from deft import report
from deft.errors import ConfigError

if TYPE_CHECKING:
    from deft import train
    from deft.bundle import Bundle
    from deft.nn import Batch
    from deft.store import Store


def page(run: str | Path, command: str, count: int) -> report.Page:
    """Build the page.

    Args:
        run: a run, or one of its checkpoints as in `RUN@best`.
        command: the command line that makes this page again.
        count: how many moments, 1 or more; the same ones for every policy of the same data.

    Raises:
        BundleError: there is no checkpoint.
        ConfigError: the policy sees no picture, or nothing was held out.
        StoreError: the data that it was trained on is not there.
    """
    import torch

    from deft import bundle, train

    path = bundle.resolve(run)
    opened = bundle.load(path, golden=False)
    if not opened.spec.role("image"):
        raise ConfigError(
            f"{path}: the policy sees no pictures, so there is nowhere to look.\n"
            f"Found: {', '.join(opened.spec.names)}.\nFix: leave --saliency out."
        )
    job = _job(opened, path, count)
    data = train.chosen(job, train.open_data(job.data, job.data.paths))
    job = _with_maps(job, data, opened)
    windows = train.held_out(job, data, opened.spec)
    if windows is None:
        raise ConfigError(
            f"{path}: nothing was held out, so there is nothing new to look at.\n"
            "Fix: train with val.split=0.1, or convert the data with --val-fraction."
        )
    made = report.Page(f"{'/'.join(path.parts[-5:-2])} {path.name}: where it looks")
    made.command(command)
    batch, _ = next(train.val_batches(job, windows, opened.spec, torch.device("cpu")))
    _add(made, opened, data, batch)
    return made


def _job(opened: "Bundle", path: Path, count: int) -> "train.Job":
    """The settings of the training, with one validation batch of `count` moments."""
    import yaml

    from deft import train
    from deft.spec import from_plain

    about = opened.info["provenance"]
    if "job" not in about or "data" not in about:
        raise ConfigError(
            f"{path}: this bundle does not say which data it was trained on.\n"
            "Fix: give the run that it was exported from."
        )
    job = from_plain(train.Job, {**about["job"], "policy": {}})
    # What a recording was converted to is noted in the run.
    settings = path.parent.parent / "config.yaml"
    where: Any = about["data"]["path"]
    if settings.is_file():
        where = yaml.safe_load(settings.read_text())["data"]["path"]
    return replace(
        job,
        policy=opened.policy.config,
        data=replace(job.data, path=where if isinstance(where, str) else tuple(where)),
        val=replace(job.val, batch_size=count, max_batches=1, offline_freq=1),
    )


def _with_maps(job: "train.Job", data: "Store", opened: "Bundle") -> "train.Job":
    """The job with maps loaded where the data has them, whether they were trained with or not."""
    from deft import policies

    cameras = [camera.name for camera in opened.spec.role("image")]
    there = bool(policies.saliency_features(data.spec, cameras))
    saliency = replace(job.policy.saliency, enabled=there, weight=job.policy.saliency.weight or 1.0)
    return replace(job, policy=replace(job.policy, saliency=saliency))


def _add(made: report.Page, opened: "Bundle", data: "Store", batch: "Batch") -> None:
    from deft.cli.view_pictures import lay_over

    config = opened.policy.config.saliency
    maps, inside = _predicted(opened, batch), list[float]()
    rows = range(len(batch))
    made.text(
        f"{len(rows)} held-out moments of {data.path.name}, the last observed tick of each. "
        "The prediction is the strength of the network's last map, stretched from 0 to 1. "
        + (
            f"Trained with saliency of weight {config.weight:g}."
            if config.acts
            else "Trained without saliency."
        )
    )
    strips: list[tuple[str, list[np.ndarray], list[str]]] = []
    for row in rows:
        for camera, predicted in maps.items():
            picture = batch.obs[camera][row, -1].numpy()
            title, shown, captions = f"{row + 1}, {camera}", [picture], ["picture"]
            if camera in batch.saliency:
                target = batch.saliency[camera][row, -1].numpy()[..., None]  # H W 1
                shown.append(lay_over(picture, target))
                captions.append("target" if target.any() else "target: nobody knows")
                if target.any():
                    inside.append(_share(predicted[row], target[..., 0]))
                    title += f": {inside[-1]:.0%} of the prediction on the target"
            shown.append(lay_over(picture, predicted[row][..., None]))
            captions.append("prediction")
            strips.append((title, shown, captions))
    if inside:
        area = float(np.mean([(m[:, -1] > 0).float().mean() for m in batch.saliency.values()]))
        made.numbers(
            {
                "Prediction on the target": (float(np.mean(inside)), "mean share"),
                "Area of the target": (area, "what looking everywhere alike gives"),
            }
        )
    else:
        made.text("The data has no maps of these cameras, so there is no target.")
    for title, shown, captions in strips:
        made.strip(shown, captions, title=title)


def _predicted(opened: "Bundle", batch: "Batch") -> dict[str, np.ndarray]:
    """Where the networks look, by camera, float32 `B H W`, 0 to 1."""
    import torch

    from deft import nn

    encoder: Any = opened.policy.encoder
    beta = opened.policy.config.saliency.beta
    with torch.no_grad():
        encoded = encoder.encode(batch.obs, goal=batch.goal, language=batch.language)
    found: dict[str, np.ndarray] = {}
    for camera, maps in encoded.maps.items():
        height, width = batch.obs[camera].shape[2:4]
        found[camera] = nn.predicted_saliency(maps[:, -1], beta, height, width).numpy()
    return found


def _share(predicted: np.ndarray, target: np.ndarray) -> float:
    """How much of the prediction lies where the target is above 0."""
    # Stretching lifts the background from nothing to a little, everywhere.
    raised = np.maximum(predicted - np.median(predicted), 0)
    return float(raised[target > 0].sum() / max(raised.sum(), 1e-9))
