"""The command line: one subcommand per job. A user's mistake is reported in one line, with exit code 2."""

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Annotated, Any, Union

import tyro

import dfdm_ray
from dfdm_ray.config import AssetsConfig, VerifyConfig
from dfdm_ray.errors import IncompleteError, UserError, refuse_keys
from dfdm_ray.io.terminal import SafeConsole, visible
from dfdm_ray.jobs.ablate.config import AblateConfig
from dfdm_ray.jobs.calibrate.config import CalibrateConfig
from dfdm_ray.jobs.crops.config import CropsConfig
from dfdm_ray.jobs.demo.config import DemoConfig
from dfdm_ray.jobs.doctor.config import DoctorConfig
from dfdm_ray.jobs.evaluate.config import EvaluateConfig
from dfdm_ray.jobs.export.config import ExportConfig
from dfdm_ray.jobs.generate.config import GenerateConfig
from dfdm_ray.jobs.manifest.config import ManifestConfig
from dfdm_ray.jobs.png_tree.config import PngTreeConfig
from dfdm_ray.jobs.preprocess.config import PreprocessConfig
from dfdm_ray.jobs.report.config import ReportConfig
from dfdm_ray.jobs.score.config import ScoreConfig
from dfdm_ray.jobs.train.config import TrainConfig, paper_config

_DESCRIPTION = "Attribute face-swap deepfake videos to the generator that made them, on Ray."
_TRAIN_PAPER = (
    "Train DMA-STA with the authors' recipe, as far as their code shows it. The best epoch is chosen on val, "
    "not on test. The weights start at random, unless `--network.imagenet FILE` (torchvision's state dict) "
    "is given; the authors start from ImageNet's ResNet-50."
)

# A function is imported when its command runs, so that --help does not wait for Ray and torch.
_COMMANDS: dict[str, tuple[type, str]] = {
    "manifest": (ManifestConfig, "jobs.manifest.job:write"),
    "preprocess": (PreprocessConfig, "jobs.preprocess.job:preprocess"),
    "png-tree": (PngTreeConfig, "jobs.png_tree.job:main"),
    "train": (TrainConfig, "jobs.train.job:main"),
    "ablate": (AblateConfig, "jobs.ablate.job:ablate"),
    "score": (ScoreConfig, "jobs.score.job:main"),
    "calibrate": (CalibrateConfig, "jobs.calibrate.job:calibrate"),
    "verify": (VerifyConfig, "engine.verify:verify"),
    "report": (ReportConfig, "jobs.report.job:report"),
    "export": (ExportConfig, "jobs.export.job:export"),
    "evaluate": (EvaluateConfig, "jobs.evaluate.job:evaluate"),
    "generate": (GenerateConfig, "jobs.generate.job:generate"),
    "doctor": (DoctorConfig, "jobs.doctor.job:doctor"),
    "crops": (CropsConfig, "jobs.crops.job:draw_crops"),
    "assets": (AssetsConfig, "assets:main"),
    "demo": (DemoConfig, "jobs.demo.job:run_demo"),
}
_FUNCTIONS = dict(_COMMANDS.values())


def _commands() -> Any:
    """Return the union of all configurations, as tyro parses it."""
    commands = [Annotated[config, tyro.conf.subcommand(name)] for name, (config, _) in _COMMANDS.items()]
    paper = tyro.conf.subcommand(
        "train-paper", default=paper_config(crops=tyro.MISSING, out=tyro.MISSING), description=_TRAIN_PAPER
    )
    commands.insert(list(_COMMANDS).index("train") + 1, Annotated[TrainConfig, paper])
    return Union[tuple(commands)]  # noqa: UP007  # a union of a list


def _parse(arguments: Sequence[str]) -> Any:
    try:
        try:
            return tyro.cli(
                _commands(),
                prog="dfdm-ray",
                description=f"{_DESCRIPTION} Version {dfdm_ray.__version__}.",
                args=arguments,
                config=(tyro.conf.EnumChoicesFromValues,),  # dfl-h128, not DFL_H128
            )
        finally:
            sys.stdout.flush()
    except BrokenPipeError:  # `dfdm-ray score --help | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for Python's own last flush
        sys.exit(1)


def _run(config: Any) -> bool:
    """Run the command of ``config`` and return whether it found everything in order."""
    module, _, function = _FUNCTIONS[type(config)].partition(":")
    result = getattr(import_module(f"dfdm_ray.{module}"), function)(config, SafeConsole())
    return result is not False


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command that ``arguments`` (default: the command line) name."""
    words = sys.argv[1:] if arguments is None else arguments
    if list(words) == ["--version"]:
        sys.stdout.write(f"dfdm-ray {dfdm_ray.__version__}\n")
        return
    try:
        refuse_keys(words, origin="the command")
        if not _run(_parse(words)):
            sys.exit(1)
    except (UserError, IncompleteError) as error:
        sys.stderr.write(f"error: {visible(' '.join(str(error).split()))}\n")
        sys.exit(2 if isinstance(error, UserError) else 1)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; run the same command again to continue\n")
        sys.exit(130)


if __name__ == "__main__":
    main()
