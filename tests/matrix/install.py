"""Installs what the matrix needs and is missing, by the ordinary clients: apt-get for programs, pip
into `target/matrix/venv`, npm into `target/matrix/node`."""

import hashlib
import os
import pathlib
import shutil
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent

# A program, and Debian's package of it.
PROGRAMS = {
    "curl": "curl",
    "nginx": "nginx-light",
    "node": "nodejs",
    "npm": "npm",
    "chromium": "chromium",
    "chromedriver": "chromium-driver",
}


def install(folder):
    """What is missing. Returns the paths of Python and of node_modules."""
    programs()
    venv, node = folder / "venv", folder / "node"
    requirements, package = HERE / "requirements.txt", HERE / "package.json"
    if stale(venv, requirements):
        say("pip install, into", venv)
        subprocess.run([sys.executable, "-m", "venv", "--clear", venv], check=True)
        pip = [venv / "bin" / "python", "-m", "pip", "--quiet", "--disable-pip-version-check", "install"]
        subprocess.run([*pip, "--requirement", requirements], check=True)
        fresh(venv, requirements)
    if stale(node, package):
        say("npm install, into", node)
        shutil.rmtree(node, ignore_errors=True)
        node.mkdir(parents=True)
        shutil.copy(package, node)
        npm = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts"]
        subprocess.run(npm, cwd=node, check=True)
        fresh(node, package)
    return venv / "bin" / "python", node / "node_modules"


def programs():
    missing = [package for program, package in PROGRAMS.items() if not shutil.which(program)]
    if not missing:
        return
    if not shutil.which("apt-get") or os.geteuid() != 0:
        sys.exit(f"tests/matrix/run: install {' '.join(missing)} first (as root of a Debian it does so itself)")
    say("apt-get install", *missing)
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(["apt-get", "update", "-qq"], check=True, env=quiet, stdout=subprocess.DEVNULL)
    command = ["apt-get", "install", "-qq", "-y", "--no-install-recommends", *missing]
    subprocess.run(command, check=True, env=quiet, stdout=subprocess.DEVNULL)


def stale(folder, source):
    """Whether the folder was not, or not wholly, installed from these bytes."""
    stamp = folder / "installed-from"
    return not stamp.exists() or stamp.read_text() != digest(source)


def fresh(folder, source):
    (folder / "installed-from").write_text(digest(source))


def digest(source):
    return hashlib.sha256(source.read_bytes()).hexdigest()


def say(*words):
    print("tests/matrix/run:", *words, file=sys.stderr, flush=True)
