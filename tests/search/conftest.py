"""What tests of the search share: a tiny search.yaml, and trials in this process or with a score of their own."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml

from sentiment.search import tasks
from sentiment.search.arguments import Candidate

SPACE = {
    "learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
    "num_train_epochs": {"choices": [1, 2]},
    "dropout": {"low": 0.0, "high": 0.3, "step": 0.1},
}


@pytest.fixture
def write_search_file(
    tiny_bert: Path, reviews_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., list[str]]:
    """`write_search_file(trials=3, ...)` writes a tiny search with these keys, and returns the command's words."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")

    def write(**changes: Any) -> list[str]:
        data = {"model_name_or_path": str(tiny_bert), "dataset_name": str(reviews_csv), "max_seq_length": 32}
        sections = {
            "trials": 3,
            "startup_trials": 2,
            "seeds": [1],
            "finetuning": data | {"learning_rate": 5e-3, "num_train_epochs": 2, "precision": "fp32"},
            "space": {"finetuning": SPACE},
        }
        path = tmp_path / "search.yaml"
        path.write_text(yaml.safe_dump(sections | changes), encoding="utf-8")
        return [str(path), "--output_dir", str(tmp_path / "search")]

    return write


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trials run in this process, which saves the seconds in which a new one imports torch."""
    monkeypatch.setattr(tasks, "run_in_process", run_here)


def run_here(function: Callable[[Any], Any], task: Any, _log: Path) -> Any:
    return function(task)


@pytest.fixture
def score_by(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[dict[str, Any]]]:
    """`score_by(function)`: trials are not trained; their score is that of the function, given their options.

    An exception that it returns is raised. Scores are reported at each tenth. Returns the options of all trainings.
    """

    def replace(function: Callable[[dict[str, Any]], Any]) -> list[dict[str, Any]]:
        trained: list[dict[str, Any]] = []

        def score(
            candidate: Candidate,
            folder: Path,
            seeds: Any,
            _metric: str,
            _adaptations: Path,
            start_seed: Any,
            _keep: bool,
        ) -> dict[str, Any]:
            trained.append(candidate.finetuning)
            found = function(candidate.finetuning)
            run_dir = folder / f"seed_{seeds[0]}"
            run_dir.mkdir(parents=True, exist_ok=True)
            record = {"options": candidate.finetuning, "data": {"fingerprints": {}}}
            (run_dir / "run.json").write_text(json.dumps(record), encoding="utf-8")
            for tenth in range(1, 11):
                if start_seed and not isinstance(found, BaseException):
                    start_seed([])(tenth / 10, found)
            if isinstance(found, BaseException):
                raise found
            result = {"score": found, "loss": 1 - found, "scores": [found], "collapsed": [None], "seconds": 2.0}
            return result | {"train_seconds": 1.0, "adaptations": {}}

        monkeypatch.setattr(tasks, "score_candidate", score)
        monkeypatch.setattr(tasks, "run_in_process", run_here)
        return trained

    return replace


@pytest.fixture
def list_attempts(tmp_path: Path) -> Callable[[], list[tuple[Any, ...]]]:
    """State, parameters and value of each attempt in the storage, in order."""

    def read() -> list[tuple[Any, ...]]:
        study = optuna.load_study(study_name="search", storage=f"sqlite:///{tmp_path / 'search' / 'search.sqlite3'}")
        return [(trial.state.name, trial.params, trial.value) for trial in study.get_trials()]

    return read
