"""What a study trains: every adaptation and every fine-tuning with all of its options."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sentiment.config.arguments import (
    AdaptationArguments,
    CorpusArguments,
    DataArguments,
    FinetuningArguments,
    ModelArguments,
    collect_options,
)
from sentiment.storage import read_json
from sentiment.study.arguments import ARMS, StudyArguments, StudyOptions, read_study


@dataclass(frozen=True)
class AdaptationPlan:
    """An adaptation that fine-tunings start from; `kind` is `mlm` or `placebo`."""

    kind: str
    model_args: ModelArguments
    corpus_args: CorpusArguments
    args: AdaptationArguments

    @property
    def folder(self) -> Path:
        """Where it is written."""
        return Path(self.args.output_dir)

    @property
    def options(self) -> dict[str, Any]:
        """As its run.json holds them."""
        return collect_options(self.model_args, self.corpus_args, self.args)


@dataclass(frozen=True)
class FinetuningPlan:
    """One fine-tuning of a study; `adaptation` is the folder that its model comes from."""

    arm: str
    budget: str
    seed: int
    adaptation: Path | None
    model_args: ModelArguments
    data_args: DataArguments
    args: FinetuningArguments

    @property
    def folder(self) -> Path:
        """Where it is written."""
        return Path(self.args.output_dir)

    @property
    def options(self) -> dict[str, Any]:
        """As its run.json holds them."""
        return collect_options(self.model_args, self.data_args, self.args)

    @property
    def title(self) -> str:
        """What to call it."""
        labels = "all" if self.budget == "all" else f"{int(self.budget):,}"
        return f"{self.arm}, {labels} labels, seed {self.seed}"


@dataclass(frozen=True)
class StudyPlan:
    """Everything that a study trains; an adaptation stands before the placebo that takes its steps from it."""

    options: StudyOptions
    adaptations: list[AdaptationPlan]
    finetunings: list[FinetuningPlan]

    @property
    def args(self) -> StudyArguments:
        """Which arms, budgets and seeds, and where to write."""
        return self.options.args

    @property
    def folder(self) -> Path:
        """Where the study is written."""
        return Path(self.args.output_dir)


def build_study_plan(argv: Sequence[str]) -> StudyPlan:
    """The plan that a `study.yaml`, if one stands in front, and flags make; see `read_study`."""
    options = read_study(argv)
    return StudyPlan(options, plan_adaptations(options), plan_finetunings(options))


def plan_adaptations(options: StudyOptions) -> list[AdaptationPlan]:
    """The adaptations that the arms start from: one of each kind, or one for each seed."""
    return [
        AdaptationPlan(
            kind,
            options.model_args,
            corpus_args,
            replace(
                run_args, seed=seed, resume=True, output_dir=str(choose_adaptation_folder(options.args, kind, seed))
            ),
        )
        for kind, (corpus_args, run_args) in options.adaptations.items()
        for seed in (options.args.seeds if options.args.adapt_each_seed else [run_args.seed])
    ]


def plan_finetunings(options: StudyOptions) -> list[FinetuningPlan]:
    """Every arm with every budget and seed; all of one seed come before those of the next."""
    return [
        plan_finetuning(options, arm, budget, seed)
        for seed in options.args.seeds
        for budget in options.args.budgets
        for arm in options.args.arms
    ]


def plan_finetuning(options: StudyOptions, arm: str, budget: str, seed: int) -> FinetuningPlan:
    """The fine-tuning of one arm, budget and seed; it is resumed where an earlier study left it."""
    kind, decays = ARMS[arm]
    adaptation = choose_adaptation_folder(options.args, kind, seed) if kind else None
    own = options.budget_options.get(budget, {}) | {
        "output_dir": str(Path(options.args.output_dir) / "runs" / f"{arm}_{budget}_{seed}"),
        "seed": seed,
        "layer_decay": options.args.layer_decay if decays else 1.0,
        "resume": True,
    }
    return FinetuningPlan(
        arm=arm,
        budget=budget,
        seed=seed,
        adaptation=adaptation,
        model_args=ModelArguments(model_name_or_path=str(adaptation)) if adaptation else options.model_args,
        data_args=replace(options.data_args, max_train_samples=None if budget == "all" else int(budget)),
        args=replace(options.run_args, **own),
    )


def choose_adaptation_folder(args: StudyArguments, kind: str, seed: int) -> Path:
    """Where an adaptation is written: one folder for all seeds, or one for each."""
    return Path(args.output_dir) / (f"{kind}_{seed}" if args.adapt_each_seed else kind)


def fill_in_steps(adaptations: Sequence[AdaptationPlan]) -> list[AdaptationPlan]:
    """Those whose options are all known: a placebo takes as many steps as the adaptation to reviews did."""
    known = []
    for adaptation in adaptations:
        model = adaptation.folder.with_name(adaptation.folder.name.replace("placebo", "mlm"))
        if adaptation.kind == "mlm":
            known.append(adaptation)
        elif (model / "metrics.json").exists():
            steps = read_json(model / "metrics.json")["history"][-1]["step"]
            known.append(replace(adaptation, args=replace(adaptation.args, max_steps=steps)))
    return known
