"""An archive from the Python package index, by pip, held to its SHA-256, with none of its code run."""

import os
import subprocess
import sys
from pathlib import Path

from sentiment.exceptions import InputError

# Stands in for setuptools while pip asks a source archive for its name and version, so that neither the
# archive's setup.py runs nor a build tool is downloaded. pip calls it as the legacy backend of PEP 517.
_BUILD_BACKEND = """
import os

class __legacy__:
    @staticmethod
    def prepare_metadata_for_build_wheel(metadata_directory, config_settings=None):
        folder = "{name}-{version}.dist-info"
        os.makedirs(os.path.join(metadata_directory, folder))
        with open(os.path.join(metadata_directory, folder, "METADATA"), "w") as metadata:
            metadata.write("Metadata-Version: 2.1\\nName: {name}\\nVersion: {version}\\n")
        return folder
"""


def download_archive(name: str, version: str, sha256: str, is_source: bool, scratch: Path) -> Path:
    """Path, within the empty folder `scratch`, of a package's wheel or, if `is_source`, its source archive.

    Raises `InputError` with package, version and pip's reason.
    """
    requirements = scratch / "requirements.txt"
    requirements.write_text(f"{name}=={version} --hash=sha256:{sha256}\n")
    downloads = scratch / "download"
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--disable-pip-version-check",
        "--no-input",
    ]
    command += ["--retries", "2", "--require-hashes", "--no-deps"]
    command += ["--dest", str(downloads), "--requirement", str(requirements)]
    environment = dict(os.environ)
    if is_source:
        command += ["--no-binary", ":all:", "--no-build-isolation", "--use-pep517"]
        environment["PYTHONPATH"] = str(_write_backend(name, version, scratch / "backend"))
    else:
        command += ["--only-binary", ":all:"]
    pip = subprocess.run(command, env=environment, capture_output=True, text=True, errors="replace", check=False)
    archives = list(downloads.iterdir()) if pip.returncode == 0 else []
    if len(archives) != 1:
        raise InputError(f"{name} {version}: {_find_reason(pip.stderr)}")
    return archives[0]


def _write_backend(name: str, version: str, folder: Path) -> Path:
    module = folder / "setuptools"
    module.mkdir(parents=True)
    (module / "__init__.py").touch()
    source = _BUILD_BACKEND.replace("{name}", name).replace("{version}", version)
    (module / "build_meta.py").write_text(source)
    return folder


def _find_reason(stderr: str) -> str:
    if "DO NOT MATCH THE HASHES" in stderr:
        return "the archive's SHA-256 is not the published one"
    if "connection broken by" in stderr:  # pip's last line would say that there is no such package
        return "no connection to the package index"
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    return lines[-1].removeprefix("ERROR: ").rstrip(".") if lines else "pip gave no reason"
