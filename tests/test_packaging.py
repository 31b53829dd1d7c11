"""The wheel, built from the tree and installed into an empty environment, works from another folder."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]


def run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environment |= {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [str(word) for word in command], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    return done


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy of the tree, without the network."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    shutil.copytree(ROOT / "sentiment", source / "sentiment", ignore=shutil.ignore_patterns("__pycache__"))
    for path in (*ROOT.glob("train_*.py"), *(ROOT / name for name in ("pyproject.toml", "README.md", "LICENSE"))):
        shutil.copy(path, source)
    run(*PIP, "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", folder, source, cwd=folder)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the commands of an environment with this wheel; it sees the libraries of the one that tests run in.

    A path in a .pth file is searched after the environment's own packages, and .pth files in it are not read, so that
    an editable installation of this project there is not found.
    """
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, symlinks=os.name != "nt")
    scripts, packages = (
        Path(sysconfig.get_path(name, "venv", vars={"base": str(folder), "platbase": str(folder)}))
        for name in ("scripts", "purelib")
    )
    run(*PIP, "--python", scripts / "python", "install", "--no-deps", "--no-index", wheel, cwd=folder)
    (packages / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return scripts


def test_name_and_contents(wheel: Path) -> None:
    assert wheel.name.startswith("adapt_or_finetune-")
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder in ("config/*.yaml", "data/*.yaml", "reporting/templates/*", "serving/page/*", "py.typed", "**/*.py"):
        expected = {str(path.relative_to(ROOT)) for path in (ROOT / "sentiment").glob(folder) if path.is_file()}
        assert expected, folder
        assert expected - names == set()
    top = {name.partition("/")[0] for name in names if ".dist-info/" not in name}
    assert top == {"sentiment", "train_e2e.py", "train_mlm.py", "train_finetune.py"}


def test_the_wheel_is_what_runs(installed: Path, tmp_path: Path) -> None:
    found = run(installed / "python", "-c", "import sentiment; print(sentiment.__file__)", cwd=tmp_path).stdout
    assert Path(found.strip()).is_relative_to(installed.parent)
    assert run(installed / "sentiment", "--version", cwd=tmp_path).stdout.startswith("sentiment 0.")


def test_the_demo_configuration_runs_from_another_folder(
    installed: Path, tiny_bert: Path, reviews_csv: Path, tmp_path: Path
) -> None:
    options = ["--model", tiny_bert, "--dataset", reviews_csv, "--max_seq_length", "16", "--num_train_epochs", "1"]
    done = run(installed / "python", "-m", "train_e2e", "offline.yaml", *options, cwd=tmp_path)
    assert "accuracy after training, 95% interval" in done.stdout
    assert (tmp_path / "outputs" / "e2e" / "report.html").is_file()
    done = run(installed / "sentiment", "predict", "outputs/e2e", "a good film", cwd=tmp_path)
    assert done.stdout.startswith("text,label,score\na good film,")
