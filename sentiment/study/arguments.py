"""The options of a study, from a YAML file and flags: its own, and sections with options of its runs."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sentiment.config import parsing
from sentiment.config.arguments import DataArguments, FinetuningArguments, ModelArguments
from sentiment.config.data_arguments import METRICS, SEED_RANGE, normalise_limit, option
from sentiment.data.adaptation_data import TARGET_OPTIONS
from sentiment.evaluation.study_effects import EFFECTS
from sentiment.exceptions import InputError, require
from sentiment.objectives import OBJECTIVES
from sentiment.pipelines import adaptation, finetuning
from sentiment.study.launchers import Launcher, run_locally

DEFAULT_STUDY = parsing.CONFIG_DIR / "study.yaml"
DEFAULT_SPLIT_SEED = 42


@dataclass(frozen=True)
class Arm:
    """How an arm trains: the adaptation that it starts from, and its own options of fine-tuning."""

    adaptation: str | None = None
    options: dict[str, Any] = field(default_factory=dict)


# Arms that need no definition; those with +decay get the `layer_decay` of the study.
ARMS = {
    "e2e": Arm(),
    "e2e+decay": Arm(options={"layer_decay": None}),
    "mlm": Arm("mlm"),
    "mlm+decay": Arm("mlm", {"layer_decay": None}),
    "placebo+decay": Arm("placebo", {"layer_decay": None}),
}
MATCHED = {"placebo": "mlm"}  # adaptations with as many steps as another one
NAME = re.compile(r"[\w][\w.+-]*")  # of an arm or adaptation: files are named by it
LAUNCHERS: dict[str, Launcher] = {"local": run_locally}
SECTIONS = ("finetuning", "budget_options", "adaptation", "adaptations", "placebo", "effects")
# Options that sections may not set, since the study sets them.
RESERVED = {"output_dir", "data_dir", "resume", "resume_from_checkpoint", "overwrite", "push_to_hub"}
RESERVED_FINETUNING = RESERVED | {"seed", "max_train_samples", "layer_decay"}
RESERVED_ADAPTATION = RESERVED | {"model_name_or_path", "model_revision", "target_dataset", "target_max_train_samples"}
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
        f"Some of {', '.join(ARMS)}, or of those that the study.yaml defines. e2e starts from the pretrained model, "
        "mlm from one adapted to the reviews, placebo from one adapted to other text; +decay uses layer-wise "
        "learning-rate decay.",
    )
    strategies: list[str] = option(
        ["e2e", "mlm+decay"], "The two arms that the verdict compares: strategy A and strategy B, which adapts first."
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
        """Sorts budgets; raises InputError for values that no study can use."""
        limits = [normalise_limit("budgets", budget) for budget in self.budgets]
        self.budgets = sorted(limits, key=lambda limit: (limit == "all", limit.zfill(12)))
        for name in ("seeds", "budgets", "arms", "strategies"):
            values = getattr(self, name)
            repeated = sorted({str(value) for value in values if values.count(value) > 1})
            require(not repeated, f"--{name}: {', '.join(repeated)} more than once")
        for seed in self.seeds:
            require(0 <= seed < 2**32, f"--seeds {seed}: {SEED_RANGE}")
        require(self.launcher in LAUNCHERS, f"--launcher {self.launcher}: choose among {', '.join(LAUNCHERS)}")
        require(self.jobs >= 1, f"--jobs {self.jobs}: at least 1")
        require(len(self.strategies) == 2, f"--strategies {' '.join(self.strategies)}: name two arms")


@dataclass(frozen=True)
class StudyOptions:
    """Options of a study, and those of its runs: of all fine-tunings, by budget, by arm, and of adaptations by name.

    `effects` names the pairs of arms that are compared.
    """

    args: StudyArguments
    arms: dict[str, Arm]
    finetuning: dict[str, Any]
    budget_options: dict[str, dict[str, Any]]
    adaptations: dict[str, dict[str, Any]]
    effects: dict[str, tuple[str, str]]

    def reads_labels(self, kind: str) -> bool:
        """Whether an adaptation depends on labels, so that each budget and seed has its own, with its labels alone."""
        options = self.adaptations[kind]
        by_probe = options.get("metric_for_best_model") == "probe_accuracy"
        return by_probe or OBJECTIVES[options.get("objective", "mlm")].reads_labels


def read_study(argv: Sequence[str]) -> StudyOptions:
    """The options in a `study.yaml` (default: the one in the package) and in the flags after it."""
    words = list(argv)
    path = Path(words.pop(0)) if words and words[0].endswith(parsing.YAML_SUFFIXES) else DEFAULT_STUDY
    values = parsing.read_yaml(path)
    sections = {name: values.pop(name, None) or {} for name in SECTIONS}
    defined = values.pop("arms") if isinstance(values.get("arms"), dict) else {}
    values |= {"arms": list(defined)} if defined else {}
    known = parsing.list_options([StudyArguments]) | dict.fromkeys(SECTIONS)
    flags = parsing.build_flags(values, known, str(path))
    (args,) = parsing.parse_arguments([StudyArguments], flags + words, prog="sentiment study")
    (in_file,) = parsing.parse_arguments([StudyArguments], flags)

    shared = parse_section(sections["finetuning"], finetuning.ARGUMENTS, f"{path}, finetuning", RESERVED_FINETUNING)
    split_seed = shared.get("split_seed")
    shared = {"metric_for_best_model": args.metric} | shared if args.metric != "accuracy" else shared
    shared |= {"data_dir": args.data_dir, "split_seed": DEFAULT_SPLIT_SEED if split_seed is None else split_seed}
    arms = build_arms(args, defined, shared, path)
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
    adaptations = read_adaptations(args, arms, sections, shared, path)
    return StudyOptions(args, arms, shared, by_budget, adaptations, choose_effects(args, arms, defined, sections, path))


def build_arms(
    args: StudyArguments, defined: Mapping[str, Any], finetuning_options: Mapping[str, Any], path: Path
) -> dict[str, Arm]:
    """The chosen arms by name: those of the section `arms`, where it defines them, and the ready-made ones."""
    arms = dict(ARMS)
    for name, section in defined.items():
        where = f"{path}, arms {name}"
        require(isinstance(section or {}, dict), f"{where}: must hold one 'key: value' per line")
        require(NAME.fullmatch(str(name)) is not None, f"{where}: use letters, digits, '.', '+', '-' and '_'")
        options = dict(section or {})
        start = options.pop("adaptation", None)
        reserved = RESERVED_FINETUNING - {"layer_decay"}
        parsed = parse_section(options, [FinetuningArguments], where, reserved, finetuning_options)
        arms[str(name)] = ARMS[name] if name in ARMS and section is None else Arm(start, parsed)
    unknown = ", ".join(name for name in args.arms if name not in arms)
    require(not unknown, f"--arms {unknown}: choose among {', '.join(arms)}, or define it under arms in a study.yaml")
    chosen = {name: arm for name, arm in arms.items() if name in args.arms}
    has_decay = any(arm.options.get("layer_decay", 1) is None for arm in chosen.values())
    require(not has_decay or 0 < args.layer_decay < 1, f"--layer_decay {args.layer_decay}: above 0 and below 1")
    starts = {arm.adaptation for arm in chosen.values()}
    require("placebo" not in starts or "mlm" in starts, "--arms placebo+decay: add mlm+decay, whose steps it matches")
    return {
        name: replace(
            arm, options=arm.options | {"layer_decay": arm.options.get("layer_decay", 1.0) or args.layer_decay}
        )
        for name, arm in chosen.items()
    }


def choose_effects(
    args: StudyArguments,
    arms: Collection[str],
    defined: Mapping[str, Any],
    sections: Mapping[str, Any],
    path: Path,
) -> dict[str, tuple[str, str]]:
    """The pairs of arms to compare: the declared ones or else each arm against strategy A, and the ready-made ones."""
    a, b = args.strategies
    known = ARMS | dict(defined)
    for name in (a, b):
        require(name in known, f"--strategies {name}: choose among the arms {', '.join(known)}")
    ready_made = {name for name in arms if defined.get(name) is None}
    effects = {name: pair for name, pair in EFFECTS.items() if {*pair} <= ready_made}
    declared = sections["effects"]
    require(isinstance(declared, dict), f"{path}, effects: must hold one 'name: [arm, arm]' per line")
    for name, pair in declared.items():
        is_pair = isinstance(pair, list) and len(pair) == 2 and {*pair} <= {*known}
        require(is_pair, f"{path}, effects {name}: name two of the arms {', '.join(known)}, such as [{a}, {b}]")
        effects |= {str(name): tuple(pair)} if {*pair} <= {*arms} else {}
    if not declared:
        compared = {pair[1] for pair in effects.values()}
        effects |= {name: (a, name) for name in arms if a in arms and name not in {a, *compared}}
    if {a, b} <= {*arms} and (a, b) not in effects.values():
        effects = {f"{b} against {a}": (a, b)} | effects
    return effects


def read_adaptations(
    args: StudyArguments,
    arms: Mapping[str, Arm],
    sections: Mapping[str, Any],
    finetuning_options: Mapping[str, Any],
    path: Path,
) -> dict[str, dict[str, Any]]:
    """The options by name of an adaptation; sections override `adaptation`, and all get the data of the study."""
    names = list(dict.fromkeys(arm.adaptation for arm in arms.values() if arm.adaptation))
    model_args, data_args = parsing.build_instances([ModelArguments, DataArguments], finetuning_options)
    require(
        not names or not data_args.keep_duplicates,
        f"{path}, finetuning: with keep_duplicates, equal texts may be in several splits, so that adaptations cannot "
        "exclude test texts: remove it, or the arms that start from an adaptation",
    )
    reserved = RESERVED_ADAPTATION | ({"seed"} if args.adapt_each_seed else set())
    classes = adaptation.ARGUMENTS
    shared = parse_section(sections["adaptation"], classes, f"{path}, adaptation", reserved)
    where = f"{path}, adaptations"
    require(isinstance(sections["adaptations"], dict), f"{where}: must hold options by the name of an adaptation")
    own = {"mlm": {}, "placebo": sections["placebo"]} | sections["adaptations"]
    for name in names:
        require(name in own, f"{where}: no '{name}', which an arm starts from; there are {', '.join(own)}")
        is_name = NAME.fullmatch(str(name)) is not None and name not in ("runs", "logs")
        require(is_name, f"{where}, {name}: use letters, digits, '.', '+', '-' and '_'; runs and logs are taken")
        title = f"{path}, placebo" if name == "placebo" and sections["placebo"] else f"{where}, {name}"
        own[name] = parse_section(
            own[name] or {}, classes, title, reserved | ({"max_steps"} if name in MATCHED else set()), shared
        )
    require(
        "placebo" not in names or "dataset_name" in own["placebo"],
        f"{path}, placebo: needs a dataset_name, the text that placebo+decay adapts to",
    )
    fixed = vars(model_args) | {"data_dir": args.data_dir, "target_dataset": data_args.dataset_name}
    fixed |= {f"target_{name}": getattr(data_args, name) for name in TARGET_OPTIONS}
    found = {}
    for name in names:
        objective = (shared | own[name]).get("objective", "mlm")
        problem = f"{where}, {name}: objective {objective}: choose among {', '.join(OBJECTIVES)}"
        require(objective in OBJECTIVES, problem)
        # The text of others is none to learn from labels.
        given = {key: value for key, value in shared.items() if key != "dataset_name"}
        given = given if OBJECTIVES[objective].reads_labels else shared
        found[name] = {"cleaning": data_args.cleaning} | given | own[name] | fixed
        try:
            OBJECTIVES[objective](parsing.build_arguments(classes, found[name])[-1]).check_arguments()
        except InputError as error:
            raise InputError(f"{where}, {name}: {error}") from error
    return found


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
