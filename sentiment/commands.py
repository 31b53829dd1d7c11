"""The commands of `sentiment`: each calls one function and prints its result.

They import what they need when they run, so that `sentiment fetch` does not import torch.
"""

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sentiment.exceptions import InputError, require


def select_given(options: dict[str, Any]) -> dict[str, Any]:
    """The options that are given; the others have the defaults of what takes them."""
    return {name: value for name, value in options.items() if value is not None}


def build_reading_options(options: dict[str, Any]) -> dict[str, Any]:
    """The arguments of `load_reviews` for `COLUMN_OPTIONS`; those that are not given have their defaults."""
    from sentiment.data.labels import LabelOptions, parse_label_mapping

    given = select_given(options)
    labels = LabelOptions(parse_label_mapping(given.pop("label_mapping", None)), given.pop("unlabelled_value", None))
    return given | {"labels": labels}


def fetch(name: str) -> None:
    """Prints the folder of the embedded model or reviews, downloaded on first use."""
    from sentiment.demo.embedded import EMBEDDED

    print(EMBEDDED[name]())


def audit(flags: Sequence[str]) -> None:
    """Prints the audit of a dataset, as published and as split by a run, or the label issues of a run's data."""
    from sentiment.config.arguments import AuditArguments, DataArguments
    from sentiment.config.parsing import parse_arguments
    from sentiment.config.recorded_options import list_changed_options
    from sentiment.data.finetuning_data import audit_published, audit_reviews, load_split_reviews
    from sentiment.data.suspicious_classes import describe_suspicious_classes
    from sentiment.models.loading import load_tokenizer
    from sentiment.models.model_folder import resolve_model
    from sentiment.reporting.terminal import render_audit
    from sentiment.storage import check_is_not_input, write_json

    data_args, args = parse_arguments([DataArguments, AuditArguments], flags, prog="sentiment audit")
    own = {name for name in list_changed_options(args) if name != "label_issues"}
    misplaced = sorted(own & {"folds", "output_dir"} if not args.label_issues else own - {"folds", "output_dir"})
    if args.label_issues:
        changed = ", ".join(
            f"--{name}" for name in [*list_changed_options(data_args), *misplaced] if name != "data_dir"
        )
        require(not changed, f"{changed}: --label_issues reads the data of the run {args.label_issues}, as it was read")
        audit_label_issues(args.label_issues, args.output_dir, args.folds, data_args.data_dir)
        return
    require(not misplaced, f"--{', --'.join(misplaced)}: with --label_issues only")
    for source in (data_args.dataset_name, *data_args.files.values()) if args.output else ():
        check_is_not_input(Path(args.output), source)
    tokenizer = load_tokenizer(resolve_model(args.model))
    audits = {"published": audit_published(data_args, tokenizer)}
    print(render_audit(audits["published"], f"{data_args.dataset_name} as published"))
    for warning in describe_suspicious_classes(audits["published"]):
        print(f"warning: {warning}", file=sys.stderr)
    if all(part["labels"]["unlabelled"] == part["rows"] for part in audits["published"]["splits"].values()):
        print("No row has a label, so that there is no split to audit.")
    else:
        audits["split"] = audit_reviews(load_split_reviews(data_args, args.seed), data_args, tokenizer)
        print(render_audit(audits["split"], f"{data_args.dataset_name} as split by a run"))
    if args.output:
        write_json(Path(args.output), {"options": asdict(data_args) | asdict(args)} | audits)


def audit_label_issues(run: str, output_dir: str, folds: int, data_dir: str | None) -> None:
    """Prints how many labels of a run's data are suspected to be wrong, by class, and writes their list and report."""
    from sentiment.pipelines.label_audit import audit_label_issues as audit_run_labels
    from sentiment.reporting.terminal import render_label_issues
    from sentiment.runs.results import ISSUES_FILE

    found = audit_run_labels(run, output_dir, folds, data_dir)
    print(f"{render_label_issues(found)}\n\nList: {Path(output_dir) / ISSUES_FILE}")
    print(f"Report: {Path(output_dir) / 'report.html'}")


def train(flags: Sequence[str]) -> None:
    """Fine-tunes a pretrained model end to end."""
    from sentiment.pipelines.finetuning import main

    main("e2e", flags, prog="sentiment train")


def adapt(flags: Sequence[str]) -> None:
    """Adapts a pretrained model to unlabelled reviews."""
    from sentiment.pipelines.adaptation import main

    main(flags, prog="sentiment adapt")


def finetune(flags: Sequence[str]) -> None:
    """Fine-tunes an adapted model."""
    from sentiment.pipelines.finetuning import main

    main("finetune", flags, prog="sentiment finetune")


def evaluate(
    model: str, dataset: str, data_dir: str | None, split: str | None, output: Path | None, **columns: Any
) -> None:
    """Prints the metrics of a checkpoint on the labelled rows of a split."""
    from sentiment.data.labelled_rows import load_labelled_rows
    from sentiment.inference.checkpoint import load_checkpoint
    from sentiment.pipelines.evaluation import evaluate_model, evaluate_new_texts
    from sentiment.reporting.summaries import describe_absent_classes
    from sentiment.reporting.terminal import render_metrics, render_new_texts
    from sentiment.runs.lineage import describe_seen_texts, find_new_texts
    from sentiment.storage import check_is_not_input, write_json

    if output:
        check_is_not_input(output, dataset)
    labelled = load_labelled_rows(
        dataset, load_checkpoint(model).labels, data_dir, split, **build_reading_options(columns)
    )
    metrics, predictions = evaluate_model(model, labelled)
    warnings = [*describe_seen_texts(model, labelled.texts), *describe_absent_classes(metrics)]
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
    print(f"{labelled}\n{render_metrics(metrics)}")
    is_new = find_new_texts([model], labelled.texts)
    if not is_new.all():
        metrics["new_texts"] = evaluate_new_texts(predictions, is_new)
        print(f"\n{render_new_texts(metrics['new_texts'])}")
    if output:
        found = {"model": model, "dataset": dataset, "split": labelled.split, "rows": len(labelled.rows)}
        found["warnings"] = warnings
        write_json(output, found | metrics)


def predict(
    model: str,
    texts: list[str],
    file: str | None,
    output: Path | None,
    probabilities: bool,
    abstain_below: float,
    **columns: str | None,
) -> None:
    """Writes the columns of each row, its label and score, in order."""
    from sentiment.data.files import read_lines
    from sentiment.inference import file_prediction
    from sentiment.inference.predictor import Predictor

    if texts and file:
        raise InputError("pass either texts or --file, not both")
    is_path = len(texts) == 1 and len(texts[0]) < 256 and Path(texts[0]).is_file()
    require(not is_path, f"{''.join(texts[:1])!r} is a file: pass it with --file")
    given = select_given(columns)
    require(bool(file) or not given, f"--{', --'.join(given)}: for --file only")
    file_prediction.check_output(output, file or (None if texts else 0))  # 0 is stdin
    require(0 <= abstain_below <= 1, f"--abstain_below {abstain_below}: a probability, from 0 to 1")
    predictor = Predictor.from_pretrained(model)
    if not texts and not file and sys.stdin.isatty():
        file_prediction.answer_prompts(predictor)
        return
    if file:
        rows = file_prediction.read_rows(file, **given)
    else:
        rows = file_prediction.build_rows(texts or read_lines(sys.stdin.buffer, "stdin"))
    schema = file_prediction.read_schema(file) if file else None
    file_prediction.write_predictions(predictor, rows, output, probabilities, schema, abstain_below)


def suggest(
    model: str,
    dataset: str,
    count: int,
    output: Path,
    seed: int,
    data_dir: str | None,
    split: str | None,
    **columns: Any,
) -> None:
    """Writes the unlabelled reviews to label next, with an empty column `label`, to a new file."""
    from sentiment.inference.file_prediction import check_output
    from sentiment.inference.suggestion import suggest_reviews, write_suggestions

    check_output(output, dataset)
    require(not output.exists(), f"--output {output} exists, and may hold labels: name another file, or move it")
    suggestions = suggest_reviews(
        model, dataset, count, seed, data_dir=data_dir, split=split, **build_reading_options(columns)
    )
    for warning in suggestions.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    write_suggestions(suggestions, output)
    name = suggestions.names["label"]
    print(f"{suggestions}\n{output}: fill its column `{name}`, then add its rows to the labelled reviews")


def compare(
    folder_a: str,
    folder_b: str,
    output_dir: str,
    metric: str,
    label_issues: Sequence[str],
    behaviour: str | None,
    dataset: str | None,
    data_dir: str | None,
    split: str | None,
    **columns: Any,
) -> None:
    """Prints the verdict on two fine-tunings, on their test rows or on those of a dataset, and writes the report."""
    from sentiment.pipelines.comparison import compare as compare_runs
    from sentiment.reporting.terminal import render_comparison

    given = select_given(columns)
    require(bool(dataset) or not (given or split), "options of columns and splits: for --dataset only")
    comparison = compare_runs(
        folder_a,
        folder_b,
        output_dir,
        dataset,
        metric,
        label_issues,
        behaviour,
        data_dir=data_dir,
        split=split,
        **build_reading_options(given),
    )
    print(f"{render_comparison(comparison)}\n\nReport: {Path(output_dir) / 'report.html'}")


def behaviour(models: list[str], output_dir: str, max_failure_rate: float, capabilities: str, **options: Any) -> None:
    """Prints the failure rates of models in behaviour tests, and writes the report; exit code 1 if one is too high."""
    from sentiment.pipelines.behaviour_tests import list_exceeded, run_behaviour_tests
    from sentiment.reporting.behaviour_report import render_behaviour

    require(0 <= max_failure_rate <= 1, f"--max_failure_rate {max_failure_rate}: from 0 to 1")
    chosen = [name.strip() for name in capabilities.split(",") if name.strip()]
    result = run_behaviour_tests(models, output_dir, capabilities=chosen, **options)
    print(f"{render_behaviour(result)}\n\nReport: {Path(output_dir) / 'report.html'}")
    if exceeded := list_exceeded(result, max_failure_rate):
        sys.exit(f"error: failure rates over {max_failure_rate:.1%}: {', '.join(exceeded)}")


def verify(run: str, data_dir: str | None) -> None:
    """Evaluates a run's model again; exit code 1, with a line per difference, if the record is not reproduced."""
    from sentiment.pipelines.verification import TOLERANCE, verify_run

    verification = verify_run(Path(run), data_dir)
    if not verification.differences:
        print(f"{run}: {verification.evaluated}: every metric on record is reproduced to {TOLERANCE:g}")
        return
    print(f"{run}: {verification.evaluated}: differences from the record:")
    print("\n".join(f"  {line}" for line in verification.differences))
    if verification.surroundings:
        print(
            "the environment differs from that of the training:\n"
            + "\n".join(f"  {line}" for line in verification.surroundings)
        )
    sys.exit(1)


def study(flags: Sequence[str]) -> None:
    """Trains the missing runs of a study, prints the verdict and writes the report; exit code 1 if a run failed."""
    from sentiment.reporting.study_report import render_study
    from sentiment.study.runner import run_study

    verdict = run_study(flags)
    if verdict is None:
        sys.exit(1)
    print(f"{render_study(verdict)}\n\nReport: {Path(verdict['options']['study']['output_dir']) / 'report.html'}")


def search(flags: Sequence[str]) -> None:
    """Trains the missing trials of a search, prints the best options and writes the report; exit code 1 without one."""
    try:
        import optuna  # noqa: F401
    except ModuleNotFoundError as error:
        raise InputError("a search needs optuna: pip install 'adapt-or-finetune[search]'") from error
    from sentiment.reporting.search_report import render_search
    from sentiment.search.runner import run_search

    summary = run_search(flags)
    if summary is None:
        sys.exit(1)
    print(f"{render_search(summary)}\n\nReport: {Path(summary['output_dir']) / 'report.html'}")


def export(
    model: str, int8: bool, dataset: str | None, data_dir: str | None, split: str | None, **columns: Any
) -> None:
    """Writes ONNX files beside the weights and prints the comparison with torch; exit code 1 if one is refused."""
    from sentiment.inference.export import export_model, render_export

    given = select_given(columns)
    require(bool(dataset) or not given, f"--{', --'.join(given)}: for --dataset only")
    report = export_model(model, int8, dataset, split, data_dir, **(build_reading_options(given) if given else {}))
    print(render_export(report))
    if report["refused"]:
        sys.exit(f"error: {report['refused']}")


def serve(**options: Any) -> None:
    """Serves a model over HTTP until SIGTERM or SIGINT."""
    from sentiment.serving.arguments import ServingArguments
    from sentiment.serving.server import serve as serve_http

    serve_http(ServingArguments(**select_given(options)))
