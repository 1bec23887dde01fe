"""Fetches the libraries' wheels with pip and unpacks their Python files."""
import pathlib
import shutil
import subprocess
import sys
import zipfile

LIST = pathlib.Path(__file__).with_name("sources.txt")


def sources(folder):
    """The folder that holds the libraries' files; made once for each version of the list."""
    unpacked, stamp = folder / "sources", folder / "sources" / "made-from.txt"
    if stamp.exists() and stamp.read_text() == LIST.read_text():
        return unpacked
    shutil.rmtree(unpacked, ignore_errors=True)
    wheels = unpacked / "wheels"
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([*pip, "--require-hashes", "--requirement", LIST, "--dest", wheels], check=True)
    for wheel in wheels.iterdir():
        with zipfile.ZipFile(wheel) as files:
            files.extractall(unpacked, [name for name in files.namelist() if name.endswith(".py")])
    shutil.rmtree(wheels)
    stamp.write_text(LIST.read_text())
    return unpacked
