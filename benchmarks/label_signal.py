"""Do the labels of a generated dataset show in the picture, and only there?

A linear probe (logistic regression) on simple statistics of the face crops, radial spectrum and gradient
histogram of each frame, names the generator in scenes that it was not trained on. Folds are split by
(target, source, scene), so that the same frames swapped by another generator are never in training.
"unseen pair" splits by pair of identities instead: the networks to judge were then not in training.
Two controls must stay near chance: the same probe with labels shuffled within each scene, and the same
probe on what a file shows without decoding (size, number of frames, duration).

python benchmarks/label_signal.py --dataset made [--folds 4] [--shuffles 5]
"""

import math
from collections import defaultdict

import av
import numpy as np
import numpy.typing as npt
from report import Table, parser, save, show
from rich.progress import track
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from dfdm_ray.clips.cut import ClipFacts, load_detector, prepare_clips
from dfdm_ray.clips.spec import clip_spec
from dfdm_ray.config import CropConfig, FaceConfig, PlanConfig
from dfdm_ray.errors import VideoRejectedError
from dfdm_ray.labels import GENERATORS
from dfdm_ray.manifest.build import build_manifest

FRAMES = 10
CROP_PX = 128
RADIAL_BINS = 32
GRADIENT_LEVELS = 16

Floats = npt.NDArray[np.float64]


def radial_spectrum(luma: Floats) -> Floats:
    """Return the log power of an image ``(S, S)`` in rings of equal width up to Nyquist, shape ``(32,)``."""
    side = len(luma)
    window = np.hanning(side)
    power = np.abs(np.fft.fft2((luma - luma.mean()) * np.outer(window, window))) ** 2
    axis = np.fft.fftfreq(side)
    ring = np.hypot(axis[:, None], axis[None]) * 2 * RADIAL_BINS
    ring = np.minimum(ring.astype(int), RADIAL_BINS)  # ring 32, the corners beyond Nyquist, is dropped
    mean = np.bincount(ring.ravel(), power.ravel()) / np.bincount(ring.ravel())
    return np.log(mean[:RADIAL_BINS] + 1e-9)


def gradient_histogram(luma: Floats) -> Floats:
    """Return a histogram of gradient lengths on a logarithmic scale, as fractions, shape ``(16,)``."""
    rows, columns = np.gradient(luma)
    length = np.log2(1 + np.hypot(rows, columns))
    counts, _ = np.histogram(length, bins=GRADIENT_LEVELS, range=(0, 8))
    return counts / length.size


def picture_features(crops: npt.NDArray[np.uint8]) -> Floats:
    """Return statistics of each crop of ``(T, S, S, 3)``, shape ``(T, 48)``."""
    luma = crops.astype(np.float64) @ (0.299, 0.587, 0.114)
    return np.stack([np.concatenate([radial_spectrum(one), gradient_histogram(one)]) for one in luma])


def file_features(uri: str, size_bytes: int) -> Floats:
    """Return log size, frames, seconds and log bytes per frame of a file, without decoding, ``(1, 4)``."""
    with av.open(uri) as container:
        stream = container.streams.video[0]
        seconds = float(stream.duration * stream.time_base)
        frames = stream.frames
    return np.array([[math.log(size_bytes), frames, seconds, math.log(size_bytes / frames)]])


def read(dataset: str) -> dict[int, list[dict[str, object]]]:
    """Return the features and labels of the swapped videos by crf."""
    rows = [row for row in build_manifest(dataset).table.to_pylist() if row["generator"] in GENERATORS]
    detector, _ = load_detector(FaceConfig())
    spec = clip_spec(PlanConfig(), FaceConfig(), CropConfig(size=CROP_PX), num_frames=FRAMES)
    found: dict[int, list[dict[str, object]]] = defaultdict(list)
    for row in track(rows, "crops", transient=True):
        try:
            crops = prepare_clips(row["uri"], detector, spec, ClipFacts()).crops[0]
        except VideoRejectedError as rejected:
            print(f"{row['video_id']} is left out: {rejected}")
            continue
        found[row["crf"]].append(
            {
                "label": GENERATORS.index(row["generator"]),
                "group": (row["target_identity"], row["source_identity"], row["scene"]),
                "picture": picture_features(crops),
                "file": file_features(row["uri"], row["size_bytes"]),
            }
        )
    return found


def probe(features: list[Floats], labels: npt.NDArray[np.int64], groups: list[int], folds: int) -> float:
    """Return the fraction of videos whose label is predicted from videos of other groups.

    Args:
        features: One array per video, shape ``(rows, F)``; a video's answer is the mean over its rows.
        labels: Shape ``(N,)``.
        groups: Group of each video, for instance its scene.
        folds: Number of folds; a group is in one of them.
    """
    right = 0
    for train, test in GroupKFold(folds).split(labels, labels, groups):
        model = make_pipeline(StandardScaler(), LogisticRegression(C=1.0, max_iter=2000))
        rows = np.concatenate([features[i] for i in train])
        model.fit(rows, np.concatenate([np.full(len(features[i]), labels[i]) for i in train]))
        for i in test:
            mean = model.predict_log_proba(features[i]).mean(axis=0)
            right += int(model.classes_[mean.argmax()] == labels[i])
    return right / len(labels)


def shuffled_within_groups(
    labels: npt.NDArray[np.int64], groups: list[int], rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    out = labels.copy()
    for group in set(groups):
        members = np.flatnonzero(np.array(groups) == group)
        out[members] = rng.permutation(labels[members])
    return out


def numbered(names: list[tuple[str, ...]]) -> list[int]:
    order = sorted(set(names))
    return [order.index(name) for name in names]


def measure(videos: list[dict[str, object]], folds: int, shuffles: int) -> dict[str, float]:
    labels = np.array([video["label"] for video in videos])
    groups = numbered([video["group"] for video in videos])
    pairs = numbered([tuple(sorted(video["group"][:2])) for video in videos])
    pictures = [video["picture"] for video in videos]
    rng = np.random.default_rng(0)
    chance = [
        probe(pictures, shuffled_within_groups(labels, groups, rng), groups, folds) for _ in range(shuffles)
    ]
    return {
        "videos": len(videos),
        "scenes": len(set(groups)),
        "picture": probe(pictures, labels, groups, folds),
        "unseen_pair": probe(pictures, labels, pairs, len(set(pairs))) if len(set(pairs)) > 1 else math.nan,
        "shuffled_mean": float(np.mean(chance)),
        "shuffled_max": float(np.max(chance)),
        "file": probe([video["file"] for video in videos], labels, groups, folds),
        "chance": float(np.bincount(labels).max() / len(labels)),
    }


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--dataset", required=True, help="output folder of `dfdm-ray generate`")
    options.add_argument("--folds", type=int, default=4)
    options.add_argument("--shuffles", type=int, default=5)
    args = options.parse_args()
    found = read(args.dataset)
    rows = {crf: measure(videos, args.folds, args.shuffles) for crf, videos in sorted(found.items())}
    cells = []
    for crf, row in rows.items():
        shuffled = f"{row['shuffled_mean']:.0%} ({row['shuffled_max']:.0%})"
        shares = (f"{row['picture']:.0%}", f"{row['unseen_pair']:.0%}", shuffled)
        counts = (str(crf), str(row["videos"]), str(row["scenes"]))
        cells.append([*counts, *shares, f"{row['file']:.0%}", f"{row['chance']:.0%}"])
    headings = ["crf", "videos", "scenes", "crops", "unseen pair", "labels shuffled (max)"]
    headings += ["file alone", "chance"]
    show(Table(headings=headings, rows=cells))
    save("label_signal", rows=rows)


if __name__ == "__main__":
    main()
