"""The options of a search, from a YAML file and flags: its own, those of its runs, and the space that it searches."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sentiment.config import parsing
from sentiment.config.arguments import DataArguments, ModelArguments
from sentiment.config.data_arguments import METRICS, SEED_RANGE, option
from sentiment.config.recorded_options import collect_options
from sentiment.data.adaptation_data import TARGET_OPTIONS
from sentiment.exceptions import require
from sentiment.objectives import OBJECTIVES
from sentiment.objectives.objective import OPTIONS as OBJECTIVE_OPTIONS
from sentiment.pipelines import adaptation, finetuning
from sentiment.search.space import Dimension, parse_space
from sentiment.study.arguments import (
    DEFAULT_SPLIT_SEED,
    LAUNCHERS,
    RESERVED,
    parse_section,
)

DEFAULT_SEARCH = parsing.CONFIG_DIR / "search.yaml"
SECTIONS = ("finetuning", "adaptation", "space")
STAGES = ("finetuning", "adaptation")
RESERVED_FINETUNING = RESERVED | {"seed"}
RESERVED_ADAPTATION = RESERVED | {"model_name_or_path", "model_revision", "target_dataset", "target_max_train_samples"}
RESERVED_ADAPTATION |= {f"target_{name}" for name in TARGET_OPTIONS}
# Options that choose rows and labels, which all trials must share.
ROW_OPTIONS = {"dataset_name", "cleaning", "keep_duplicates", "preset", "language", "text_column_delimiter"}
ROW_OPTIONS |= {"max_train_samples", *TARGET_OPTIONS}
ADAPTATION_ROW_OPTIONS = {"cleaning", "preset", "text_column_delimiter"}
# Options of a search that change neither a trial nor its score: a search may be continued with others.
NEUTRAL_OPTIONS = {"output_dir", "data_dir", "trials", "confirm_seeds", "launcher", "jobs"}
FOLDER_OPTIONS = {"output_dir", "data_dir", "resume"}
DEFAULT_OBJECTIVE = "mlm"


@dataclass
class SearchArguments:
    """Trials, seeds and output folder of a search."""

    output_dir: str = option("outputs/search", "Folder of the search.")
    data_dir: str | None = option(
        None, "Folder with local copies of datasets, read instead of the Hub. Default: SENTIMENT_DATA_DIR."
    )
    trials: int = option(20, "Trials in all; with a higher number, a finished search goes on.")
    seeds: list[int] = option([1], "Seeds of each trial, whose score is the mean over them.")
    confirm_seeds: list[int] = option(
        [],
        "Other seeds, with which the best options and the defaults are trained once more, since the best score of many "
        "trials is too high. Default: none.",
    )
    metric: str = option(
        "accuracy",
        "Validation metric to maximise, and, unless the section finetuning sets it, what chooses checkpoints.",
        choices=[*METRICS],
    )
    seed: int = option(42, "Seed of the sampler.")
    startup_trials: int = option(8, "Trials with random options, before the sampler (TPE) learns from their scores.")
    prune: bool = option(True, "Stop trials whose score falls below the median of earlier ones.")
    launcher: str = option("local", f"What runs trials: {', '.join(LAUNCHERS)}.")
    jobs: int = option(1, "Trials that run in parallel.")

    def __post_init__(self) -> None:
        """Raises InputError for values that no search can use."""
        for name in ("seeds", "confirm_seeds"):
            values = getattr(self, name)
            repeated = sorted({str(value) for value in values if values.count(value) > 1})
            require(not repeated, f"--{name}: {', '.join(repeated)} more than once")
            for seed in values:
                require(0 <= seed < 2**32, f"--{name} {seed}: {SEED_RANGE}")
        require(0 <= self.seed < 2**32, f"--seed {self.seed}: {SEED_RANGE}")
        same = ", ".join(str(seed) for seed in self.confirm_seeds if seed in self.seeds)
        require(not same, f"--confirm_seeds {same}: the trials are trained with it, pass others than in --seeds")
        for name in ("trials", "startup_trials", "jobs"):
            require(getattr(self, name) >= 1, f"--{name} {getattr(self, name)}: at least 1")
        require(self.launcher in LAUNCHERS, f"--launcher {self.launcher}: choose among {', '.join(LAUNCHERS)}")


@dataclass(frozen=True)
class Candidate:
    """Options to train with, as plain data: of the fine-tuning and, if there is one, of the adaptation before it."""

    finetuning: dict[str, Any]
    adaptation: dict[str, Any] | None

    @property
    def strategy(self) -> str:
        """The strategy of the fine-tuning."""
        return "finetune" if self.adaptation else "e2e"

    @property
    def reads_labels(self) -> bool:
        """Whether the adaptation depends on labels, so that each seed has its own, with its training rows alone."""
        options = self.adaptation or {}
        by_probe = options.get("metric_for_best_model") == "probe_accuracy"
        return by_probe or OBJECTIVES[options.get("objective", DEFAULT_OBJECTIVE)].reads_labels

    def build_adaptation(self, seed: int) -> dict[str, Any] | None:
        """The options of the adaptation that the fine-tuning with this seed starts from; None without one."""
        if self.adaptation is None or not self.reads_labels:
            return self.adaptation
        budget = self.finetuning.get("max_train_samples")
        return self.adaptation | {"seed": seed, "target_max_train_samples": budget}


def name_adaptation(options: Mapping[str, Any]) -> str:
    """A name that depends on the options of an adaptation alone, so that trials with equal ones share it."""
    collected = collect_options(*parsing.build_arguments(adaptation.ARGUMENTS, options))
    recorded = {name: value for name, value in collected.items() if name not in FOLDER_OPTIONS}
    return hashlib.sha256(json.dumps(recorded, sort_keys=True, default=str).encode()).hexdigest()[:10]


@dataclass(frozen=True)
class SearchOptions:
    """Options of a search, those that all its runs share, and the space; `adaptation` is None without one."""

    args: SearchArguments
    finetuning: dict[str, Any]
    adaptation: dict[str, Any] | None
    space: tuple[Dimension, ...]

    @property
    def folder(self) -> Path:
        """The folder of the search."""
        return Path(self.args.output_dir)

    def build_candidate(self, params: Mapping[str, Any]) -> Candidate:
        """The options of a trial from the values that the sampler drew, by `Dimension.key`; {} gives the defaults."""
        chosen: dict[str, dict[str, Any]] = {stage: {} for stage in STAGES}
        for dimension in self.space:
            if dimension.key in params:
                chosen[dimension.stage][dimension.name] = dimension.convert(params[dimension.key])
        options = self.finetuning | chosen["finetuning"]
        if self.adaptation is None:
            return Candidate(options, None)
        model_args, data_args = parsing.build_instances([ModelArguments, DataArguments], options)
        fixed = vars(model_args) | {"data_dir": self.args.data_dir, "target_dataset": data_args.dataset_name}
        fixed |= {f"target_{name}": getattr(data_args, name) for name in TARGET_OPTIONS}
        adapting = self.adaptation | chosen["adaptation"]
        if "objective" in chosen["adaptation"]:
            objective = OBJECTIVES[adapting["objective"]]
            unused = {name for name in OBJECTIVE_OPTIONS if name not in objective.options}
            if objective.reads_labels and "dataset_name" not in chosen["adaptation"]:
                unused.add("dataset_name")  # the text of others is none to learn from labels
            adapting = {name: value for name, value in adapting.items() if name not in unused}
        strategy = finetuning.STRATEGIES["finetune"]
        return Candidate(strategy | options, {"cleaning": data_args.cleaning} | adapting | fixed)

    def describe(self) -> dict[str, Any]:
        """What decides the trials and their scores, as JSON: a folder holds trials of one such description."""
        own = {name: value for name, value in vars(self.args).items() if name not in NEUTRAL_OPTIONS}
        stages = {"finetuning": self.finetuning, "adaptation": self.adaptation}
        described: dict[str, Any] = {
            stage: options and {name: value for name, value in options.items() if name not in FOLDER_OPTIONS}
            for stage, options in stages.items()
        }
        described |= {"space": {dimension.key: dimension.describe() for dimension in self.space}, "search": own}
        plain: dict[str, Any] = json.loads(json.dumps(described, default=str))
        return plain


def read_search(argv: Sequence[str]) -> SearchOptions:
    """The options in a `search.yaml` (default: the one in the package) and in the flags after it."""
    words = list(argv)
    path = Path(words.pop(0)) if words and words[0].endswith(parsing.YAML_SUFFIXES) else DEFAULT_SEARCH
    values = parsing.read_yaml(path)
    has_adaptation = "adaptation" in values
    sections = {name: values.pop(name, None) or {} for name in SECTIONS}
    known = parsing.list_options([SearchArguments]) | dict.fromkeys(SECTIONS)
    flags = parsing.build_flags(values, known, str(path))
    (args,) = parsing.parse_arguments([SearchArguments], flags + words, prog="sentiment search")

    shared = parse_section(
        sections["finetuning"], finetuning.ARGUMENTS, f"{path}, finetuning", RESERVED_FINETUNING, command="search"
    )
    split_seed = shared.get("split_seed")
    shared = {"metric_for_best_model": args.metric} | shared
    shared |= {"data_dir": args.data_dir, "split_seed": DEFAULT_SPLIT_SEED if split_seed is None else split_seed}
    adapting = None
    if has_adaptation:
        (data_args,) = parsing.build_instances([DataArguments], shared)
        require(
            not data_args.keep_duplicates,
            f"{path}, finetuning: with keep_duplicates, equal texts may be in several splits, so that an adaptation "
            "cannot exclude test texts: remove it, or the section adaptation",
        )
        where = f"{path}, adaptation"
        adapting = parse_section(
            sections["adaptation"], adaptation.ARGUMENTS, where, RESERVED_ADAPTATION, command="search"
        )
    space = read_space(sections["space"], shared, adapting, path)
    given = [(adapting or {}).get("objective", DEFAULT_OBJECTIVE)]
    searched = [objective for dimension in space if dimension.name == "objective" for objective in dimension.choices]
    for objective in given + searched:
        require(objective in OBJECTIVES, f"{path}: objective {objective}: choose among {', '.join(OBJECTIVES)}")
    return SearchOptions(args, shared, adapting, space)


def read_space(
    section: Any, shared: Mapping[str, Any], adapting: Mapping[str, Any] | None, path: Path
) -> tuple[Dimension, ...]:
    """The space of both stages; raises InputError if it is empty, or has options that may not differ between trials."""
    require(isinstance(section, dict), f"{path}, space: must hold the sections {' and '.join(STAGES)}")
    unknown = ", ".join(str(name) for name in section if name not in STAGES)
    require(not unknown, f"{path}, space: unknown key '{unknown}'; the keys are {', '.join(STAGES)}")
    require(
        adapting is not None or not section.get("adaptation"),
        f"{path}, space: 'adaptation' needs a section adaptation beside space, with the text to adapt to",
    )
    space = parse_space(
        section.get("finetuning") or {},
        *(finetuning.ARGUMENTS, f"{path}, space finetuning", "finetuning"),
        *(RESERVED_FINETUNING, ROW_OPTIONS, shared),
    )
    if adapting is not None:
        space += parse_space(
            section.get("adaptation") or {},
            *(adaptation.ARGUMENTS, f"{path}, space adaptation", "adaptation"),
            *(RESERVED_ADAPTATION, ADAPTATION_ROW_OPTIONS, adapting),
        )
    require(
        bool(space),
        f"{path}, space: must name at least one option, such as learning_rate: {{low: 1e-5, high: 1e-4, log: true}}",
    )
    return tuple(space)
