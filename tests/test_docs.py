"""Documents: commands are accepted by the real parsers, links and files exist, both READMEs say the same."""

import json
import re
import shlex
import shutil
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from transformers import BertConfig, BertModel, TrainingArguments

from sentiment.command_parser import build_parser
from sentiment.config.arguments import (
    AdaptationArguments,
    AuditArguments,
    CorpusArguments,
    DataArguments,
    FinetuningArguments,
    ModelArguments,
)
from sentiment.config.parsing import parse_arguments
from sentiment.data.behaviour_cases import load_suite
from sentiment.pipelines.finetuning import STRATEGIES
from sentiment.search.arguments import SearchArguments, read_search
from sentiment.study.arguments import StudyArguments, read_study

ROOT = Path(__file__).parents[1]
DOCS = sorted((ROOT / "docs").glob("*.md"))
READMES = [ROOT / "README.md", ROOT / "README.zh-CN.md"]
# Pages whose commands, options and paths are those of today; the changelog names old ones too.
PAGES = [*READMES, ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", ROOT / "outputs" / "README.md", *DOCS]
ALL_PAGES = [*PAGES, ROOT / "CHANGELOG.md"]

FINETUNING = [ModelArguments, DataArguments, FinetuningArguments]
SCRIPTS: dict[str, tuple[list[Any], dict[str, Any]]] = {
    "train_e2e": (FINETUNING, STRATEGIES["e2e"]),
    "train_finetune": (FINETUNING, STRATEGIES["finetune"]),
    "train_mlm": ([ModelArguments, CorpusArguments, AdaptationArguments], {}),
}
# Options of other programs that the documents mention.
FOREIGN_OPTIONS = {
    *("--quiet", "--cpu", "--num_processes"),  # accelerate
    "--nproc_per_node",  # torchrun
    "--cpus",  # docker
}
NOT_PARSED = {"pip", "docker", "curl", "source"}
CODE_SPAN = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
LINK = re.compile(r"\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def name_page(page: Path) -> str:
    return str(page.relative_to(ROOT))


def read(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def remove_fences(text: str) -> str:
    return FENCE.sub("", text)


def list_commands(page: Path) -> list[list[str]]:
    """The words of each command in the page's code blocks without a language."""
    commands = []
    for language, block in FENCE.findall(read(page)):
        if language:
            continue
        for line in block.replace("\\\n", " ").splitlines():
            lexer = shlex.shlex(line, posix=True, punctuation_chars="&")
            lexer.whitespace_split = True
            command: list[str] = []
            for word in [*lexer, "&&"]:
                if word != "&&":
                    command.append(word)
                elif command:
                    commands.append(command)
                    command = []
    return commands


def check_command(words: Sequence[str]) -> None:
    """Fails where a command names a target, script, file or option that does not exist."""
    while re.fullmatch(r"[A-Z_]+=.*", words[0]):
        words = words[1:]
    program, *rest = words
    program = Path(program).name
    if program == "make":
        for target in rest:
            assert "=" in target or re.search(rf"^{target}:", read(ROOT / "Makefile"), re.MULTILINE), words
    elif program == "unshare":
        check_command(rest[1:])
    elif program in ("accelerate", "torchrun"):
        start = next(place for place, word in enumerate(rest) if word == "-m" or word.endswith(".py"))
        check_command(["python", *rest[start:]])
    elif program == "python":
        check_python(rest)
    elif program == "sentiment":
        check_sentiment(rest)
    else:
        assert program in NOT_PARSED, f"no parser for {words}"


def check_python(words: Sequence[str]) -> None:
    if words[0] == "-m":
        words = words[1:]
    script, *options = words
    if script == "pytest":
        assert all((ROOT / option).exists() for option in options if not option.startswith("-")), words
    elif Path(script).stem in SCRIPTS:
        classes, defaults = SCRIPTS[Path(script).stem]
        parse_arguments(classes, resolve_config(options), defaults)
    else:
        source = read(ROOT / script)
        assert [option for option in options if option.startswith("-") and f'"{option}"' not in source] == [], words


def check_sentiment(words: Sequence[str]) -> None:
    known, rest = build_parser().parse_known_args(words)
    command = known.command.__name__
    if command == "study":
        read_study(resolve_config(rest))
    elif command == "search":
        read_search(resolve_config(rest))
    elif command == "audit":
        parse_arguments([DataArguments, AuditArguments], rest)
    else:
        assert rest == [], words


def resolve_config(words: Sequence[str]) -> list[str]:
    """The words, with the path of a ready-made configuration in place of its bare name."""
    if words and words[0].endswith(".yaml") and not Path(words[0]).exists():
        packaged = ROOT / "sentiment" / "config" / words[0]
        assert packaged.is_file(), words
        return [str(packaged), *words[1:]]
    return list(words)


def list_known_options() -> set[str]:
    """Every option of the training scripts, the `sentiment` command, benchmarks and fault scripts."""
    classes = [*FINETUNING, CorpusArguments, AdaptationArguments, StudyArguments, SearchArguments, AuditArguments]
    classes.append(TrainingArguments)
    options = {f"--{field.name}" for group in classes for field in fields(group)} | FOREIGN_OPTIONS
    for group in classes:
        options.update(*(field.metadata.get("aliases", []) for field in fields(group)))
    sources = [ROOT / "sentiment" / "command_parser.py", *(ROOT / "tests").glob("[bf]*/*.py")]
    return options.union(*(re.findall(r'"(--[\w-]+)"', read(source)) for source in sources), {"--help", "--version"})


def list_headings(page: Path) -> set[str]:
    """The anchors that GitHub and MkDocs give to a page's headings."""
    headings = re.findall(r"^#+ (.+)$", remove_fences(read(page)), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name_page)
def test_commands_are_accepted_by_the_real_parsers(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    for words in list_commands(page):
        check_command(words)


def test_commands_are_found() -> None:
    assert sum(len(list_commands(page)) for page in PAGES) > 40


@pytest.mark.parametrize(
    "command",
    [
        "make nothing",
        "python train_e2e.py --no_such_option 1",
        "python train_e2e.py no_such.yaml",
        "accelerate launch train_e2e.py --seed one",
        "python tests/benchmarks/training_speed.py --no_such_option",
        "sentiment nothing",
        "sentiment compare outputs/e2e",
        "sentiment study --arms nothing",
        "unknown_program",
    ],
)
def test_wrong_commands_are_noticed(command: str) -> None:
    with pytest.raises((AssertionError, SystemExit, ValueError)):
        check_command(command.split())


@pytest.mark.parametrize("page", PAGES, ids=name_page)
def test_options_in_running_text_exist(page: Path) -> None:
    spans = CODE_SPAN.findall(remove_fences(read(page)))
    mentioned = {option for span in spans for option in re.findall(r"(?<![\w-])--[a-z][\w-]*", span)}
    assert mentioned - list_known_options() == set()


@pytest.mark.parametrize("page", PAGES, ids=name_page)
def test_files_and_commands_in_running_text_exist(page: Path) -> None:
    for span in CODE_SPAN.findall(remove_fences(read(page))):
        if re.fullmatch(r"(tests|sentiment|docs)/[\w./-]+|train_\w+\.py", span):
            assert (ROOT / span).exists(), span
        elif found := re.match(r"(make|sentiment|python) ([\w./]+)", span):
            check_named(*found.groups())


def check_named(program: str, name: str) -> None:
    if program == "make":
        check_command(["make", name])
    elif program == "python":
        assert (ROOT / name).exists(), name
    else:
        assert f" {name} " in build_parser().format_help(), name


@pytest.mark.parametrize("page", ALL_PAGES, ids=name_page)
def test_links_lead_to_files_and_headings(page: Path) -> None:
    for link in LINK.findall(remove_fences(read(page))):
        if re.match(r"https?://", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert page not in DOCS or target.is_relative_to(ROOT / "docs"), f"{link}: not part of the site"
        assert not anchor or anchor in list_headings(target), link


@pytest.mark.parametrize("page", ALL_PAGES, ids=name_page)
def test_no_machine_paths_and_no_foreign_package(page: Path) -> None:
    assert re.findall(r"(?<![\w.])/(?:work|home|root|tmp|Users)/\S*", read(page)) == []
    assert re.findall(r"pip install ['\"]?sentiment", read(page)) == []


def test_images_are_small() -> None:
    images = list((ROOT / "docs" / "images").iterdir())
    assert images
    assert [image.name for image in images if image.stat().st_size > 300_000] == []


def test_readme_is_short() -> None:
    assert len(read(READMES[0]).splitlines()) <= 160


def test_both_readmes_have_the_same_commands_tables_and_links() -> None:
    english, chinese = READMES
    assert list_commands(english) == list_commands(chinese)
    numbers = [re.findall(r"^\|.*\d\.\d{4}.*$", read(page), re.MULTILINE) for page in READMES]
    assert [re.findall(r"[\d.,]{3,}", row) for row in numbers[0]] == [
        re.findall(r"[\d.,]{3,}", row) for row in numbers[1]
    ]
    links = [
        {link.partition("#")[0] for link in LINK.findall(read(page))} - {p.name for p in READMES} for page in READMES
    ]
    assert links[0] == links[1]


def test_yaml_files_of_the_user_guide_are_read(tmp_path: Path) -> None:
    study, own_arms, search, example = (
        block for language, block in FENCE.findall(read(ROOT / "docs" / "user-guide.md")) if language == "yaml"
    )
    (tmp_path / "study.yaml").write_text(study, encoding="utf-8")
    options = read_study([str(tmp_path / "study.yaml")])
    assert options.args.metric == options.finetuning["metric_for_best_model"] == "macro_f1"
    assert options.adaptations["mlm"]["target_dataset"] == "labelled.csv"
    (tmp_path / "arms.yaml").write_text(own_arms, encoding="utf-8")
    assert list(read_study([str(tmp_path / "arms.yaml")]).effects) == ["sparse against e2e", "dropout"]
    (tmp_path / "search.yaml").write_text(search, encoding="utf-8")
    found = read_search([str(tmp_path / "search.yaml")])
    assert [dimension.name for dimension in found.space][-1] == "mlm_probability"
    (tmp_path / "own.yaml").write_text(example, encoding="utf-8")
    texts = [case.text for case in load_suite(str(tmp_path / "own.yaml"), count=1000).cases]
    assert "This is not an amazing comedy." in texts
    assert len(texts) == 3 * 3 + 3 * 3 * 3 + 3


def test_architecture_lists_every_module() -> None:
    listed = re.findall(r"^\| `(train_\w+\.py|sentiment/[\w/]+\.py)` \|", read(ROOT / "docs" / "architecture.md"), re.M)
    modules = [path for path in (ROOT / "sentiment").rglob("*.py") if not path.name.startswith("__")]
    assert sorted(listed) == sorted(name_page(path) for path in [*modules, *ROOT.glob("train_*.py")])


def test_python_api_page(
    tiny_bert: Path,
    reviews_csv: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Runs the page's script on a tiny model, with positions for the default length, and few reviews."""
    model = tmp_path / "model"
    shutil.copytree(tiny_bert, model)
    config = BertConfig(**json.loads(read(model / "config.json")) | {"max_position_embeddings": 128})
    BertModel(config).save_pretrained(model)
    (code,) = [
        block for language, block in FENCE.findall(read(ROOT / "docs" / "python-api.md")) if language == "python"
    ]
    for name, path in (("minilm", model), ("snippets", reviews_csv)):
        assert f'"{name}"' in code
        code = code.replace(f'"{name}"', repr(str(path)))
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    printed = capsys.readouterr().out.splitlines()
    assert [line for line in printed if re.fullmatch(r"[AB]: 0\.\d+|[AB]: 1\.0", line)] == [printed[0], printed[1]]
    assert [line.split()[0] in ("positive", "negative") for line in printed[-2:]] == [True, True]
    for run in ("e2e", "mlm", "finetune", "comparison"):
        assert (tmp_path / "outputs" / run / "report.html").is_file()
