"""The options of a study, from a YAML file and flags: its own, and sections with options of its runs."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from sentiment.config import parsing
from sentiment.config.arguments import DataArguments, FinetuningArguments, ModelArguments
from sentiment.config.data_arguments import METRICS, SEED_RANGE, normalise_limit, option
from sentiment.data.adaptation_data import TARGET_OPTIONS
from sentiment.exceptions import InputError, require
from sentiment.pipelines import adaptation, finetuning
from sentiment.study.launchers import Launcher, run_locally

DEFAULT_STUDY = parsing.CONFIG_DIR / "study.yaml"
DEFAULT_SPLIT_SEED = 42


class Arm(NamedTuple):
    """How an arm trains: the adaptation that it starts from, and whether it uses layer-wise learning-rate decay."""

    adaptation: str | None
    has_layer_decay: bool


ARMS = {
    "e2e": Arm(None, False),
    "e2e+decay": Arm(None, True),
    "mlm": Arm("mlm", False),
    "mlm+decay": Arm("mlm", True),
    "placebo+decay": Arm("placebo", True),
}
LAUNCHERS: dict[str, Launcher] = {"local": run_locally}
SECTIONS = ("finetuning", "budget_options", "adaptation", "placebo")
# Options that sections may not set, since the study sets them.
RESERVED = {"output_dir", "data_dir", "resume", "resume_from_checkpoint", "overwrite", "push_to_hub"}
RESERVED_FINETUNING = RESERVED | {"seed", "max_train_samples", "layer_decay"}
RESERVED_ADAPTATION = RESERVED | {"model_name_or_path", "model_revision", "target_dataset", "objective"}
RESERVED_ADAPTATION |= {f"target_{name}" for name in TARGET_OPTIONS}


@dataclass
class StudyArguments:
    """Arms, budgets, seeds and output folder of a study."""

    output_dir: str = option("outputs/study", "Folder of the study.")
    data_dir: str | None = option(
        None, "Folder with local copies of datasets, read instead of the Hub. Default: SENTIMENT_DATA_DIR."
    )
    seeds: list[int] = option([1, 2, 3], "Every arm is trained with each.")
    budgets: list[str] = option(
        ["100", "300", "1000", "3000", "all"],
        "Label budgets: numbers of training rows, and 'all' for the whole training split.",
    )
    arms: list[str] = option(
        ["e2e", "e2e+decay", "mlm", "mlm+decay"],
        f"Some of {', '.join(ARMS)}. e2e starts from the pretrained model, mlm from one adapted to the "
        "reviews, placebo from one adapted to other text; +decay uses layer-wise learning-rate decay.",
    )
    metric: str = option(
        "accuracy",
        "What the study is about, and, unless the section finetuning sets it, what chooses checkpoints.",
        choices=[*METRICS],
    )
    layer_decay: float = option(0.9, "Layer-wise learning-rate decay of the arms with +decay, between 0 and 1.")
    adapt_each_seed: bool = option(False, "Run an adaptation per seed. Default: one adaptation for all seeds.")
    launcher: str = option("local", f"What runs fine-tunings: {', '.join(LAUNCHERS)}.")
    jobs: int = option(1, "Fine-tunings that run in parallel, each in its own process.")
    keep_models: bool = option(False, "Keep the weights of every fine-tuning.")

    def __post_init__(self) -> None:
        """Sorts budgets and arms; raises InputError for values that no study can use."""
        limits = [normalise_limit("budgets", budget) for budget in self.budgets]
        self.budgets = sorted(limits, key=lambda limit: (limit == "all", limit.zfill(12)))
        for name in ("seeds", "budgets", "arms"):
            values = getattr(self, name)
            repeated = sorted({str(value) for value in values if values.count(value) > 1})
            require(not repeated, f"--{name}: {', '.join(repeated)} more than once")
        for seed in self.seeds:
            require(0 <= seed < 2**32, f"--seeds {seed}: {SEED_RANGE}")
        for name, values, known in (("arms", self.arms, ARMS), ("launcher", [self.launcher], LAUNCHERS)):
            unknown = ", ".join(value for value in values if value not in known)
            require(not unknown, f"--{name} {unknown}: choose among {', '.join(known)}")
        self.arms = [arm for arm in ARMS if arm in self.arms]
        require(self.jobs >= 1, f"--jobs {self.jobs}: at least 1")
        has_decay = any(ARMS[arm].has_layer_decay for arm in self.arms)
        require(not has_decay or 0 < self.layer_decay < 1, f"--layer_decay {self.layer_decay}: above 0 and below 1")
        kinds = self.list_adaptations()
        require("placebo" not in kinds or "mlm" in kinds, "--arms placebo+decay: add mlm+decay, whose steps it matches")

    def list_adaptations(self) -> list[str]:
        """The kinds of adaptation that the arms start from."""
        return list(dict.fromkeys(kind for arm in self.arms if (kind := ARMS[arm].adaptation)))


@dataclass(frozen=True)
class StudyOptions:
    """Options of a study, and those of its runs: of all fine-tunings, by budget, and of adaptations by kind."""

    args: StudyArguments
    finetuning: dict[str, Any]
    budget_options: dict[str, dict[str, Any]]
    adaptations: dict[str, dict[str, Any]]


def read_study(argv: Sequence[str]) -> StudyOptions:
    """The options in a `study.yaml` (default: the one in the package) and in the flags after it."""
    words = list(argv)
    path = Path(words.pop(0)) if words and words[0].endswith(parsing.YAML_SUFFIXES) else DEFAULT_STUDY
    values = parsing.read_yaml(path)
    sections = {name: values.pop(name, None) or {} for name in SECTIONS}
    known = parsing.list_options([StudyArguments]) | dict.fromkeys(SECTIONS)
    flags = parsing.build_flags(values, known, str(path))
    (args,) = parsing.parse_arguments([StudyArguments], flags + words, prog="sentiment study")
    (in_file,) = parsing.parse_arguments([StudyArguments], flags)

    shared = parse_section(sections["finetuning"], finetuning.ARGUMENTS, f"{path}, finetuning", RESERVED_FINETUNING)
    split_seed = shared.get("split_seed")
    shared = {"metric_for_best_model": args.metric} | shared if args.metric != "accuracy" else shared
    shared |= {"data_dir": args.data_dir, "split_seed": DEFAULT_SPLIT_SEED if split_seed is None else split_seed}
    where, budgets = f"{path}, budget_options", sorted({*args.budgets, *in_file.budgets})
    require(isinstance(sections["budget_options"], dict), f"{where}: must hold one 'budget: options' per line")
    by_budget = {}
    for key, section in sections["budget_options"].items():
        budget = str(key).replace("_", "").lower()
        require(budget in budgets, f"{where}: {key} is not one of the budgets {', '.join(budgets)}")
        # Options of training only: budgets share model and data.
        by_budget[budget] = parse_section(
            section or {}, [FinetuningArguments], f"{where} {budget}", RESERVED_FINETUNING, shared
        )
    return StudyOptions(args, shared, by_budget, read_adaptations(args, sections, shared, path))


def read_adaptations(
    args: StudyArguments, sections: Mapping[str, Any], finetuning_options: Mapping[str, Any], path: Path
) -> dict[str, dict[str, Any]]:
    """The options by kind of adaptation; the section `placebo` overrides `adaptation`, and all get its data."""
    kinds = args.list_adaptations()
    model_args, data_args = parsing.build_instances([ModelArguments, DataArguments], finetuning_options)
    require(
        not kinds or not data_args.keep_duplicates,
        f"{path}, finetuning: with keep_duplicates, equal texts may be in several splits, so that adaptations cannot "
        "exclude test texts: remove it, or the arms mlm, mlm+decay and placebo+decay",
    )
    reserved = RESERVED_ADAPTATION | ({"seed"} if args.adapt_each_seed else set())
    classes = adaptation.ARGUMENTS
    shared = parse_section(sections["adaptation"], classes, f"{path}, adaptation", reserved)
    own = parse_section(sections["placebo"], classes, f"{path}, placebo", reserved | {"max_steps"}, shared)
    require(
        "placebo" not in kinds or "dataset_name" in own,
        f"{path}, placebo: needs a dataset_name, the text that placebo+decay adapts to",
    )
    fixed = vars(model_args) | {"data_dir": args.data_dir, "target_dataset": data_args.dataset_name}
    fixed |= {f"target_{name}": getattr(data_args, name) for name in TARGET_OPTIONS}
    given = {"mlm": shared, "placebo": shared | own}
    return {kind: {"cleaning": data_args.cleaning} | given[kind] | fixed for kind in kinds}


def parse_section(
    section: Any,
    classes: Sequence[Any],
    where: str,
    reserved: Collection[str],
    base: Mapping[str, Any] | None = None,
    command: str = "study",
) -> dict[str, Any]:
    """The options in a section by their canonical names, converted as flags are, and checked together with `base`.

    `command` is what errors call the one that sets the options in `reserved`.
    """
    require(isinstance(section, dict), f"{where}: must hold one 'key: value' per line")
    names = parsing.get_canonical_names(classes)
    for key in section:
        require(names.get(key, key) not in reserved, f"{where}: '{key}' is set by the {command}: remove it")
    known = {name: kind for name, kind in parsing.list_options(classes).items() if names[name] not in reserved}
    flags = parsing.build_flags(section, known, where)
    try:
        parsed = vars(parsing.OptionParser(classes).parse_args(flags))
        options = {names[key]: parsed[names[key]] for key in section}
        parsing.build_instances(classes, {**(base or {}), **options})
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
    return options
