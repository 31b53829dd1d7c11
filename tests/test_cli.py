"""The `sentiment` command from its words to its output, exit code and files."""

import csv
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import sentiment
from sentiment.cli import main, run_command
from sentiment.command_parser import build_parser
from sentiment.demo import embedded
from sentiment.exceptions import InputError
from sentiment.inference.predictor import Predictor

Capture = pytest.CaptureFixture[str]


def call(*words: object) -> None:
    main([str(word) for word in words])


@pytest.fixture
def refused(capsys: Capture) -> Callable[..., str]:
    """Calls the command and gives the one line with which it ends."""

    def refuse(*words: object) -> str:
        with pytest.raises(SystemExit) as end:
            call(*words)
        assert end.value.code == 2
        printed = capsys.readouterr()
        assert "Traceback" not in printed.err
        assert "usage:" not in printed.err
        last = printed.err.splitlines()[-1]
        assert "error: " in last
        return last

    return refuse


def type_in(monkeypatch: pytest.MonkeyPatch, content: bytes, is_terminal: bool = False) -> None:
    stream = io.TextIOWrapper(io.BytesIO(content), encoding="utf-8")
    monkeypatch.setattr(stream, "isatty", lambda: is_terminal)
    monkeypatch.setattr(sys, "stdin", stream)


def rows_of(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text)))


# --- fetch ---


@pytest.mark.parametrize("name", sorted(embedded.EMBEDDED))
def test_fetch_prints_the_path_alone(name: str, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setitem(embedded.EMBEDDED, name, lambda: Path("/cache") / name)
    call("fetch", name)
    assert capsys.readouterr().out == f"/cache/{name}\n"


def test_fetch_of_something_else(refused: Callable[..., str]) -> None:
    assert "invalid choice: 'gpt'" in refused("fetch", "gpt")


# --- predict ---


def test_predict_texts_from_arguments(tiny_classifier: Path, capsys: Capture) -> None:
    texts = ["a good film", "bad", 'dull, "boring"\nstory']
    call("predict", tiny_classifier, *texts)
    header, *rows = rows_of(capsys.readouterr().out)
    assert header == ["text", "label", "score"]
    assert [text for text, _, _ in rows] == texts
    predictions = Predictor.from_pretrained(str(tiny_classifier)).predict(texts)
    for (_, label, score), expected in zip(rows, predictions, strict=True):
        assert expected
        assert (label, float(score)) == (expected.label, pytest.approx(expected.score, abs=1e-6))


def test_predict_a_pipe(tiny_classifier: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    type_in(monkeypatch, b"a good film\n\nbad\n")
    call("predict", tiny_classifier)
    piped = rows_of(capsys.readouterr().out)
    assert [text for text, _, _ in piped] == ["text", "a good film", "", "bad"]
    assert piped[2] == ["", "", ""]
    call("predict", tiny_classifier, "a good film", "bad")
    passed = rows_of(capsys.readouterr().out)
    assert [label for _, label, _ in passed[1:]] == [piped[1][1], piped[3][1]]


def test_predict_a_file_to_a_file(tiny_classifier: Path, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "in.csv").write_text("id,review,stars\na,good,1\nb,bad,0\n")
    flags = ["--output", tmp_path / "out.csv", "--probabilities"]
    call("predict", tiny_classifier, "--file", tmp_path / "in.csv", *flags)
    assert capsys.readouterr().out == ""
    header, *rows = rows_of((tmp_path / "out.csv").read_text())
    assert header == ["id", "review", "stars", "label", "score", "p_negative", "p_positive"]
    assert [row[:3] for row in rows] == [["a", "good", "1"], ["b", "bad", "0"]]
    for *_, label, score, negative, positive in rows:
        assert float(score) == max(float(negative), float(positive))
        assert float(negative) + float(positive) == pytest.approx(1, abs=2e-6)
        assert label == ("positive" if positive > negative else "negative")


def test_predict_never_writes_over_its_input(
    tiny_classifier: Path, tmp_path: Path, refused: Callable[..., str]
) -> None:
    source = tmp_path / "in.csv"
    source.write_text("text\ngood\n")
    (tmp_path / "link.csv").symlink_to(source)
    for output in (source, tmp_path / "link.csv"):
        line = refused("predict", tiny_classifier, "--file", source, "--output", output)
        assert f"--output {output} is the file that is read" in line
    assert ".csv, .tsv" in refused("predict", tiny_classifier, "good", "--output", tmp_path / "out.doc")
    assert source.read_text() == "text\ngood\n"
    assert "no column 'Coment'" in refused(
        "predict", tiny_classifier, "--file", source, "--text_column_names", "Coment"
    )


@pytest.mark.parametrize("command", ["evaluate", "audit"])
def test_metrics_are_never_written_over_what_is_read(
    command: str, tiny_classifier: Path, tmp_path: Path, refused: Callable[..., str]
) -> None:
    (tmp_path / "data").mkdir()
    source = tmp_path / "data/train.csv"
    source.write_text("text,label\ngood,1\nbad,0\n")
    model = [tiny_classifier] if command == "evaluate" else ["--model", tiny_classifier]
    for dataset in (source, source.parent):
        line = refused(command, *model, "--dataset", dataset, "--output", source)
        assert f"--output {source} is the file that is read" in line
    assert source.read_text() == "text,label\ngood,1\nbad,0\n"


def test_evaluate_counts_rows_that_a_mapping_leaves_out(tiny_classifier: Path, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "a.csv").write_text("text,stars\ngood,5\nbad,1\nfine,3\nno,\n")
    columns = ["--label_column_name", "stars", "--label_mapping", "1=negative,3=null,5=positive"]
    call("evaluate", tiny_classifier, "--dataset", tmp_path / "a.csv", *columns)
    assert "2 labelled rows; left out: 1 without a label, 1 by --label_mapping" in capsys.readouterr().out


def test_a_model_whose_classes_are_in_the_other_order(build_classifier: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,label\na good film,1\na bad film,0\na dull plot,0\n")
    found = []
    for names in (["POS", "NEG"], ["positive", "negative"]):
        call("evaluate", build_classifier(names), "--dataset", tmp_path / "a.csv", "--output", tmp_path / "m.json")
        found.append(json.loads((tmp_path / "m.json").read_text())["per_class"])
    assert [*found[0]] == ["POS", "NEG"]  # as the model calls them
    assert [*found[0].values()] == [*found[1].values()]
    assert [scores["support"] for scores in found[0].values()] == [1, 2]


def test_predict_asks_on_a_terminal(tiny_classifier: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    type_in(monkeypatch, b"", is_terminal=True)
    typed = iter(["a good film", ""])
    monkeypatch.setattr("builtins.input", lambda _: next(typed))
    call("predict", tiny_classifier)
    assert capsys.readouterr().out.splitlines()[-1].startswith(("positive (", "negative ("))


def test_predict_refuses_wrong_input_and_keeps_the_old_output(
    tiny_classifier: Path,
    tiny_bert: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    refused: Callable[..., str],
) -> None:
    output = tmp_path / "out.csv"
    output.write_text("old")
    (tmp_path / "in.csv").write_text("review\n" + "good\n" * 5 + '"good\n')
    for words, message in [
        (["predict", tmp_path / "missing", "x"], "no model in"),
        (["predict", tiny_bert, "x"], "holds no trained classifier"),
        (["predict", tiny_classifier, "x", "--file", "y"], "either texts or --file"),
        (["predict", tiny_classifier, "--file", tmp_path / "missing.txt"], "no file"),
        (["predict", tiny_classifier, "--file", tmp_path / "in.csv"], "in.csv: row 6: a quote is not closed"),
        (["predict", tiny_classifier, "fine", "\udcff"], "text 2"),
    ]:
        line = refused(*words, "--output", output)
        assert line.startswith("error: ")
        assert message in line
        assert output.read_text() == "old"
    type_in(monkeypatch, b"good\n\xff\n")
    assert "stdin: line 2 is not UTF-8" in refused("predict", tiny_classifier, "--output", output)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.csv", "out.csv"]


# --- evaluate ---


def test_evaluate_prints_metrics_and_writes_them(
    tiny_classifier: Path, reviews_csv: Path, tmp_path: Path, capsys: Capture
) -> None:
    with reviews_csv.open(encoding="utf-8") as stream:
        reviews = [(row["text"], row["label"]) for row in csv.DictReader(stream)]
    call("predict", tiny_classifier, *(text for text, _ in reviews))
    predicted = [label for _, label, _ in rows_of(capsys.readouterr().out)[1:]]
    names = {"0": "negative", "1": "positive"}
    correct = sum(one == names[label] for one, (_, label) in zip(predicted, reviews, strict=True))

    output = tmp_path / "metrics.json"
    call("evaluate", tiny_classifier, "--dataset", reviews_csv, "--output", output)
    printed = capsys.readouterr().out
    metrics = json.loads(output.read_text())
    assert (metrics["dataset"], metrics["split"], metrics["rows"]) == (str(reviews_csv), "train", len(reviews))
    assert metrics["accuracy"] == correct / len(reviews)
    assert metrics.keys() > {"loss", "precision", "recall", "f1", "macro_f1", "per_class", "accuracy_ci95"}
    assert f"{metrics['accuracy']:.4f}" in printed
    assert f"{len(reviews)} labelled rows" in printed


def test_evaluate_matches_classes_by_name(
    build_classifier: Callable[..., Path], tmp_path: Path, refused: Callable[..., str]
) -> None:
    """The model's classes are in another order than those of the file, which lacks some of them."""
    model = build_classifier(["good", "mixed", "bad", "dull"])
    texts = ["moving", "awful", "the plot", "fine", "moving scene", "awful is not", "bright", "tired actor"]
    labels = [prediction.label for prediction in Predictor.from_pretrained(str(model)).predict(texts)]
    assert 1 < len({*labels}) < 4
    rows = "".join(f"{text},{label.upper()}\n" for text, label in zip(texts, labels, strict=True))
    (tmp_path / "a.csv").write_text(f"text,label\n{rows}")
    call("evaluate", model, "--dataset", tmp_path / "a.csv", "--output", tmp_path / "metrics.json")
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["accuracy"] == 1
    assert [*metrics["per_class"]] == ["good", "mixed", "bad", "dull"]
    assert [scores["support"] for scores in metrics["per_class"].values()] == [
        labels.count(label) for label in metrics["per_class"]
    ]
    (tmp_path / "b.csv").write_text("text,label\nmoving,good\nawful,terrible\n")
    message = refused("evaluate", model, "--dataset", tmp_path / "b.csv")
    assert "are good, terrible" in message
    assert "are good, mixed, bad, dull" in message


def test_evaluate_chooses_the_split(tiny_classifier: Path, tmp_path: Path, capsys: Capture) -> None:
    for name, rows in (("train", 3), ("validation", 2)):
        (tmp_path / f"{name}.csv").write_text("text,label\n" + "good,1\nbad,0\n" * rows)
    (tmp_path / "test.csv").write_text("text,label\ngood,-1\n")
    call("evaluate", tiny_classifier, "--dataset", tmp_path)
    assert "split validation: 4 labelled rows" in capsys.readouterr().out
    call("evaluate", tiny_classifier, "--dataset", tmp_path, "--split", "train")
    assert "split train: 6 labelled rows" in capsys.readouterr().out


def test_evaluate_refuses_wrong_input(
    tiny_classifier: Path, reviews_csv: Path, tmp_path: Path, refused: Callable[..., str]
) -> None:
    (tmp_path / "unlabelled.csv").write_text("text\ngood\n")
    evaluate = ["evaluate", tiny_classifier, "--dataset"]
    assert "no labelled test" in refused(*evaluate, tmp_path / "unlabelled.csv")
    assert "no labelled other split" in refused(*evaluate, reviews_csv, "--split", "other")
    assert str(tmp_path / "missing.csv") in refused(*evaluate, tmp_path / "missing.csv")
    assert "cannot write" in refused(*evaluate, reviews_csv, "--output", tmp_path)
    assert "--dataset" in refused("evaluate", tiny_classifier)


# --- audit ---


def test_audit_prints_and_writes(tiny_bert: Path, tmp_path: Path, capsys: Capture) -> None:
    texts = [f"film {row} is {'good' if row % 2 else 'bad'}" for row in range(100)]
    lines = [f"{text},{row % 2}" for row, text in enumerate(texts)]
    (tmp_path / "in.csv").write_text("\n".join(["text,label", *lines, *lines[:7], "both,0", "both,1", ",1"]))
    output = tmp_path / "audit.json"
    call("audit", "--dataset", tmp_path / "in.csv", "--model", tiny_bert, "--max_seq_length", 4, "--output", output)
    printed = capsys.readouterr().out
    found = json.loads(output.read_text())
    published = found["published"]["splits"]["train"]
    assert (published["rows"], published["duplicates"], published["empty"]) == (110, 8, 1)
    assert published["both_labels"] == 1
    assert found["split"]["dropped"] == {"empty": 1, "both_labels": 2}
    assert sum(part["rows"] for part in found["split"]["splits"].values()) == 107
    assert found["split"]["across"] == {"train & validation": 0, "train & test": 0, "validation & test": 0}
    assert found["options"]["max_seq_length"] == 4
    assert "as published" in printed
    assert "110" in printed


def test_audit_of_unlabelled_reviews(tiny_bert: Path, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "in.txt").write_text("\n".join(f"film {row} is good" for row in range(30)))
    call("audit", "--dataset", tmp_path / "in.txt", "--model", tiny_bert)
    printed = capsys.readouterr().out
    assert "No row has a label, so that there is no split to audit." in printed
    assert "30" in printed


def test_a_mapping_of_negative_labels(tiny_bert: Path, tmp_path: Path, capsys: Capture) -> None:
    rows = [f"film {row} is {'good' if row % 2 else 'bad'},{1 if row % 2 else -1}" for row in range(60)]
    (tmp_path / "in.csv").write_text("\n".join(["text,label", *rows]))
    mapping = "-1=negative,1=positive"
    call("audit", "--dataset", tmp_path / "in.csv", "--model", tiny_bert, "--label_mapping", mapping)
    assert "positive" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        call("evaluate", tmp_path, "--dataset", tmp_path / "in.csv", "--label_mapping", mapping)
    assert "no model in" in capsys.readouterr().err  # and not that a value is missing


def test_audit_refuses_wrong_input(tiny_bert: Path, tmp_path: Path, refused: Callable[..., str]) -> None:
    (tmp_path / "near.csv").write_text("text,label\n")
    assert "pass a file with --dataset" in refused("audit", tmp_path / "near.csv")
    assert "near.csv'?)" in refused("audit", "--model", tiny_bert, "--dataset", tmp_path / "near.cvs")
    audit = ["audit", "--model", tiny_bert, "--dataset"]
    assert "missing.csv" in refused(*audit, tmp_path / "missing.csv")
    assert "--max_rows none" in refused(*audit, tmp_path, "--max_rows", "none")
    assert "--nonsense" in refused(*audit, tmp_path, "--nonsense", "1")


# --- compare ---


def test_compare_prints_the_verdict_and_where_the_report_is(
    write_finished_run: Callable[..., Path], tmp_path: Path, capsys: Capture
) -> None:
    first, second = write_finished_run("e2e", wrong=range(12)), write_finished_run("b", [0], strategy="finetune")
    call("compare", first, second, "--output_dir", tmp_path / "out")
    lines = capsys.readouterr().out.splitlines()
    verdict = json.loads((tmp_path / "out" / "verdict.json").read_text())
    assert lines[0] == verdict["sentence"]
    assert lines[0].startswith("finetune is better than e2e by 27.5 points")
    assert lines[-1] == f"Report: {tmp_path / 'out' / 'report.html'}"
    assert (tmp_path / "out" / "report.html").is_file()


def test_compare_refuses_wrong_input(
    write_finished_run: Callable[..., Path], tmp_path: Path, refused: Callable[..., str]
) -> None:
    first, second = write_finished_run("a"), write_finished_run("b", strategy="mlm")
    output = ["--output_dir", tmp_path / "out"]
    assert "no run in" in refused("compare", first, tmp_path / "missing", *output)
    assert "holds an adaptation" in refused("compare", first, second, *output)
    assert "RUN_B" in refused("compare", first)
    assert not (tmp_path / "out").exists()


# --- behaviour ---


def test_behaviour_prints_failure_rates_and_ends_with_1_over_the_limit(
    build_classifier: Callable[..., Path], tmp_path: Path, capsys: Capture
) -> None:
    model, output = build_classifier(["negative", "positive"]), tmp_path / "out"
    words = ["behaviour", model, "--capabilities", "vocabulary, names", "--count", 30, "--output_dir", output]
    call(*words)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[-4:-2]] == ["vocabulary", "names"]
    assert lines[-1] == f"Report: {output / 'report.html'}"
    rate = json.loads((output / "behaviour.json").read_text())["capabilities"][0]["models"][0]["failure_rate"]
    assert rate > 0  # it knows none of the words
    with pytest.raises(SystemExit) as end:
        call(*words, "--max_failure_rate", 0)
    assert str(end.value.code).startswith(f"error: failure rates over 0.0%: vocabulary of {model.name} ({rate:.1%})")
    call(*words, "--max_failure_rate", 1)


def test_behaviour_refuses_wrong_input(
    build_classifier: Callable[..., Path], tmp_path: Path, refused: Callable[..., str]
) -> None:
    model, output = build_classifier(["negative", "positive"]), ["--output_dir", tmp_path / "out"]
    assert "--max_failure_rate 2.0: from 0 to 1" in refused("behaviour", model, *output, "--max_failure_rate", 2)
    assert "no 'nmaes' in the built-in suite (did you mean 'names'?)" in refused(
        "behaviour", model, *output, "--capabilities", "nmaes"
    )
    assert "no such file" in refused("behaviour", model, *output, "--cases", tmp_path / "missing.csv")
    assert "RUN" in refused("behaviour")
    assert not (tmp_path / "out").exists()


# --- every command ---


def test_version(capsys: Capture) -> None:
    with pytest.raises(SystemExit) as end:
        call("--version")
    assert end.value.code == 0
    assert capsys.readouterr().out == f"sentiment {sentiment.__version__}\n"


def test_no_command_and_unknown_words(refused: Callable[..., str]) -> None:
    assert "unknown command 'xyzzy': see sentiment --help" in refused("xyzzy")
    assert "unknown command 'evalute' (did you mean 'evaluate'?)" in refused("evalute", "outputs/e2e")
    assert "unknown option '--versoin' (did you mean '--version'?)" in refused("--versoin")
    for words in (["evaluate", "x", "--datset=a.csv"], ["export", "x", "--datset", "a.csv", "--int8"]):
        line = refused(*words)  # and not that --dataset is missing
        assert line == f"error: unknown option '--datset' (did you mean '--dataset'?): see sentiment {words[0]} --help"
    assert "unknown argument 'c'" in refused("compare", "a", "b", "c")
    assert "--nonsense" in refused("fetch", "minilm", "--nonsense")
    nearest = {"max_seqlength": "max_seq_length", "epochs": "num_train_epochs"}
    for option, known in nearest.items():
        line = refused("train", f"--{option}", 8)
        assert f"unknown option '--{option} 8': see --help (did you mean '--{known}'?)" in line
    line = refused("train", "--config", "run.yaml")
    assert "unknown option '--config run.yaml': pass the YAML file before all flags, without an option" in line


@pytest.mark.parametrize("words", [["--abstain_below", "0.5"], ["--abstain-below=0.5"]])
def test_dashes_and_underscores_are_the_same_in_names_of_options(words: list[str]) -> None:
    parser = build_parser()
    for command in ("serve", "predict"):
        assert parser.parse_args([command, "x", *words]).abstain_below == 0.5
    assert parser.parse_args(["predict", "x", "--", "--abstain-below"]).texts == ["--abstain-below"]


def test_a_text_may_look_like_an_option(tiny_classifier: Path, capsys: Capture) -> None:
    texts = ["--a good film", "--bad"]
    call("predict", tiny_classifier, texts[0], "--", texts[1])
    assert [text for text, *_ in rows_of(capsys.readouterr().out)[1:]] == texts


def test_help_of_a_command(capsys: Capture) -> None:
    shown = []
    for words in (["help", "evaluate"], ["evaluate", "--help"]):
        with pytest.raises(SystemExit) as end:
            call(*words)
        assert not end.value.code
        shown.append(capsys.readouterr().out)
    assert shown[0] == shown[1]
    assert shown[0].startswith("usage: sentiment evaluate ")
    with pytest.raises(SystemExit):
        call("help", "train")
    assert capsys.readouterr().out.startswith("usage: sentiment train ")


def test_help_lists_every_command_by_step(capsys: Capture) -> None:
    shown = []
    for words, code in ((["--help"], 0), (["help"], 0), ([], 2)):
        with pytest.raises(SystemExit) as end:
            call(*words)
        assert (end.value.code or 0) == code
        printed = capsys.readouterr()
        shown.append(printed.err if code else printed.out)
    assert shown[0] == shown[1] == shown[2]
    steps = ["prepare:", "  fetch", "train:", "  train", "  study", "judge:", "  compare", "use:", "  serve"]
    places = [shown[0].index(f"\n{step}") for step in steps]
    assert places == sorted(places)
    assert max(map(len, shown[0].splitlines())) <= 110


def test_run_command_ends_wrong_input_with_one_line_and_code_2(capsys: Capture) -> None:
    def command(**options: Any) -> None:
        raise InputError(f"wrong {options}")

    with pytest.raises(SystemExit) as end:
        run_command(command, a=1)
    assert end.value.code == 2
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", "error: wrong {'a': 1}\n")


def test_run_command_ends_an_interruption_with_code_130() -> None:
    def command() -> None:
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as end:
        run_command(command)
    assert end.value.code == 130


def test_blank_texts_are_not_evaluated(tiny_classifier: Path, tmp_path: Path, capsys: Capture) -> None:
    data = tmp_path / "rows.csv"
    data.write_text('text,label\ngood film,pos\n" ",pos\n\u200b,neg\nbad film,neg\n', encoding="utf-8")
    call("evaluate", tiny_classifier, "--dataset", data)
    assert "2 labelled rows; left out: 2 with a blank text" in capsys.readouterr().out
    data.write_text('text,label\n" ",pos\n" ",neg\n')
    with pytest.raises(SystemExit) as refusal:
        call("evaluate", tiny_classifier, "--dataset", data)
    assert refusal.value.code == 2
    assert "every labelled row has a blank text" in capsys.readouterr().err


def test_predict_withholds_uncertain_labels(tiny_classifier: Path, capsys: Capture) -> None:
    texts = ["a good film", "bad", "dull story"]
    predictions = Predictor.from_pretrained(str(tiny_classifier)).predict(texts)
    scores = sorted(prediction.score for prediction in predictions if prediction)
    call("predict", tiny_classifier, *texts, "--abstain_below", (scores[0] + scores[1]) / 2)
    _, *rows = rows_of(capsys.readouterr().out)
    assert [label for _, label, _ in rows].count("uncertain") == 1
    for (_, label, score), prediction in zip(rows, predictions, strict=True):
        assert prediction is not None
        assert float(score) == pytest.approx(prediction.score, abs=1e-6)
        assert label == ("uncertain" if prediction.score == scores[0] else prediction.label)


def test_rows_of_two_of_the_classes_of_a_model_are_evaluated(
    build_classifier: Callable[..., Path], tmp_path: Path, capsys: Capture
) -> None:
    model, data = build_classifier(["0", "1", "2"]), tmp_path / "rows.csv"
    for labels, rows in ((("0", "1", "1"), [1, 2, 0]), (("1", "1", "1"), [0, 3, 0])):
        data.write_text("text,label\n" + "".join(f"good film {row},{label}\n" for row, label in enumerate(labels)))
        call("evaluate", model, "--dataset", data, "--output", tmp_path / "found.json")
        found = json.loads((tmp_path / "found.json").read_text())["per_class"]
        assert {name: scores["support"] for name, scores in found.items()} == dict(zip("012", rows, strict=True))
    data.write_text("text,label\ngood film,neg\nbad film,pos\n")
    with pytest.raises(SystemExit) as refusal:
        call("evaluate", model, "--dataset", data)
    assert refusal.value.code == 2
    assert "the classes of" in capsys.readouterr().err


def test_predict_takes_texts_after_options_and_no_path_for_a_text(
    tiny_classifier: Path, tmp_path: Path, refused: Callable[..., str], capsys: Capture
) -> None:
    call("predict", tiny_classifier, "--probabilities", "good film", "bad")
    assert [row[0] for row in rows_of(capsys.readouterr().out)[1:]] == ["good film", "bad"]
    (tmp_path / "rows.csv").write_text("text\ngood\n")
    assert "is a file: pass it with --file" in refused("predict", tiny_classifier, tmp_path / "rows.csv")


def test_evaluate_counts_rows_without_a_label(tiny_classifier: Path, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "rows.csv").write_text("text,label\ngood film,pos\nbad film,neg\nplot,\n")
    call("evaluate", tiny_classifier, "--dataset", tmp_path / "rows.csv")
    assert "2 labelled rows; left out: 1 without a label" in capsys.readouterr().out


def test_audit_counts_rows_that_a_mapping_leaves_out(tiny_bert: Path, tmp_path: Path, capsys: Capture) -> None:
    rows = "".join(f"film {place},{1 + place % 3}\n" for place in range(60))
    (tmp_path / "a.csv").write_text(f"text,stars\n{rows}one more,\n")
    columns = ["--label_column_name", "stars", "--label_mapping", "1=negative,2=null,3=positive"]
    call("audit", "--dataset", tmp_path / "a.csv", "--model", tiny_bert, "--max_seq_length", 16, *columns)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["unlabelled", "1"] in lines
    assert ["left", "out", "by", "--label_mapping", "20"] in lines
