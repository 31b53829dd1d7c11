"""Whether the Hugging Face Hub can be reached, found out in seconds rather than by its libraries' retries."""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import datasets
import huggingface_hub
from datasets.naming import camelcase_to_snakecase
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

from sentiment.exceptions import InputError

RepoType = Literal["dataset", "model"]
TIMEOUT_SECONDS = 5.0
# What to start instead, by the script that was started.
OFFLINE_RUNS = {
    "train_mlm.py": "python train_mlm.py sentiment/config/offline_mlm.yaml",
    "train_finetune.py": "python train_finetune.py sentiment/config/offline_finetune.yaml",
}
OFFLINE_RUN = "accelerate launch --quiet train_e2e.py sentiment/config/offline.yaml"


def check_hub(repo_id: str, repo_type: RepoType) -> bool:
    """True if the Hub answers for this repository, False if only the local cache holds it.

    Where it is False, `local_files_only=True` keeps the libraries from asking the Hub again.
    Raises `InputError`, in seconds, if the repository can be had from neither.
    """
    problem: Exception | None = None
    if not huggingface_hub.is_offline_mode():
        problem = _ask_hub(repo_id, repo_type)
        if problem is None:
            return True
    if is_cached(repo_id, repo_type):
        return False
    own = "--data_dir with a local copy"
    if repo_type == "model":
        own = "--model with a local folder (and --data_dir, if the data is not to come from the Hub either)"
    offline_run = OFFLINE_RUNS.get(Path(sys.argv[0]).name, OFFLINE_RUN)
    ways = f"pass {own}, or run `{offline_run}`, which needs no Hub"
    if isinstance(problem, GatedRepoError):
        raise InputError(f"{repo_type} {repo_id} is gated on the Hugging Face Hub: log in with access to it; or {ways}")
    if isinstance(problem, RepositoryNotFoundError):
        raise InputError(
            f"{repo_type} {repo_id} is not on the Hugging Face Hub, or is private: check the name; or {ways}"
        )
    if problem is None:
        raise InputError(f"HF_HUB_OFFLINE is set and {repo_type} {repo_id} is not in the local cache: {ways}")
    status = f" (HTTP status {problem.response.status_code})" if isinstance(problem, HfHubHTTPError) else ""
    raise InputError(f"cannot reach the Hugging Face Hub for {repo_type} {repo_id}{status}: {ways}")


def is_cached(repo_id: str, repo_type: RepoType) -> bool:
    """Whether an earlier run left this repository in the caches of `datasets` or `huggingface_hub`."""
    if repo_type == "model":
        return isinstance(huggingface_hub.try_to_load_from_cache(repo_id, "config.json"), str)
    # the folder that `load_dataset` itself looks for when it is offline
    owner, _, name = repo_id.rpartition("/")
    folder = "___".join(part for part in (owner, camelcase_to_snakecase(name)) if part)
    return any(path.is_dir() for path in Path(datasets.config.HF_DATASETS_CACHE, folder).glob("*/*/*"))


@contextmanager
def offline_datasets() -> Iterator[None]:
    """Within it, `load_dataset` goes to its cache at once instead of retrying the Hub for a minute."""
    before = datasets.config.HF_HUB_OFFLINE
    datasets.config.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        datasets.config.HF_HUB_OFFLINE = before


def _ask_hub(repo_id: str, repo_type: RepoType) -> Exception | None:
    outcome: list[Exception | None] = []

    def ask() -> None:
        try:
            huggingface_hub.HfApi().repo_info(repo_id, repo_type=repo_type, timeout=TIMEOUT_SECONDS)
            outcome.append(None)
        except Exception as error:  # of the HTTP client, the operating system or the Hub; all mean no
            outcome.append(error)

    # A thread, because the request's own timeout leaves out the look-up of the host name.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(TIMEOUT_SECONDS)
    return outcome[0] if outcome else TimeoutError("no answer")
