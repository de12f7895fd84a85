"""The loop on stripes whose period is the class, with a small network and few videos."""

import json
import os
import shutil
import socket
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
import torch.distributed as dist
from support.crops_rows import write_index, write_patterns
from torch.optim.optimizer import register_optimizer_step_post_hook

from dfdm_ray.clips.crops_dataset import read_crops, read_index, read_settings
from dfdm_ray.errors import UserError
from dfdm_ray.io import storage
from dfdm_ray.jobs.train.config import NO_AUGMENTATION, NetworkConfig, Recipe, TrainConfig
from dfdm_ray.jobs.train.inputs import check_task
from dfdm_ray.jobs.train.loop import EpochResult, Fit
from dfdm_ray.jobs.train.rank import TrainTask, history_csv, read_history, save_epoch, start_model, train_rank
from dfdm_ray.labels import Baseline
from dfdm_ray.models.attention import TemporalAttention
from dfdm_ray.models.checkpoint import load_checkpoint
from dfdm_ray.models.inference import ClipScorer

pytestmark = pytest.mark.slow

THREE = ("faceswap", "iae", "dfaker")
RECIPE = Recipe(
    epochs=4, batch_size=6, learning_rate=2e-3, ema_decay=0.8, precision="fp32", augment=NO_AUGMENTATION
)
TWO = replace(RECIPE, epochs=2)
PLAIN = replace(RECIPE, optimizer="sgd", momentum=0.0, ema_decay=0, epochs=1, learning_rate=0.1)


@pytest.fixture(scope="module")
def crops(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("crops")
    write_patterns(root, generators=THREE, each={"train": 8, "val": 3})
    return root


@pytest.fixture(scope="module")
def one_epoch(crops: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of a training of one epoch; copy it before you go on from it."""
    out = tmp_path_factory.mktemp("one_epoch")
    trained(task(crops, out, replace(RECIPE, epochs=1)))
    return out


@pytest.fixture(scope="module")
def two_epochs(crops: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[EpochResult]]:
    """The output of a training of two epochs, and its history."""
    out = tmp_path_factory.mktemp("two_epochs")
    return out, trained(task(crops, out, TWO))


def task(crops: Path, out: Path, recipe: Recipe = RECIPE, **network: Any) -> TrainTask:
    shape = NetworkConfig(**{"backbone": "resnet10", **network})
    return check_task(TrainConfig(crops=str(crops), out=str(out), recipe=recipe, network=shape))


def fit_of(given: TrainTask) -> Fit:
    return Fit(
        model=start_model(given).to(memory_format=torch.channels_last),
        recipe=given.config.recipe,
        normalization=(given.preprocessing.mean, given.preprocessing.std),
        seed=given.config.seed,
    )


def trained(given: TrainTask) -> list[EpochResult]:
    """Train to the end on this process; return the epochs, from the last one restored."""
    return list(train_rank(given, "cpu"))


def comparable(history: list[Any]) -> list[dict[str, float]]:
    return [{**asdict(result), "seconds": 0} for result in history]


def test_it_learns_what_there_is_to_learn_and_keeps_the_best_epoch(crops: Path, tmp_path: Path) -> None:
    given = task(crops, tmp_path, replace(RECIPE, epochs=12))
    fit = fit_of(given)
    for epoch in range(1, 13):
        fit.run_epoch(given.train, given.val)
        if fit.best_epoch == epoch:  # the state of every epoch, a hundred megabytes, is not needed here
            save_epoch(given, fit)
    history = fit.history
    best = max(history, key=lambda one: (one.val_accuracy, -one.val_loss))
    assert best.val_accuracy > 0.9
    loaded = load_checkpoint((tmp_path / "dma_sta.pt").read_bytes(), name="x")
    assert loaded.classes == THREE
    with pytest.raises(UserError, match=r"^state\.pt is the state from which"):
        load_checkpoint((tmp_path / "state.pt").read_bytes(), name="state.pt")
    assert f"epoch {best.epoch} of 12" in loaded.note


@pytest.mark.parametrize("backbone", get_args(Baseline))
def test_networks_for_comparison_learn_in_the_same_loop(
    backbone: Baseline, crops: Path, tmp_path: Path
) -> None:
    given = task(crops, tmp_path, replace(RECIPE, epochs=8, learning_rate=5e-3), backbone=backbone)
    fit = fit_of(given)
    losses = [fit.run_epoch(given.train, given.val).train_loss for _ in range(8)]
    assert losses[-1] < 0.8 * losses[0]
    assert all(0 <= result.train_accuracy <= 1 for result in fit.history)


def test_outliers_made_of_real_videos_choose_the_unknown_score(tmp_path: Path) -> None:
    write_patterns(tmp_path, generators=("faceswap", "real"), each={"train": 4, "val": 3})
    trained(task(tmp_path, tmp_path / "out", replace(RECIPE, epochs=1)))
    reference = load_checkpoint((tmp_path / "out" / "dma_sta.pt").read_bytes(), name="x").reference
    assert reference is not None
    found = reference.facts["outliers_auroc"]
    assert found[reference.kind] == max(found.values())


def test_score_gives_the_logits_that_validation_saw(crops: Path, one_epoch: Path) -> None:
    given = task(crops, one_epoch, replace(RECIPE, epochs=1))
    fit = fit_of(given)
    fit.restore((one_epoch / "state.pt").read_bytes())
    loaded = load_checkpoint((one_epoch / "dma_sta.pt").read_bytes(), name="x")
    scorer = ClipScorer(loaded, device="cpu")
    scores = [scorer.score(read_crops(str(crops), file)).logits.mean(axis=0) for file in given.val.files]
    np.testing.assert_allclose(np.stack(scores), fit.logits(given.val).numpy(), atol=1e-4)
    assert (loaded.preprocessing.clips, loaded.preprocessing.runs) == (2, 2)


def test_a_training_that_stopped_ends_as_if_it_had_not(
    crops: Path, two_epochs: tuple[Path, list[EpochResult]], tmp_path: Path
) -> None:
    whole, history = two_epochs
    stopped = task(crops, tmp_path, TWO)
    once = fit_of(stopped)
    once.run_epoch(stopped.train, stopped.val)
    save_epoch(stopped, once)
    assert comparable(trained(stopped)) == comparable(history)
    first, second = (
        load_checkpoint((out / "dma_sta.pt").read_bytes(), name="x").model.state_dict()
        for out in (whole, tmp_path)
    )
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_the_kept_weights_are_the_running_mean_of_those_after_each_step(crops: Path, tmp_path: Path) -> None:
    given = task(crops, tmp_path, replace(RECIPE, ema_decay=0.2))
    fit = fit_of(given)
    steps: list[dict[str, torch.Tensor]] = []

    def keep(*_: object) -> None:
        steps.append({name: value.detach().clone() for name, value in fit.model.state_dict().items()})

    hook = register_optimizer_step_post_hook(keep)
    fit.run_epoch(given.train, given.val)
    hook.remove()
    mean = steps[0]
    for updates, new in enumerate(steps[1:], start=1):
        decay = min(0.2, (1 + updates) / (10 + updates))
        mean = {
            name: mean[name] * decay + value * (1 - decay) if value.is_floating_point() else value
            for name, value in new.items()
        }
    assert len(steps) == 4
    torch.testing.assert_close(fit.kept.state_dict(), mean)


def test_parts_of_a_batch_give_the_step_of_the_whole_batch(crops: Path, tmp_path: Path) -> None:
    """Batch norm sees parts, so it is kept from looking; plain SGD shows gradients and nothing else."""
    weights = []
    for parts in (1, 3):
        given = task(crops, tmp_path, replace(PLAIN, micro_batches=parts))
        fit = frozen(fit_of(given))
        fit.run_epoch(given.train, given.val)
        weights.append(torch.cat([value.flatten() for value in fit.model.parameters()]))
    torch.testing.assert_close(weights[1], weights[0], atol=1e-5, rtol=1e-4)


def frozen(fit: Fit) -> Fit:
    """Keep batch norms at their running statistics."""
    for module in fit.model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.train = lambda mode=True, module=module: module  # type: ignore[method-assign]
            module.training = False
    return fit


def rank_main(rank: int, port: int, crops: str, out: str) -> None:
    """Train an epoch as one rank of two, once as it is and once with plain steps; save what it came to."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=2)
    given = task(Path(crops), Path(out))
    fit = fit_of(given)
    fit.run_epoch(given.train, given.val)
    judged = {"logits": fit.logits(given.val), "state": fit.to_bytes()}
    weights, result = plain_epoch(Path(crops), Path(out))
    torch.save({**judged, "weights": weights, "result": asdict(result)}, f"{out}/rank{rank}.pt")
    dist.destroy_process_group()


def plain_epoch(crops: Path, out: Path) -> tuple[torch.Tensor, EpochResult]:
    given = task(crops, out, PLAIN)
    fit = frozen(fit_of(given))
    result = fit.run_epoch(given.train, given.val)
    return torch.cat([value.detach().flatten() for value in fit.model.parameters()]), result


@pytest.fixture(scope="module")
def ranks(crops: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What two ranks saved, each a process."""
    out = tmp_path_factory.mktemp("ranks")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(rank_main, (port, str(crops), str(out)), nprocs=2)
    return [torch.load(out / f"rank{rank}.pt", weights_only=True) for rank in (0, 1)]


def test_all_ranks_judge_with_what_the_first_one_saves(
    crops: Path, ranks: list[dict[str, Any]], tmp_path: Path
) -> None:
    alone = fit_of(given := task(crops, tmp_path))
    alone.restore(ranks[0]["state"])
    for judged in ranks:
        torch.testing.assert_close(judged["logits"], alone.logits(given.val), atol=1e-5, rtol=1e-5)


def test_two_ranks_hold_the_same_weights_and_equal_one_with_the_whole_batch(
    crops: Path, ranks: list[dict[str, Any]], tmp_path: Path
) -> None:
    first, second = ranks
    assert torch.equal(first["weights"], second["weights"])
    weights, result = plain_epoch(crops, tmp_path)
    torch.testing.assert_close(first["weights"], weights, atol=1e-5, rtol=1e-4)
    for name in ("train_loss", "val_loss", "val_accuracy"):
        assert first["result"][name] == pytest.approx(getattr(result, name), rel=1e-4)


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_what_was_saved(
    crops: Path, one_epoch: Path, tmp_path: Path
) -> None:
    shutil.copytree(one_epoch, tmp_path, dirs_exist_ok=True)
    before = {path.name: path.read_bytes() for path in tmp_path.glob("*.pt")}
    with pytest.raises(UserError, match=r"no longer a number in epoch 2; reduce --recipe.learning-rate"):
        trained(task(crops, tmp_path, replace(RECIPE, learning_rate=1e30, clip_norm=0)))
    assert {path.name: path.read_bytes() for path in tmp_path.glob("*.pt")} == before


def test_a_full_disk_is_reported_and_keeps_what_was_saved(
    crops: Path, one_epoch: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(one_epoch, tmp_path, dirs_exist_ok=True)
    before = (tmp_path / "state.pt").read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(storage, "write_atomic", full)
    with pytest.raises(
        UserError, match=r"cannot write epoch 2 to .*: No space left on device. The files of earlier"
    ):
        trained(task(crops, tmp_path))
    assert (tmp_path / "state.pt").read_bytes() == before


def test_the_history_comes_back_from_its_file(two_epochs: tuple[Path, list[EpochResult]]) -> None:
    out, history = two_epochs
    written = (out / "history.csv").read_bytes().decode()
    back = read_history(written)
    assert [one.epoch for one in back] == [1, 2]
    assert back[1].val_loss == pytest.approx(history[1].val_loss, rel=1e-4)
    assert history_csv(back) == written


def test_no_temporal_attention_is_dead_at_the_start() -> None:
    frames = torch.rand(8, 2, 16)
    dead = {True: 0, False: 0}
    for seed in range(100):
        torch.manual_seed(seed)
        attention = TemporalAttention(2)
        for woken in (False, True):
            if woken:
                attention.wake()
            hidden = torch.relu(attention.fc[0](frames.mean(dim=2)))
            dead[woken] += int(not hidden.any())
    assert dead[False] > 10
    assert dead[True] == 0


def line(crops: Path, out: Path, **network: Any) -> str:
    with pytest.raises(UserError) as raised:
        task(crops, out, **network)
    return str(raised.value)


def test_unusable_crops_and_weights_are_reported(crops: Path, tmp_path: Path) -> None:
    assert "--network.frames is 3, but the clips of" in line(crops, tmp_path, frames=3)
    write_patterns(tmp_path / "noval", generators=THREE, each={"train": 2})
    assert "in the split val (6 train). Training needs train and val" in line(tmp_path / "noval", tmp_path)
    write_patterns(tmp_path / "one", generators=("iae",), each={"train": 2, "val": 1})
    assert "has only iae in the split train" in line(tmp_path / "one", tmp_path)
    assert "is not a crops dataset" in line(tmp_path / "nowhere", tmp_path)
    weights = tmp_path / "weights.pth"
    torch.save({"conv1.weight": torch.zeros(3)}, weights)
    assert "weights.pth" in line(crops, tmp_path, imagenet=str(weights))


def test_a_class_that_training_lacks_is_reported(crops: Path, tmp_path: Path) -> None:
    root = tmp_path / "crops"
    write_patterns(root, generators=THREE, each={"train": 2, "val": 1})
    index = read_index(str(root)).to_pylist()
    kept = [row for row in index if (row["generator"], row["split"]) != ("iae", "train")]
    write_index(root, *kept, settings=read_settings(str(root)))
    assert "has iae in the split val but not in train" in line(root, tmp_path)


def test_classes_are_chosen_and_merged(tmp_path: Path) -> None:
    root = tmp_path / "crops"
    write_patterns(root, generators=("real", "FSGAN", "faceswap", "iae"), each={"train": 2, "val": 1})

    def found(*classes: str, merge: tuple[str, ...] = ()) -> TrainTask:
        return check_task(TrainConfig(crops=str(root), out=str(tmp_path), classes=classes, merge=merge))

    assert found().classes == ("faceswap", "iae", "FSGAN", "real")
    assert found().left_out == ""
    chosen = found("Real", "IAE")
    assert (chosen.classes, len(chosen.train)) == (("iae", "real"), 4)
    assert chosen.left_out == "FSGAN (3), faceswap (3)"
    merged = found("real", "64px", merge=("64px=FaceSwap,iae",))
    assert merged.classes == ("64px", "real")
    assert sorted(merged.train.labels) == [0, 0, 0, 0, 1, 1]
    assert merged.data_settings["videos_sha256"] != found().data_settings["videos_sha256"]
    for classes, merge, words in (
        (("real", "dfaker"), (), "has no dfaker in the split train; it has faceswap, iae, FSGAN, real"),
        ((), ("a=iae,dfaker",), "--merge names dfaker, of which .* has no crops"),
        ((), ("a=iae",), "--merge needs NAME=GENERATOR,GENERATOR, got 'a=iae'"),
        ((), ("a=iae,FSGAN", "b=IAE,faceswap"), "--merge names iae more than once"),
        (("iae",), (), "--classes must list two or more different generators"),
    ):
        with pytest.raises(UserError, match=words):
            found(*classes, merge=merge)


def test_a_quality_that_is_not_there_is_reported(crops: Path, tmp_path: Path) -> None:
    config = TrainConfig(crops=str(crops), out=str(tmp_path), crf=(17,))
    with pytest.raises(UserError, match="no crops of a known generator at crf 17"):
        check_task(config)
    only = check_task(replace(config, crf=(10,)))
    assert 0 < len(only.train) < len(check_task(replace(config, crf=())).train)
    assert json.loads(json.dumps(only.data_settings))["crf"] == [10]
