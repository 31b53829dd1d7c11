"""Uploads of finished models to the Hub (`--push_to_hub`)."""

import sys
from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError

from sentiment.config.arguments import RunArguments
from sentiment.exceptions import InputError, first_line


def create_hub_repo(args: RunArguments) -> str:
    """The full name of the model repository on the Hub for `--push_to_hub`, created unless it exists.

    Raises:
        InputError: the Hub cannot be reached, or refuses.
    """
    name = args.hub_model_id or Path(args.output_dir).resolve().name
    try:
        return HfApi(token=args.hub_token).create_repo(name, private=args.hub_private_repo, exist_ok=True).repo_id
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise InputError(f"--push_to_hub: cannot create the repository {name}: {first_line(error)}") from error


def push_model(run_dir: Path, args: RunArguments) -> None:
    """Uploads the finished model with its config and model card.

    Raises:
        InputError: the Hub cannot be reached, or refuses; the run is finished, and the same command uploads it.
    """
    repo_id = create_hub_repo(args)
    try:
        commit = HfApi(token=args.hub_token).upload_folder(
            repo_id=repo_id,
            folder_path=run_dir / "model",
            commit_message="Model of a finished run",
            revision=args.hub_revision,
            ignore_patterns=["onnx/*"],
        )
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise InputError(f"--push_to_hub: cannot upload to {repo_id}: {first_line(error)}; run it again") from error
    print(f"Uploaded to {commit.commit_url}", file=sys.stderr)
