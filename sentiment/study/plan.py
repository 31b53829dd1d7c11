"""The plan of a study: every adaptation and fine-tuning with its options, and the data that they share."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from sentiment.config.arguments import DataArguments
from sentiment.config.data_arguments import check_metric
from sentiment.config.parsing import build_arguments, build_instances
from sentiment.config.presets import apply_lab_values, choose_training_size
from sentiment.config.recorded_options import collect_options
from sentiment.data.assignment import sample_training_rows
from sentiment.data.finetuning_data import load_split_reviews
from sentiment.data.splits import compute_fingerprint
from sentiment.exceptions import require
from sentiment.pipelines import adaptation, finetuning
from sentiment.storage import read_json
from sentiment.study.arguments import MATCHED, StudyOptions, read_study

# Time to load, audit and report a run, in rows that could be trained on meanwhile.
OVERHEAD_ROWS = 2_000


@dataclass(frozen=True)
class PlannedRun(ABC):
    """A run as plain data; `options` are those of `sentiment.finetune` or `sentiment.adapt`."""

    argument_classes: ClassVar[tuple[type, ...]]
    options: dict[str, Any]
    log: Path

    @property
    def folder(self) -> Path:
        """Folder of the run."""
        return Path(self.options["output_dir"])

    @property
    @abstractmethod
    def waits_for(self) -> Path | None:
        """Folder of the adaptation that must be finished before."""

    @abstractmethod
    def train(self) -> str:
        """Train it, and return the result in words."""

    def build_arguments(self) -> tuple[Any, ...]:
        """The options as the run takes them."""
        return build_arguments(self.argument_classes, self.options)

    @property
    def recorded_options(self) -> dict[str, Any]:
        """The options as run.json has them."""
        return collect_options(*self.build_arguments())


Run = TypeVar("Run", bound=PlannedRun)


@dataclass(frozen=True)
class PlannedAdaptation(PlannedRun):
    """An adaptation; `steps_from` is the folder of another one whose number of steps it must match."""

    argument_classes = adaptation.ARGUMENTS
    kind: str
    steps_from: Path | None = None

    def __str__(self) -> str:
        names = self.options.get("dataset_name")  # none for an objective that reads the labelled rows
        return f"adaptation to {' and '.join(names) if names else 'the labelled rows'} ({self.folder})"

    @property
    def waits_for(self) -> Path | None:
        """Folder of the adaptation whose number of steps it must match."""
        return self.steps_from

    def train(self) -> str:
        """Train it, and return the losses in words."""
        losses = adaptation.adapt(**self.options)["validation"]
        return f"loss {losses['before']['loss']:.2f} -> {losses['after']['loss']:.2f} on held-out text"


@dataclass(frozen=True)
class PlannedFinetuning(PlannedRun):
    """A fine-tuning; `adaptation` is the folder of the adaptation that it starts from."""

    argument_classes = finetuning.ARGUMENTS
    arm: str
    budget: str
    seed: int
    adaptation: Path | None = None

    def build_arguments(self) -> tuple[Any, ...]:
        """The options as the run takes them."""
        model_args, data_args, args = super().build_arguments()
        apply_lab_values(data_args, args)
        return model_args, data_args, args

    def __str__(self) -> str:
        labels = "all" if self.budget == "all" else f"{int(self.budget):,}"
        return f"{self.arm}, {labels} labels, seed {self.seed}"

    @property
    def waits_for(self) -> Path | None:
        """Folder of the adaptation that it starts from."""
        return self.adaptation

    def train(self) -> str:
        """Train it, and return the accuracy in words, and whether the model has collapsed."""
        metrics = finetuning.finetune(strategy="finetune" if self.adaptation else "e2e", **self.options)
        after = metrics["test"]["after"]
        collapsed = f", collapsed to {after['collapsed']!r}" if after.get("collapsed") else ""
        return f"test accuracy {after['accuracy']:.3f}{collapsed}"


@dataclass(frozen=True)
class StudyData:
    """The split that all runs share: rows by budget, and fingerprints of each split by budget and seed."""

    train_rows: dict[str, int]
    validation_rows: int
    test_rows: int
    fingerprints: dict[tuple[str, int], dict[str, str]]

    def estimate_work(self, run: PlannedFinetuning) -> float:
        """Relative duration of a run, in rows trained on; a row evaluated counts a third."""
        rows = self.train_rows[run.budget]
        args = run.build_arguments()[-1]
        choose_training_size(args, rows)
        evaluated = args.num_train_epochs * self.validation_rows + 2 * self.test_rows
        return float(args.num_train_epochs * rows + evaluated / 3 + OVERHEAD_ROWS)


@dataclass(frozen=True)
class StudyPlan:
    """All runs of a study in the order of training."""

    folder: Path
    options: StudyOptions
    adaptations: list[PlannedAdaptation]
    finetunings: list[PlannedFinetuning]

    @cached_property
    def data(self) -> StudyData:
        """The split that all runs share; raises InputError if a budget cannot be sampled from it."""
        (data_args,) = build_instances([DataArguments], self.options.finetuning)
        reviews = load_split_reviews(data_args, seed=0)
        train, whole = reviews.splits["train"], reviews.fingerprints
        check_metric(self.options.args.metric, train.features["label"].names)
        rows, fingerprints = {}, {}
        for budget, seed in product(self.options.args.budgets, self.options.args.seeds):
            sample = train if budget == "all" else sample_training_rows(train, int(budget), seed)
            rows[budget] = len(sample)
            fingerprints[budget, seed] = whole | {"train": compute_fingerprint(sample)}
        require(
            len(set(rows.values())) == len(rows),
            f"--budgets {' '.join(rows)}: two are the same, since the training split has {len(train):,} rows",
        )
        return StudyData(rows, len(reviews.splits["validation"]), len(reviews.splits["test"]), fingerprints)


def build_study_plan(argv: Sequence[str]) -> StudyPlan:
    """The plan for the words of a command line; see `read_study`."""
    options = read_study(argv)
    args = options.args
    runs = list(product(args.seeds, args.budgets, options.arms))
    finetunings = [plan_finetuning(options, arm, budget, seed) for seed, budget, arm in runs]
    planned: dict[Path, tuple[str, str, int]] = {}
    for kind, (seed, budget, arm) in product(options.adaptations, runs):
        if options.arms[arm].adaptation == kind:
            planned.setdefault(get_adaptation_folder(options, kind, budget, seed), (kind, budget, seed))
    adaptations = [plan_adaptation(options, *keys) for keys in planned.values()]
    return StudyPlan(Path(args.output_dir), options, adaptations, finetunings)


def plan_adaptation(options: StudyOptions, kind: str, budget: str, seed: int) -> PlannedAdaptation:
    """The adaptation of one kind that the fine-tunings of a budget and seed start from."""
    folder, own = get_adaptation_folder(options, kind, budget, seed), dict(options.adaptations[kind])
    if options.reads_labels(kind):
        own |= {"seed": seed, "target_max_train_samples": None if budget == "all" else int(budget)}
    elif options.args.adapt_each_seed:
        own["seed"] = seed
    steps_from = get_adaptation_folder(options, MATCHED[kind], budget, seed) if kind in MATCHED else None
    log = folder.parent / "logs" / f"{folder.name}.log"
    return PlannedAdaptation(own | {"output_dir": str(folder), "resume": True}, log, kind, steps_from)


def plan_finetuning(options: StudyOptions, arm: str, budget: str, seed: int) -> PlannedFinetuning:
    """The fine-tuning of one arm, budget and seed."""
    folder, name = Path(options.args.output_dir), f"{arm}_{budget}_{seed}"
    own = options.budget_options.get(budget, {}) | options.arms[arm].options
    own |= {
        "output_dir": str(folder / "runs" / name),
        "seed": seed,
        "max_train_samples": None if budget == "all" else int(budget),
        "resume": True,
    }
    kind = options.arms[arm].adaptation
    start = get_adaptation_folder(options, kind, budget, seed) if kind else None
    if start:
        own |= {"model_name_or_path": str(start), "model_revision": None}
    return PlannedFinetuning(options.finetuning | own, folder / "logs" / f"{name}.log", arm, budget, seed, start)


def get_adaptation_folder(options: StudyOptions, kind: str, budget: str, seed: int) -> Path:
    """The folder of an adaptation, which all budgets and seeds share unless it reads labels, or `adapt_each_seed`."""
    args = options.args
    name = f"{kind}_{seed}" if args.adapt_each_seed else kind
    return Path(args.output_dir) / (f"{kind}_{budget}_{seed}" if options.reads_labels(kind) else name)


def match_steps(planned: Run) -> Run | None:
    """The run, with `max_steps` set where it must match an adaptation's steps; None if those are not known yet."""
    if not isinstance(planned, PlannedAdaptation) or planned.steps_from is None:
        return planned
    metrics_file = planned.steps_from / "metrics.json"
    if not metrics_file.exists():
        return None
    steps = read_json(metrics_file)["history"][-1]["step"]
    return replace(planned, options=planned.options | {"max_steps": steps})
