import io
import json
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from rich.console import Console
from support.crops_rows import write_patterns

from dfdm_ray.clips.crops_dataset import read_crops, read_index
from dfdm_ray.errors import UserError
from dfdm_ray.jobs.ablate.config import AblateConfig
from dfdm_ray.jobs.ablate.job import ablate
from dfdm_ray.jobs.train.config import NO_AUGMENTATION, NetworkConfig, Recipe
from dfdm_ray.jobs.train.rank import read_history
from dfdm_ray.models.checkpoint import load_checkpoint
from dfdm_ray.models.inference import ClipScorer

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]

EACH = {"train": 6, "val": 3, "test": 4}


def config(root: Path) -> AblateConfig:
    return AblateConfig(
        crops=str(root / "crops"),
        out=str(root / "out"),
        variants=("default", "frames-1"),
        seeds=(0,),
        recipe=Recipe(epochs=2, batch_size=4, augment=NO_AUGMENTATION),
        network=NetworkConfig(backbone="resnet10"),
        workers=1,
    )


def run(job: AblateConfig) -> str:
    out = io.StringIO()
    ablate(job, Console(file=out, width=200))
    return out.getvalue()


def accuracy(rows: pa.Table) -> float:
    return float(pc.mean(pc.equal(rows["generator"], rows["true_generator"])).as_py())


def test_variants_are_trained_tested_and_compared_and_not_done_twice(tmp_path: Path) -> None:
    write_patterns(tmp_path / "crops", generators=("faceswap", "iae"), each=EACH)
    text = run(config(tmp_path))
    assert "2/2: frames-1 0" in text
    assert "on 8 test videos" in " ".join(text.split())
    out = tmp_path / "out"
    found = json.loads((out / "ablation.json").read_text())
    assert list(found["variants"]) == ["default", "frames-1"]
    for variant in ("default", "frames-1"):
        folder = out / variant / "seed-0"
        rows = pq.read_table(folder / "test" / "predictions")
        assert set(rows["split"].to_pylist()) == {"test"}
        assert found["variants"][variant]["all"]["values"] == [pytest.approx(accuracy(rows))]
    assert {path.name for path in out.iterdir()} >= {"ablation.md", "ablation.png", "evaluation"}
    before = (out / "default" / "seed-0" / "dma_sta.pt").stat().st_mtime_ns
    assert "epoch 1/2" not in run(config(tmp_path))
    assert (out / "default" / "seed-0" / "dma_sta.pt").stat().st_mtime_ns == before

    history = read_history((out / "default" / "seed-0" / "history.csv").read_text())
    measured = accuracy_on_val(out / "default" / "seed-0" / "dma_sta.pt", str(tmp_path / "crops"))
    assert measured == pytest.approx(max(one.val_accuracy for one in history), abs=1e-6)


def accuracy_on_val(checkpoint: Path, crops: str) -> float:
    model = load_checkpoint(checkpoint.read_bytes(), name="trained")
    scorer = ClipScorer(model, device="cpu")
    rows = [row for row in read_index(crops).to_pylist() if row["split"] == "val"]
    logits = [scorer.score(read_crops(crops, row["file"])).logits.mean(axis=0) for row in rows]
    named = [model.classes[int(one.argmax())] for one in logits]
    return sum(name == row["generator"] for name, row in zip(named, rows, strict=True)) / len(rows)


@pytest.mark.parametrize(
    ("each", "variants", "says"),
    [
        ({"train": 3, "val": 2}, ("default",), "has no videos in the split test"),
        (EACH, ("default", "frames-5"), r"--network\.frames is 5, but the clips of .* have 2"),
    ],
)
def test_what_cannot_be_compared_is_told_before_anything_is_trained(
    tmp_path: Path, each: dict[str, int], variants: tuple[str, ...], says: str
) -> None:
    write_patterns(tmp_path / "crops", generators=("faceswap", "iae"), each=each)
    with pytest.raises(UserError, match=says):
        run(replace(config(tmp_path), variants=variants))
    assert not (tmp_path / "out").exists()
