"""The options of a study: what its YAML file and flags say of fine-tunings, of single budgets, and of adaptations."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sentiment.config.arguments import (
    DATA_DIR,
    AdaptationArguments,
    CorpusArguments,
    DataArguments,
    FinetuningArguments,
    ModelArguments,
    normalise_limit,
)
from sentiment.config.parsing import build_flags, list_options, parse_arguments, parse_section, read_yaml
from sentiment.exceptions import require

DEFAULT_STUDY = Path(__file__).parents[1] / "config" / "study.yaml"
DEFAULT_SPLIT_SEED = 42
# Each arm: which adaptation it starts from, and whether rates decay from layer to layer.
ARMS: dict[str, tuple[str | None, bool]] = {
    "e2e": (None, False),
    "e2e+decay": (None, True),
    "mlm": ("mlm", False),
    "mlm+decay": ("mlm", True),
    "placebo+decay": ("placebo", True),
}
SECTIONS = ("finetuning", "budget_options", "adaptation", "placebo")
# What sections may not set: the study does, for all runs alike or for each by its place.
OF_EVERY_RUN = {"output_dir", "data_dir", "resume", "overwrite"}
OF_FINETUNINGS = OF_EVERY_RUN | {"seed", "max_train_samples", "layer_decay"}
OF_ADAPTATIONS = (
    OF_EVERY_RUN | {"model_name_or_path"} | {name for name in list_options([CorpusArguments]) if "target" in name}
)


@dataclass
class StudyArguments:
    """Which arms, budgets and seeds to train, and where to write."""

    output_dir: str = field(default="outputs/study", metadata={"help": "Where the study's folder is written."})
    data_dir: str | None = field(default=None, metadata=DATA_DIR)
    seeds: list[int] = field(default_factory=lambda: [1, 2, 3], metadata={"help": "Every arm is trained with each."})
    budgets: list[str] = field(
        default_factory=lambda: ["100", "300", "1000", "3000", "all"],
        metadata={"help": "Training rows: numbers, and 'all' for the whole training split."},
    )
    arms: list[str] = field(
        default_factory=lambda: ["e2e", "e2e+decay", "mlm", "mlm+decay"],
        metadata={
            "help": f"Some of {', '.join(ARMS)}: from the model as it is, or adapted to the reviews (mlm) or to other "
            "text (placebo); with or without layer-wise decay."
        },
    )
    layer_decay: float = field(
        default=0.9, metadata={"help": "Factor on the rate from each layer to the one below, in arms with decay."}
    )
    adapt_each_seed: bool = field(
        default=False, metadata={"help": "Adapt once for each seed. Default: once, shared by all runs."}
    )
    jobs: int = field(default=1, metadata={"help": "Fine-tunings that run side by side, each in a process."})
    keep_models: bool = field(default=False, metadata={"help": "Keep the weights of every fine-tuning."})

    def __post_init__(self) -> None:
        """Refuses values that no study can use, and puts budgets and arms in order."""
        limits = [normalise_limit("budgets", budget) for budget in self.budgets]
        self.budgets = sorted(limits, key=lambda limit: (limit == "all", limit.zfill(12)))
        for name in ("seeds", "budgets", "arms"):
            values = getattr(self, name)
            twice = sorted({str(value) for value in values if values.count(value) > 1})
            require(not twice, f"--{name}: {', '.join(twice)} more than once")
        unknown = ", ".join(arm for arm in self.arms if arm not in ARMS)
        require(not unknown, f"--arms {unknown}: choose among {', '.join(ARMS)}")
        self.arms = [arm for arm in ARMS if arm in self.arms]
        require(self.jobs >= 1, f"--jobs {self.jobs}: at least 1")
        decays = any(ARMS[arm][1] for arm in self.arms)
        require(self.layer_decay < 1 or not decays, f"--layer_decay {self.layer_decay}: below 1, or nothing decays")
        kinds = {ARMS[arm][0] for arm in self.arms}
        require("placebo" not in kinds or "mlm" in kinds, "--arms placebo+decay: add mlm+decay, whose steps it takes")


@dataclass(frozen=True)
class StudyOptions:
    """All options of a study.

    `budget_options` hold what differs at a budget; `adaptations` what each kind of adaptation (`mlm`, `placebo`) that
    the arms need reads and how it trains, with seed and folder still to be set.
    """

    args: StudyArguments
    model_args: ModelArguments
    data_args: DataArguments
    run_args: FinetuningArguments
    budget_options: dict[str, dict[str, Any]]
    adaptations: dict[str, tuple[CorpusArguments, AdaptationArguments]]


def read_study(argv: Sequence[str]) -> StudyOptions:
    """The options that a `study.yaml`, if one stands in front, and flags give; without a file, `configs/study.yaml`.

    Raises:
        InputError: an option is unknown, wrong, or contradicts another; names the file and the section.
    """
    words = list(argv)
    path = Path(words.pop(0)) if words and words[0].endswith((".yaml", ".yml")) else DEFAULT_STUDY
    values = read_yaml(path)
    sections = {name: values.pop(name, None) or {} for name in SECTIONS}
    for name, section in sections.items():
        require(isinstance(section, dict), f"{path}, {name} must hold one 'key: value' a line")
    flags = build_flags(values, list_options([StudyArguments]) | dict.fromkeys(SECTIONS), str(path))
    (args,) = parse_arguments([StudyArguments], flags + words, prog="sentiment study")
    (in_file,) = parse_arguments([StudyArguments], flags)
    where = f"{path}, finetuning"
    classes = (ModelArguments, DataArguments, FinetuningArguments)
    model_args, data_args, run_args = parse_part(sections["finetuning"], classes, where, OF_FINETUNINGS)
    split_seed = DEFAULT_SPLIT_SEED if data_args.split_seed is None else data_args.split_seed
    data_args = replace(data_args, data_dir=args.data_dir, split_seed=split_seed)
    budgets = sorted({*args.budgets, *in_file.budgets})
    by_budget = read_budget_options(sections["budget_options"], budgets, f"{path}, budget_options")
    adaptations = read_adaptations(args, sections, data_args, str(path))
    return StudyOptions(args, model_args, data_args, run_args, by_budget, adaptations)


def read_budget_options(section: dict[Any, Any], budgets: Sequence[str], where: str) -> dict[str, dict[str, Any]]:
    """What differs at each of these budgets: options of how to train, since other models or data would not compare.

    Raises:
        InputError: a budget that the study has not, or a wrong option.
    """
    found = {}
    for key, values in section.items():
        budget = str(key).replace("_", "").lower()
        require(budget in budgets, f"{where}: {key} is none of the budgets {', '.join(budgets)}")
        (parsed,) = parse_part(values or {}, [FinetuningArguments], f"{where} {budget}", OF_FINETUNINGS)
        found[budget] = {name: getattr(parsed, name) for name in values or {}}
    return found


def read_adaptations(
    args: StudyArguments, sections: dict[str, dict[Any, Any]], target: DataArguments, path: str
) -> dict[str, tuple[CorpusArguments, AdaptationArguments]]:
    """The options of the adaptations that the arms need, aimed at the fine-tunings' data.

    The placebo differs from the adaptation to reviews in what its section says, and in nothing else; it takes as many
    steps, whatever its epochs.
    """
    kinds = {ARMS[arm][0] for arm in args.arms} - {None}
    require(
        not kinds or not target.keep_duplicates,
        f"{path}, finetuning: keep_duplicates lets one text be on several sides, so that no adaptation can leave the "
        "test's texts out; leave it out, or the arms mlm, mlm+decay and placebo+decay",
    )
    reserved = OF_ADAPTATIONS | ({"seed"} if args.adapt_each_seed else set())
    classes = (CorpusArguments, AdaptationArguments)
    shared, own = sections["adaptation"], sections["placebo"]
    found = {}
    if "mlm" in kinds:
        corpus_args, run_args = parse_part(shared, classes, f"{path}, adaptation", reserved)
        found["mlm"] = point_at(target, corpus_args, "cleaning" in shared), run_args
    if "placebo" in kinds:
        where = f"{path}, placebo"
        require("dataset_name" in own, f"{where} must name the dataset (dataset_name) that placebo+decay adapts to")
        parse_part(own, classes, where, reserved | {"max_steps"})
        corpus_args, run_args = parse_part(shared | own, classes, where, reserved)
        found["placebo"] = point_at(target, corpus_args, "cleaning" in shared | own), run_args
    return found


def point_at(target: DataArguments, corpus_args: CorpusArguments, keeps_cleaning: bool) -> CorpusArguments:
    """The corpus without any text that the fine-tunings are validated or tested on, cleaned as theirs is."""
    return replace(
        corpus_args,
        data_dir=target.data_dir,
        target_dataset=target.dataset_name,
        target_split=target.split,
        target_max_rows=target.max_rows,
        target_sample=target.sample,
        target_split_seed=target.split_seed,
        cleaning=corpus_args.cleaning if keeps_cleaning else target.cleaning,
    )


def parse_part(values: Any, classes: Sequence[Any], where: str, reserved: Collection[str]) -> tuple[Any, ...]:
    """`parse_section`, which says of the `reserved` options that the study sets them."""
    found = sorted(set(reserved).intersection(values)) if isinstance(values, dict) else []
    require(not found, f"{where}: '{found[0] if found else ''}' is the study's to set: leave it out there")
    return parse_section(values, classes, where, reserved)
