"""Installs what the matrix needs and is missing: programs, Python's packages into `target/matrix/venv`,
Node's into `target/matrix/node`."""

import pathlib
import shutil
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import installing  # noqa: E402

WHO = "tests/matrix/run"

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
    installing.programs(WHO, PROGRAMS)
    python = installing.python(WHO, folder / "venv", HERE / "requirements.txt")
    node, package = folder / "node", HERE / "package.json"
    if installing.stale(node, package):
        installing.say(WHO, "npm install, into", node)
        shutil.rmtree(node, ignore_errors=True)
        node.mkdir(parents=True)
        shutil.copy(package, node)
        npm = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts"]
        subprocess.run(npm, cwd=node, check=True)
        installing.fresh(node, package)
    return python, node / "node_modules"
