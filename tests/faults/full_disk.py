"""Training on a disk that fills up at one point or another, resumed when there is space again.

    unshare -rm python tests/faults/full_disk.py

Fine-tunes the embedded model, with a checkpoint after each step, on a tmpfs that is too small: each size ends it in
another file of another save. Expected: exit code 4, one line that says so, the earlier checkpoint intact, nothing left
of the failed one; then the tmpfs grows, and the resumed run ends bit-identical to one that had space. Needs Linux and a
mount namespace of its own (`unshare`).
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from sentiment.training.checkpoints import find_corruption

ROOT = Path(__file__).parents[2]
COMMAND = [
    sys.executable,
    str(ROOT / "train_e2e.py"),
    "--model",
    "minilm",
    "--dataset",
    "snippets",
    "--max_rows",
    "100",
]
COMMAND += ["--sample", "random", "--num_train_epochs", "1", "--batch_size", "32", "--save_minutes", "0"]
COMMAND += ["--max_seq_length", "32", "--resume", "--output_dir"]
# A checkpoint takes 273 MB: 91 of weights, 182 of the optimizer. The final weights are another 91.
SIZES_MB = (1, 50, 95, 200, 270, 280, 400, 540, 550, 700, 815, 850, 900)


def train(run_dir: Path) -> tuple[int, str]:
    """The exit code of a run and the last line on stderr."""
    done = subprocess.run([*COMMAND, str(run_dir)], capture_output=True, text=True, check=False)
    return done.returncode, (done.stderr.strip().splitlines() or [""])[-1]


def mount(folder: Path, size_mb: int, *options: str) -> None:
    """Mounts a tmpfs of this size, or resizes the mounted one."""
    choice = ",".join([f"size={size_mb}M", *options])
    subprocess.run(["mount", "-t", "tmpfs", "-o", choice, "tmpfs", str(folder)], check=True)


def main() -> None:
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder, "whole")
        train(whole)
        weights = (whole / "model" / "model.safetensors").read_bytes()
        for size in SIZES_MB:
            disk = Path(folder, str(size))
            disk.mkdir()
            mount(disk, size)
            code, said = train(disk / "run")
            checkpoints = sorted((disk / "run" / "checkpoints").glob("*"))
            is_clean = all(find_corruption(path) is None for path in checkpoints)
            mount(disk, 4096, "remount")
            resumed, _ = train(disk / "run")
            is_equal = resumed == 0 and (disk / "run" / "model" / "model.safetensors").read_bytes() == weights
            failed += not (code in (0, 4) and is_clean and is_equal)
            names = ", ".join(path.name for path in checkpoints) or "no checkpoint"
            print(f"{size} MB: exit code {code}, {names}; {'equal' if is_equal else 'NOT EQUAL'} after resume")
            print(f"    {said}", flush=True)
            subprocess.run(["umount", str(disk)], check=True)
    print(f"{len(SIZES_MB)} sizes, {failed} of them failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
