"""What the programs in this folder that are written in Python need to be installed, by the ordinary
clients: apt-get for programs, pip into a folder under `target`."""

import hashlib
import os
import shutil
import subprocess
import sys


def programs(who, packages):
    """Installs the Debian packages of those programs that are missing. `packages`: a program and its package."""
    missing = [package for program, package in packages.items() if not shutil.which(program)]
    if not missing:
        return
    if not shutil.which("apt-get") or os.geteuid() != 0:
        sys.exit(f"{who}: install {' '.join(missing)} first (as root of a Debian it does so itself)")
    say(who, "apt-get install", *missing)
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(["apt-get", "update", "-qq"], check=True, env=quiet, stdout=subprocess.DEVNULL)
    command = ["apt-get", "install", "-qq", "-y", "--no-install-recommends", *missing]
    subprocess.run(command, check=True, env=quiet, stdout=subprocess.DEVNULL)


def python(who, venv, requirements):
    """The Python of an environment that has what `requirements` lists."""
    if stale(venv, requirements):
        say(who, "pip install, into", venv)
        subprocess.run([sys.executable, "-m", "venv", "--clear", venv], check=True)
        pip = [venv / "bin" / "python", "-m", "pip", "--quiet", "--disable-pip-version-check", "install"]
        subprocess.run([*pip, "--requirement", requirements], check=True)
        fresh(venv, requirements)
    return venv / "bin" / "python"


def stale(folder, source):
    """Whether the folder was not, or not wholly, installed from these bytes."""
    stamp = folder / "installed-from"
    return not stamp.exists() or stamp.read_text() != digest(source)


def fresh(folder, source):
    (folder / "installed-from").write_text(digest(source))


def digest(source):
    return hashlib.sha256(source.read_bytes()).hexdigest()


def say(who, *words):
    print(f"{who}:", *words, file=sys.stderr, flush=True)
