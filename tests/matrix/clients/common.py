"""What the clients in Python share: the task they are given, and how they report.

A client is started with MATRIX (JSON) in its environment and writes one line of JSON for each cell:
{"service", "scenario", "ok", "note", "gone"}. `gone` lists the ids of requests that the client broke
off; the program that started it checks that the service and the gateway noticed.
"""

import hashlib
import json
import os
import pathlib
import time
import traceback
import urllib.request

TASK = json.loads(os.environ["MATRIX"])
GATEWAY = TASK["gateway"]
CLIENT = TASK["client"]
PIECE = 64 * 1024
# A body that is sent in pieces, and as how many.
PIECES = [bytes([97 + number % 26]) * 1000 for number in range(TASK["pieces"])]
PAUSE = TASK["pause_ms"] / 1000
EVENTS = ["1", "2", "3", "4", "5"]


class Wrong(Exception):
    """What a cell found, in words."""


def check(condition, words):
    if not condition:
        raise Wrong(words)


def report(service, scenario, ok, note="", gone=()):
    line = {"service": service, "scenario": scenario, "ok": ok, "note": note, "gone": list(gone)}
    print(json.dumps(line), flush=True)


def run(cells):
    """Runs the cells of the task, each by the function of its scenario: `f(service) -> note`, or
    `(note, ids of requests broken off)`."""
    for service, scenario in TASK["cells"]:
        one(service, scenario, lambda: cells[scenario](service))


def one(service, scenario, cell):
    try:
        said(service, scenario, cell())
    except Exception as error:
        wrong(service, scenario, error)


async def run_async(cells):
    for service, scenario in TASK["cells"]:
        try:
            said(service, scenario, await cells[scenario](service))
        except Exception as error:
            wrong(service, scenario, error)


def said(service, scenario, result):
    note, gone = result if isinstance(result, tuple) else (result, ())
    report(service, scenario, True, note or "", gone)


def wrong(service, scenario, error):
    if not isinstance(error, Wrong):
        traceback.print_exception(error)
    report(service, scenario, False, f"{type(error).__name__}: {error}" if not isinstance(error, Wrong) else str(error))


def url(service, path):
    return f"{GATEWAY}/{service}{path}"


def name(service, scenario):
    return f"{CLIENT}-{service}-{scenario}"


def blob():
    """The 100 MB, in pieces."""
    with open(TASK["blob"], "rb") as file:
        while piece := file.read(PIECE):
            yield piece


def trickle():
    for piece in PIECES:
        yield piece
        time.sleep(PAUSE)


def sha256(data):
    return hashlib.sha256(data).hexdigest()


TRICKLED = sha256(b"".join(PIECES))


class Digest:
    """Of what comes in pieces."""

    def __init__(self):
        self.sha256, self.bytes = hashlib.sha256(), 0

    def update(self, piece):
        self.sha256.update(piece)
        self.bytes += len(piece)

    def is_blob(self):
        got, wanted = (self.bytes, self.sha256.hexdigest()), (TASK["blob_bytes"], TASK["blob_sha256"])
        check(got == wanted, f"got {got}, not {wanted}")


def small_is_right(service, answer, headers, probe):
    """`answer`: what the service says about a GET of /small?a=1&b=%20x with this X-Probe."""
    check(answer["service"] == service, f"answered by {answer['service']}")
    check(answer["path"] == "/small", f"the service saw the path {answer['path']}")
    check(answer["query"] in ("a=1&b=%20x", "a=1&b=+x"), f"the service saw the query {answer['query']}")
    check(answer["headers"].get("x-probe") == probe, f"X-Probe became {answer['headers'].get('x-probe')}")
    check("127.0.0.1" in answer["headers"].get("x-forwarded-for", ""), "no X-Forwarded-For")
    check(headers.get("x-request-id"), "the response has no X-Request-Id")


def upload_is_right(service, status, answer, length, digest, stored):
    """`stored`: a function that reads /stored/… back, for nginx says nothing but 201."""
    if service == "nginx":
        check(status in (201, 204), f"nginx answered {status}")
        got = stored()
        check(got == digest, f"nginx stored {got}, not {digest}")
        return
    check(status == 200, f"the service answered {status}: {answer}")
    got = (answer["bytes"], answer["sha256"])
    check(got == (length, digest), f"the service got {got}, not {(length, digest)}")


def wait_until_begun(service, id):
    """Until some of an upload has reached the service: a client that breaks off sooner proves
    nothing."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if received(service, id) >= 100_000:
            return
        time.sleep(0.02)
    raise Wrong(f"{id} did not reach the service in 20 s")


def received(service, id):
    """Bytes of a request's body, as its service knows, asked directly."""
    if service == "nginx":  # It tells nobody, but keeps large bodies in files.
        return max((file.stat().st_size for file in pathlib.Path(TASK["nginx_bodies"]).iterdir()), default=0)
    with urllib.request.urlopen(f"{TASK['services'][service]}/state?id={id}", timeout=10) as answer:
        known = json.load(answer)
    return known["bytes"] if known else 0
