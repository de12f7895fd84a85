"""What helps on networks and people that training never saw: recipes, networks and splits compared.

All train on the same crops dataset, with the draws of ``unseen_networks.py`` and all pairs that a draw
leaves, and answer for its test pairs. Three groups:

- experiments change one thing of the default (``compact``, two frames on the grid of the generators);
- baselines are other networks and the recipe of the paper;
- protocols split the videos by another rule, after which the test has networks or people of the training.

Experiments take about the CPU time of the default. Each process uses one core: start two with other names.

python benchmarks/recipes.py --crops CROPS --square SQUARE_CROPS --out FOLDER [NAME ...]
"""

import argparse
import copy
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from report import Table, parser, save, show
from torch import Tensor, nn
from torch.nn import functional
from unseen_networks import SCORES, answers, cell, epochs_of, of_pairs, parts_of, summary, swaps, videos_of

from dfdm_ray.clips.crops_dataset import prepared, read_index, read_settings
from dfdm_ray.io import storage
from dfdm_ray.jobs.manifest.splits import Method, assign_splits
from dfdm_ray.jobs.train.augment import Clip, through_jpeg
from dfdm_ray.jobs.train.config import NO_AUGMENTATION, Recipe, paper_like
from dfdm_ray.jobs.train.data import Videos, WholeVideos
from dfdm_ray.jobs.train.inputs import preprocessing_of
from dfdm_ray.jobs.train.loop import Fit
from dfdm_ray.jobs.train.optim import make_optimizer
from dfdm_ray.labels import GENERATORS, REAL
from dfdm_ray.models.checkpoint import random_model
from dfdm_ray.models.dma_sta import ClipNetwork, DmaStaConfig, normalize

NUM_CLASSES = len(GENERATORS)
TEMPERATURE = 0.07
"""Of the contrastive loss, as in DNA-Det (arXiv 2202.13843)."""
DEFAULT = Recipe(learning_rate=3e-3)


@dataclass(kw_only=True)
class Guided(Fit):
    """A training whose labels also name the pair of people, as ``class + NUM_CLASSES * pair``.

    Beside the cross entropy it minimises ``guide(features, classes, pairs)``.
    """

    weight: float
    """Factor on the second loss."""

    def guide(self, features_BC: Tensor, classes_B: Tensor, pairs_B: Tensor) -> Tensor:
        """Return the second loss."""
        raise NotImplementedError

    def _step(self, batches: Iterator[Any], loss_of: nn.Module, rate: float, sums: Tensor) -> Tensor:
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._optimizer.zero_grad(set_to_none=True)
        crops, both = next(batches)
        labels, pairs = both % NUM_CLASSES, both // NUM_CLASSES
        output = self._forward(self._parallel, crops, bf16=self._bf16)
        loss = loss_of(output.logits, labels) / len(labels)
        (loss + self.weight * self.guide(output.features, labels, pairs)).backward()
        sums += torch.stack([loss.detach() * len(labels), (output.logits.argmax(1) == labels).sum()]).double()
        length = nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip_norm)
        self._optimizer.step()
        if self._mean is not None:
            self._mean.update()
        return length


class Contrastive(Guided):
    """Supervised contrastive loss whose positives are clips of the same generator by other networks."""

    def guide(self, features_BC: Tensor, classes_B: Tensor, pairs_B: Tensor) -> Tensor:
        """Return the mean over the clips that have a positive."""
        along = functional.normalize(features_BC, dim=1)
        alike, same_pair = classes_B[:, None] == classes_B, pairs_B[:, None] == pairs_B
        # Clips by the same network are neither positives nor negatives; the clip itself is one of them.
        similar = (along @ along.T / TEMPERATURE).masked_fill(alike & same_pair, -torch.inf)
        positive = alike & ~same_pair
        logs = similar.log_softmax(dim=1).masked_fill(~positive, 0).sum(1)
        anchors = positive.any(1)
        return -(logs / positive.sum(1).clamp(min=1))[anchors].mean() if anchors.any() else logs.sum() * 0


class Adversarial(Guided):
    """A second head names the pair of people, and the gradient of its loss is reversed in the trunk."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.head = nn.Linear(self.model.fc.in_features, 64)
        self._optimizer.add_param_group({"params": list(self.head.parameters())})

    def guide(self, features_BC: Tensor, classes_B: Tensor, pairs_B: Tensor) -> Tensor:
        """Return the loss of the second head."""
        reversed_BC = 2 * features_BC.detach() - features_BC  # the same value, the opposite gradient
        return functional.cross_entropy(self.head(reversed_BC), pairs_B)


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A training to compare."""

    steps: int = 900
    network: Mapping[str, Any] = field(default_factory=dict)
    recipe: Recipe = DEFAULT
    crops: str = "crops"
    """Argument that names its crops."""
    fit: type[Fit] = Fit
    weight: float = 0.0
    """Factor on the second loss of a :class:`Guided` training."""
    pretrained: int = 0
    """Steps of training on transformations of real pictures before."""
    split: Method | None = None
    """Rule of :func:`assign_splits`; none: by pairs, as in ``unseen_networks.py``."""


VARIANTS = {
    "default": Variant(),
    "square crops": Variant(crops="square"),
    "patches": Variant(network={"backbone": "patches"}),
    "contrastive": Variant(fit=Contrastive, weight=0.3),
    "adversarial": Variant(fit=Adversarial, weight=0.1),
    "transformations first": Variant(steps=600, pretrained=300),
    "four frames": Variant(steps=450, network={"num_frames": 4}),
    "no augmentation": Variant(recipe=replace(DEFAULT, augment=NO_AUGMENTATION)),
    "twice the steps": Variant(steps=1800),
    "DMA-STA": Variant(steps=450, network={"backbone": "resnet10"}, recipe=Recipe()),
    "DMA-STA, no attention": Variant(
        steps=450,
        network={"backbone": "resnet10", "spatial_attention": False, "temporal_attention": False},
        recipe=Recipe(),
    ),
    "paper": Variant(
        steps=450,
        network={"backbone": "resnet10", "high_pass": False, "per_frame_batch_norm": True},
        recipe=paper_like(Recipe()),
    ),
    "FAME": Variant(steps=150, network={"backbone": "fame", "high_pass": False}, recipe=Recipe()),
    **{f"by {rule}": Variant(split=rule) for rule in ("video", "identity", "strict")},
}


def transformed(frame: Clip, kind: int) -> Clip:
    """Return a picture after one of 40 transformations, after the idea of DNA-Det's pre-training."""
    side = frame.shape[0]
    if kind < 20:
        small = round(side * (0.5, 0.625, 0.75, 0.875)[kind % 4])
        shrunk = cv2.resize(frame, (small, small), interpolation=cv2.INTER_AREA)
        return np.asarray(cv2.resize(shrunk, (side, side), interpolation=kind // 4), np.uint8)
    if kind < 28:
        return np.asarray(through_jpeg(frame[None], (30, 40, 50, 60, 70, 80, 90, 95)[kind - 20])[0])
    if kind < 34:
        return np.asarray(cv2.GaussianBlur(frame, (0, 0), (0.4, 0.6, 0.8, 1, 1.5, 2)[kind - 28]), np.uint8)
    if kind < 36:
        return np.asarray(cv2.medianBlur(frame, (3, 5)[kind - 34]), np.uint8)
    noise = np.random.default_rng(0).normal(0, kind - 35, frame.shape)
    return np.asarray(np.clip(np.rint(frame + noise), 0, 255), np.uint8)


def real_videos(root: str, train: pa.Table) -> Videos:
    """Return the real videos of the people in ``train``."""
    index = prepared(read_index(root))
    people = pa.array({person for pair in set(train["pair"].to_pylist()) for person in pair.split("+")})
    rows = index.filter(
        pc.and_(pc.equal(index["generator"], REAL), pc.is_in(index["target_identity"], people))
    )
    files, ids = (tuple(rows[name].to_pylist()) for name in ("file", "video_id"))
    return Videos(root=root, files=files, video_ids=ids, labels=(0,) * len(files))


def pretrain(model: ClipNetwork, real: Videos, steps: int, normalization: Any) -> None:
    """Train the trunk of ``model`` to tell transformations of real pictures apart."""
    final, model.fc = model.fc, nn.Linear(model.fc.in_features, 40)
    optimizer, rng = make_optimizer(model, DEFAULT), np.random.default_rng(0)
    model.train()
    for _ in range(steps):
        clips, kinds = [], rng.integers(0, 40, Recipe.batch_size)
        for kind in kinds:
            number = int(rng.integers(len(real)))
            pictures = real.pictures(number)[0]
            chosen = sorted(rng.choice(len(pictures), model.config.num_frames, replace=False))
            (frames,) = real.decoded(number, [[pictures[at] for at in chosen]])
            clips.append(np.stack([transformed(frame, int(kind)) for frame in frames]))
        optimizer.zero_grad()
        logits = model(normalize(torch.from_numpy(np.stack(clips)), *normalization)).logits
        functional.cross_entropy(logits, torch.from_numpy(kinds)).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    model.fc = final


def adapted(fit: Fit, videos: Videos, groups: Sequence[object]) -> list[list[float]]:
    """Return logits with the batch statistics of each group of videos instead of those of the training."""
    whole = WholeVideos(videos=videos, num_frames=fit.model.config.num_frames)
    found: dict[int, list[float]] = {}
    for group in set(groups):
        numbers = [number for number, one in enumerate(groups) if one == group]
        clips = torch.cat([whole[number][0] for number in numbers])
        model = copy.deepcopy(fit.kept).train()
        with torch.no_grad():
            logits = model(normalize(clips, *fit.normalization)).logits
        found |= dict(zip(numbers, logits.tolist(), strict=True))
    return [found[number] for number in range(len(videos))]


def parts(variant: Variant, index: pa.Table, draw: int, test_pairs: int) -> list[pa.Table]:
    """Return the rows to train on, to validate on and to test on."""
    if variant.split is None:
        return [of_pairs(index, pairs) for pairs in parts_of(index, draw=draw, test_pairs=test_pairs)]
    done = assign_splits(index, method=variant.split, seed=draw)
    return [done.filter(pc.equal(done["split"], name)) for name in ("train", "val", "test")]


def train_and_test(args: argparse.Namespace, name: str, draw: int) -> dict[str, Any]:
    """Train a variant and return the answers for its test videos."""
    variant = VARIANTS[name]
    root = storage.absolute(getattr(args, variant.crops))
    preprocessing = preprocessing_of(read_settings(root))
    normalization = (preprocessing.mean, preprocessing.std)
    train, val, test = parts(variant, swaps(root), draw, args.test_pairs)
    to_train, to_val, to_test = (videos_of(rows, root) for rows in (train, val, test))
    config = DmaStaConfig(**{"backbone": "compact", "num_frames": 2, "high_pass": True, **variant.network})
    model = random_model(config, seed=draw)
    if name != "paper":
        model.open_gates()
    started_s = time.process_time()
    if variant.pretrained:
        pretrain(model, real_videos(root, train), variant.pretrained, normalization)
    recipe = replace(variant.recipe, epochs=epochs_of(variant.steps, len(to_train)))
    more: dict[str, Any] = {}
    if issubclass(variant.fit, Guided):
        pairs = sorted(set(train["pair"].to_pylist()))
        numbers = [pairs.index(pair) for pair in train["pair"].to_pylist()]
        both = tuple(a + NUM_CLASSES * b for a, b in zip(to_train.labels, numbers, strict=True))
        to_train, more = replace(to_train, labels=both), {"weight": variant.weight}
        recipe = replace(recipe, class_weights=False)  # classes are equally frequent
    model = model.to(memory_format=torch.channels_last)
    fit = variant.fit(model=model, recipe=recipe, normalization=normalization, seed=draw, **more)
    for _ in range(recipe.epochs):
        fit.run_epoch(to_train, to_val)
    seconds = time.process_time() - started_s
    found = {**answers(fit, test, root), "seconds": seconds}
    if name == "default":
        for key, by in (("adapted", "directions"), ("adapted to one network", "networks")):
            groups = [*zip(found[by], found["directions"], found["crf"], strict=True)]
            found[key] = adapted(fit, to_test, groups)
    return found


def rows_of(results: Mapping[str, list[dict[str, Any]]], crf: int) -> list[list[str]]:
    """Return a row for each variant."""
    return [
        [
            name,
            f"crf {crf}",
            *(cell(summary(found, crf)[score]) for score in SCORES),
            f"{np.mean([one['seconds'] for one in found]):.0f} s",
        ]
        for name, found in results.items()
    ]


def main() -> None:
    options = parser(__doc__)
    options.add_argument("names", nargs="*", default=list(VARIANTS), metavar="NAME")
    options.add_argument("--crops", required=True, help="crops on the grid of the generators, real ones too")
    options.add_argument("--square", help="crops of the same videos with --crop.align box")
    options.add_argument("--out", required=True, help="folder of the trainings' answers, continued")
    options.add_argument("--draws", type=int, default=2)
    options.add_argument("--test-pairs", type=int, default=3)
    args = options.parse_args()
    torch.set_num_threads(1)
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in args.names}
    for draw in range(args.draws):
        for name in args.names:
            file = Path(args.out) / f"{name.replace(' ', '_')}-{draw}.json"
            if not file.exists():
                found = train_and_test(args, name, draw)
                storage.write_atomic(str(file), json.dumps(found).encode())
            results[name].append(json.loads(file.read_text()))
            print(f"{name}, draw {draw}: {results[name][-1]['seconds']:.0f} s", flush=True)
    for key in ("adapted", "adapted to one network"):
        if "default" in results:
            results[f"default, {key}"] = [{**one, "logits": one[key]} for one in results["default"]]
    rows = [
        row for crf in sorted(set(next(iter(results.values()))[0]["crf"])) for row in rows_of(results, crf)
    ]
    remark = f"{args.draws} draws, {args.test_pairs} test pairs each; always the most frequent: 20% and 60%."
    show(Table(headings=["variant", "quality", *SCORES, "CPU time"], rows=rows, remark=remark))
    save("recipes", results={name: [summary(found, 10)] for name, found in results.items()})


if __name__ == "__main__":
    main()
