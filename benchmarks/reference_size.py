"""How right are verdicts on new people and networks, by the number of pairs of people in the reference set?

The predictions are of videos that training did not see: several pairs of people, each with swaps by one
network of every class and with real videos. Every choice of 2, 3 ... of the pairs is the reference set once,
as `dfdm-ray calibrate` fits it, and all other pairs are the test. Figures are means over the choices.

python benchmarks/reference_size.py --predictions OUT [OUT ...] --classes faceswap iae ... real
"""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from report import Table, parser, save, show

from dfdm_ray.io import storage
from dfdm_ray.jobs.evaluate.metrics import calibration
from dfdm_ray.labels import REAL
from dfdm_ray.manifest.networks import directions_of, networks_of, pairs_of
from dfdm_ray.models.reference import fit_reference
from dfdm_ray.models.verdict import ALPHA
from dfdm_ray.schemas import PREDICTIONS, PREDICTIONS_FOLDER, SCORED, with_values

HEADINGS = (
    *(
        "pairs",
        "choices",
        "truth in the set",
        "before",
        "classes in it",
        "swaps with one class",
        "of these wrong",
    ),
    *("real in the set of real", "real unknown", "swaps unknown", "ECE"),
)
Columns = dict[str, np.ndarray]


def measured(videos: Columns, classes: tuple[str, ...], reference_N: np.ndarray) -> list[float]:
    """Return the figures for one choice of the videos of the reference set.

    Args:
        videos: Arguments of :func:`fit_reference` for all videos.
    """
    reference = fit_reference(
        name="", classes=classes, **{name: values[reference_N] for name, values in videos.items()}
    )
    logits, features, truth = (videos[name][~reference_N] for name in ("logits", "features", "labels"))
    real = classes.index(REAL)
    sets, earlier = (
        one.p_values(logits) >= ALPHA for one in (reference, replace(reference, left_out=np.empty(0)))
    )
    right, before = (found[np.arange(len(truth)), truth] for found in (sets, earlier))
    swaps = truth != real
    single = swaps & (sets.sum(1) == 1)
    unknown = reference.unknown_scores(features, logits) > reference.threshold
    probabilities = reference.probabilities(logits)
    error = calibration(truth, probabilities.argmax(1), probabilities)["ece"]
    return [
        *(right.mean(), before.mean(), sets.sum(1).mean(), single[swaps].mean()),
        *((~right[single]).mean() if single.any() else 0.0, sets[~swaps, real].mean()),
        *(unknown[~swaps].mean(), unknown[swaps].mean(), error),
    ]


def main() -> None:
    options = parser(__doc__)
    options.add_argument(
        "--predictions", nargs="+", required=True, help="folders of `dfdm-ray score --features`"
    )
    options.add_argument(
        "--classes", nargs="+", required=True, help="classes of the checkpoint, in its order"
    )
    args = options.parse_args()
    parts = [
        storage.read_parts(storage.join(one, PREDICTIONS_FOLDER), PREDICTIONS) for one in args.predictions
    ]
    rows = pa.concat_tables(parts)
    rows = with_values(rows, "generator", rows["true_generator"].to_pylist())
    rows = rows.filter(pc.equal(rows["status"], SCORED)).filter(
        pc.is_in(rows["generator"], pa.array(args.classes))
    )
    videos = {name: np.array(rows[name].to_pylist()) for name in ("logits", "features")}
    videos["labels"] = np.array([args.classes.index(name) for name in rows["generator"].to_pylist()])
    videos["video_ids"] = np.array(rows["video_id"].to_pylist())
    videos |= {"networks": np.array(networks_of(rows)), "directions": np.array(directions_of(rows))}
    of_person = {person: pair for pair in pairs_of(rows).to_pylist() if pair for person in pair.split("+")}
    pair_N = np.array([of_person[person] for person in rows["target_identity"].to_pylist()])
    pairs, table = sorted({*of_person.values()}), []
    for number in range(2, len(pairs)):
        choices = [*combinations(pairs, number)]
        found = [measured(videos, tuple(args.classes), np.isin(pair_N, choice)) for choice in choices]
        cells = [
            f"{mean:.2f}" if at in (2, 8) else f"{mean:.0%}" for at, mean in enumerate(np.mean(found, axis=0))
        ]
        table.append([str(number), str(len(choices)), *cells])
    remark = (
        f"{len(pairs)} pairs of people, {rows.num_rows} videos; sets of the classes with p of {ALPHA} or more"
    )
    show(Table(headings=HEADINGS, rows=table, remark=remark))
    save("reference_size", rows=table)


if __name__ == "__main__":
    main()
