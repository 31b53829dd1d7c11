"""Trainings killed with SIGKILL at random moments and resumed, compared with one that was never interrupted.

    python tests/faults/killed_runs.py --kills 50
    python tests/faults/killed_runs.py --kills 50 --script train_mlm.py

Fine-tunes or adapts the embedded model on embedded reviews, with a checkpoint after each step, so that much of the time
goes into saving. Each process is killed at a random moment after its first save starts, and the next one resumes. When
a run ends, its weights must be bit-identical to those of the uninterrupted run; then another run starts. Prints the
number of kills and how many came within a save, and exits with 1 if any weights differ, a process failed by itself, or
a complete checkpoint was lost.
"""

import argparse
import contextlib
import random
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from sentiment.training.checkpoints import MANIFEST

ROOT = Path(__file__).parents[2]
FLAGS = ["--model", "minilm", "--dataset", "snippets", "--max_rows", "300", "--sample", "random"]
FLAGS += ["--num_train_epochs", "2", "--batch_size", "32", "--save_minutes", "0", "--max_seq_length", "32"]
OF_ADAPTATION = ["--target_dataset", "none"]
LONGEST_SECONDS = 600


@dataclass
class Tally:
    """What happened."""

    kills: int = 0
    within_saves: int = 0
    ended: int = 0
    differing: int = 0
    failed: int = 0
    lost: int = 0


def find_steps(run_dir: Path) -> list[int]:
    """The steps of a run's complete checkpoints."""
    manifests = (run_dir / "checkpoints").glob(f"checkpoint-*/{MANIFEST}")
    return sorted(int(path.parent.name.rpartition("-")[2]) for path in manifests)


def is_saving(run_dir: Path) -> bool:
    """Whether a checkpoint has no manifest yet."""
    checkpoints = (run_dir / "checkpoints").glob("checkpoint-*")
    return any(not (path / MANIFEST).exists() for path in checkpoints)


def run_and_kill(command: list[str], run_dir: Path, seconds: float, tally: Tally) -> bool:
    """Whether a process ended before it was killed, `seconds` after its first save started."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        stale = is_saving(run_dir)  # left by the process before; removed on resume
        before = find_steps(run_dir)
        deadline = time.monotonic() + LONGEST_SECONDS
        while process.poll() is None and time.monotonic() < deadline:
            if find_steps(run_dir) != before or (not stale and is_saving(run_dir)):
                break
            time.sleep(0.005)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
        if process.poll() is None:
            tally.within_saves += is_saving(run_dir)
            process.kill()
            process.wait()
            tally.kills += 1
            after = find_steps(run_dir)
            is_finished = (run_dir / "metrics.json").exists()  # its checkpoints are removed
            tally.lost += not is_finished and bool(before) and (not after or after[-1] < before[-1])
            return False
        if process.returncode:
            tally.failed += 1
            assert process.stderr is not None
            print(process.stderr.read()[-2000:], file=sys.stderr)
        return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--script", choices=["train_e2e.py", "train_mlm.py"], default="train_e2e.py")
    parser.add_argument("--longest", type=float, default=8.0, help="maximum seconds from the first save to the kill")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    generator = random.Random(options.seed)
    flags = FLAGS + (OF_ADAPTATION if options.script == "train_mlm.py" else [])
    command = [sys.executable, str(ROOT / options.script), *flags, "--resume", "--output_dir"]
    tally = Tally()
    with tempfile.TemporaryDirectory() as folder:
        whole, cut = Path(folder, "whole"), Path(folder, "cut")
        subprocess.run([*command, str(whole)], check=True, capture_output=True)
        weights = (whole / "model" / "model.safetensors").read_bytes()
        while tally.kills < options.kills or cut.exists():
            seconds = generator.uniform(0, options.longest) if tally.kills < options.kills else LONGEST_SECONDS
            if run_and_kill([*command, str(cut)], cut, seconds, tally):
                tally.ended += 1
                tally.differing += (cut / "model" / "model.safetensors").read_bytes() != weights
                shutil.rmtree(cut)
            print(tally, file=sys.stderr)
    print(
        f"{options.script}: killed {tally.kills} times, {tally.within_saves} of them within a save; {tally.ended} runs "
        f"ended, {tally.differing} with other weights; {tally.failed} processes failed; {tally.lost} checkpoints lost"
    )
    sys.exit(1 if tally.differing or tally.failed or tally.lost else 0)


if __name__ == "__main__":
    main()
