"""Accuracy on networks and people that training never saw, by the number of networks trained on.

The crops dataset holds swaps of several pairs of people, each swapped in both directions by one network of
every generator. A draw takes some pairs for the test and one for validation; the first 1, 2, 4 ... of the
others train the network of `dfdm-ray train`, for equal numbers of steps. Accuracy is over five generators and
over the two families (64 and 128 pixels drawn), from each video alone and after subtraction of the mean
logits of its direction (target and source, all generators equally frequent, labels unused). A second table
repeats this for the largest count on archives in which one generator dominates. Intervals are bootstraps over
networks. Finished trainings are kept in --out.

python benchmarks/unseen_networks.py --crops CROPS --out FOLDER [--counts 1 2 4 8 all] [--draws 3]
"""

import argparse
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import torch
from matplotlib.figure import Figure
from report import Table, parser, save, show

from dfdm_ray.clips.crops_dataset import prepared, read_index, read_settings
from dfdm_ray.io import storage
from dfdm_ray.jobs.evaluate.metrics import share
from dfdm_ray.jobs.train.config import Recipe
from dfdm_ray.jobs.train.data import Videos
from dfdm_ray.jobs.train.inputs import preprocessing_of
from dfdm_ray.jobs.train.loop import Fit
from dfdm_ray.labels import FAMILY, GENERATORS
from dfdm_ray.manifest.networks import pairs_of
from dfdm_ray.models.checkpoint import random_model
from dfdm_ray.models.dma_sta import DmaStaConfig

Floats = npt.NDArray[np.float64]
SCORES = ("generators", "families", "generators, centred", "families, centred")
FAMILIES = np.array([sorted(set(FAMILY.values())).index(FAMILY[name]) for name in GENERATORS])


def swaps(crops: str) -> pa.Table:
    """Return the index of the swaps in a crops dataset, with the column ``pair``, sorted by video."""
    index = prepared(read_index(crops))
    index = index.filter(pc.is_in(index["generator"], pa.array(GENERATORS))).sort_by("video_id")
    return index.append_column("pair", pairs_of(index))


def videos_of(rows: pa.Table, root: str) -> Videos:
    """Return rows of :func:`swaps` for training."""
    columns = {name: tuple(rows[name].to_pylist()) for name in ("file", "video_id", "generator")}
    labels = tuple(GENERATORS.index(name) for name in columns["generator"])
    return Videos(root=root, files=columns["file"], video_ids=columns["video_id"], labels=labels)


def parts_of(index: pa.Table, *, draw: int, test_pairs: int) -> tuple[list[str], list[str], list[str]]:
    """Return the pairs to train on, of which one can take the first few, to validate on and to test on."""
    pairs = sorted(set(index["pair"].to_pylist()))
    order = [pairs[at] for at in np.random.default_rng(draw).permutation(len(pairs))]
    return order[test_pairs + 1 :], [order[test_pairs]], order[:test_pairs]


def of_pairs(index: pa.Table, pairs: Sequence[str]) -> pa.Table:
    """Return the rows of some pairs."""
    return index.filter(pc.is_in(index["pair"], pa.array(pairs)))


def centred(logits: Floats, groups: Sequence[object]) -> Floats:
    """Return the logits without the mean of their group."""
    _, number = np.unique([str(group) for group in groups], return_inverse=True)
    sums = np.zeros((number.max() + 1, logits.shape[1]))
    np.add.at(sums, number, logits)
    return logits - (sums / np.bincount(number)[:, None])[number]


def right(logits: Floats, labels: npt.NDArray[np.int64], directions: Sequence[object]) -> dict[str, Floats]:
    """Return whether each video is answered rightly, 0 or 1, by each of :data:`SCORES`."""
    found: list[npt.NDArray[np.bool_]] = []
    for answer in (one.argmax(1) for one in (logits, centred(logits, directions))):
        found += [answer == labels, FAMILIES[answer] == FAMILIES[labels]]
    return {name: one.astype(np.float64) for name, one in zip(SCORES, found, strict=True)}


def skewed(result: dict[str, Any], crf: int, dominant: float) -> Floats:
    """Return the means of :data:`SCORES` on archives in which one generator has the share ``dominant``.

    Each generator dominates in turn; the others lose videos of each direction at random, five times.
    """
    at = np.flatnonzero(np.array(result["crf"]) == crf)
    logits, labels = np.array(result["logits"])[at], np.array(result["labels"])[at]
    directions = [tuple(result["directions"][i]) for i in at]
    rng, means = np.random.default_rng(0), []
    for generator in list(range(len(GENERATORS))) * 5:
        kept: list[int] = []
        for one in sorted(set(directions)):
            there = np.array([direction == one for direction in directions])
            own, others = (
                np.flatnonzero(there & (labels == generator)),
                np.flatnonzero(there & (labels != generator)),
            )
            number = min(len(others), round(len(own) * (1 - dominant) / dominant))
            kept += [*own, *rng.choice(others, number, replace=False)]
        found = right(logits[kept], labels[kept], [directions[i] for i in kept])
        means.append([found[score].mean() for score in SCORES])
    return np.asarray(np.mean(means, axis=0))


def answers(fit: Fit, rows: pa.Table, root: str) -> dict[str, Any]:
    """Return facts, labels and logits of videos; the weights are those after the last step."""
    videos = videos_of(rows, root)
    columns = {name: rows[name].to_pylist() for name in ("crf", "pair", "target_identity", "source_identity")}
    return {
        "epochs": len(fit.history),
        "labels": videos.labels,
        "networks": [f"{pair} {name}" for pair, name in zip(columns["pair"], videos.labels, strict=True)],
        "directions": [*zip(columns["target_identity"], columns["source_identity"], strict=True)],
        "crf": columns["crf"],
        "logits": fit.logits(videos).tolist(),
    }


def epochs_of(steps: int, num_videos: int) -> int:
    return max(1, round(steps * Recipe.batch_size / num_videos))


def train_and_test(args: argparse.Namespace, index: pa.Table, draw: int, count: int | None) -> dict[str, Any]:
    """Train on ``count`` pairs (``None``: all left) and return the answers for the test videos."""
    to_train, val, test = parts_of(index, draw=draw, test_pairs=args.test_pairs)
    settings = read_settings(args.crops)
    preprocessing = preprocessing_of(settings)
    train_on, validate_on = (
        videos_of(of_pairs(index, pairs), args.crops) for pairs in (to_train[:count], val)
    )
    config = DmaStaConfig(
        backbone=args.backbone, num_frames=args.frames or int(settings["num_frames"]), high_pass=True
    )
    model = random_model(config, seed=draw)
    model.open_gates()
    fit = Fit(
        model=model.to(memory_format=torch.channels_last),
        recipe=Recipe(epochs=epochs_of(args.steps, len(train_on)), learning_rate=args.rate),
        normalization=(preprocessing.mean, preprocessing.std),
        seed=draw,
    )
    for _ in range(fit.recipe.epochs):
        fit.run_epoch(train_on, validate_on)
    return {"pairs": len(to_train[:count]), **answers(fit, of_pairs(index, test), args.crops)}


def summary(results: Sequence[dict[str, Any]], crf: int) -> dict[str, Any]:
    """Return mean, interval and draws of each score at a quality, over the results of one count."""
    parts: list[dict[str, Floats]] = []
    networks: list[str] = []
    for one in results:
        at = np.flatnonzero(np.array(one["crf"]) == crf)
        logits, labels = np.array(one["logits"])[at], np.array(one["labels"])[at]
        parts.append(right(logits, labels, [one["directions"][i] for i in at]))
        networks += [one["networks"][i] for i in at]
    return {
        score: {
            "mean": float(np.mean([part[score].mean() for part in parts])),
            "interval": share((np.concatenate([part[score] for part in parts]) > 0).tolist(), networks)[1:],
            "draws": [float(part[score].mean()) for part in parts],
        }
        for score in SCORES
    }


def draw_curve(curve: dict[int, dict[int, dict[str, Any]]]) -> bytes:
    """Return a picture of accuracy against the number of networks, one panel per quality, a PNG file."""
    crfs = sorted(next(iter(curve.values())))
    figure = Figure(figsize=(3.6 * len(crfs), 3.6), layout="constrained")
    for axes, crf in zip(figure.subplots(1, len(crfs), squeeze=False)[0], crfs, strict=True):
        for score in SCORES:
            means = [curve[count][crf][score]["mean"] for count in curve]
            ends = np.array([curve[count][crf][score]["interval"] for count in curve]).T
            (line,) = axes.plot(list(curve), means, "o-", label=score)
            axes.fill_between(list(curve), *ends, alpha=0.15, color=line.get_color())
        axes.set(title=f"crf {crf}", xlabel="networks of each generator in training", ylim=(0, 1))
        axes.set_xscale("log", base=2)
        axes.set_xticks(list(curve), [str(count) for count in curve])
        axes.yaxis.set_major_formatter("{x:.0%}")
        axes.grid(alpha=0.3)
    axes.legend()
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=110)
    return out.getvalue()


def cell(score: dict[str, Any]) -> str:
    low, high = score["interval"]
    return f"{score['mean']:.0%} ({low:.0%} to {high:.0%})"


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--crops", required=True, help="crops dataset of `dfdm-ray preprocess`")
    options.add_argument("--out", required=True, help="folder of the trainings' answers, continued")
    options.add_argument("--counts", nargs="+", default=["1", "2", "4", "8", "all"])
    options.add_argument("--draws", type=int, default=3)
    options.add_argument("--test-pairs", type=int, default=3)
    options.add_argument("--steps", type=int, default=1500, help="optimiser steps of each training")
    options.add_argument("--rate", type=float, default=Recipe.learning_rate, help="highest learning rate")
    options.add_argument("--backbone", default="resnet10")
    options.add_argument("--frames", type=int, help="frames of a clip; default: those of the crops")
    args = options.parse_args()
    args.crops = storage.absolute(args.crops)
    index = swaps(args.crops)
    curve: dict[int, dict[int, dict[str, Any]]] = {}
    for text in args.counts:
        results = []
        for draw in range(args.draws):
            file = Path(args.out) / f"{text}-{draw}.json"
            if not file.exists():
                found = train_and_test(args, index, draw, None if text == "all" else int(text))
                storage.write_atomic(str(file), json.dumps(found).encode())
            results.append(json.loads(file.read_text()))
        crfs = sorted(set(results[0]["crf"]))
        curve[results[0]["pairs"]] = {crf: summary(results, crf) for crf in crfs}
    rows = [
        [str(count), f"crf {crf}", *(cell(by_score[score]) for score in SCORES)]
        for count, by_crf in curve.items()
        for crf, by_score in by_crf.items()
    ]
    remark = f"{args.draws} draws, {args.test_pairs} test pairs each; always the most frequent: 20% and 60%."
    show(Table(headings=["networks of each", "quality", *SCORES], rows=rows, remark=remark))
    largest = json.loads((Path(args.out) / f"{args.counts[-1]}-0.json").read_text())
    shares = (1 / len(GENERATORS), 0.5, 0.8, 1.0)
    rows = [
        [f"crf {crf}", f"{share:.0%}", *(f"{mean:.0%}" for mean in skewed(largest, crf, share))]
        for crf in sorted(set(largest["crf"]))
        for share in shares
    ]
    show(Table(headings=["quality", "share of one generator", *SCORES], rows=rows, remark="first draw"))
    save("unseen_networks", curve={str(count): value for count, value in curve.items()})
    storage.write_atomic(str(Path(args.out) / "curve.png"), draw_curve(curve))


if __name__ == "__main__":
    main()
