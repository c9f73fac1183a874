"""curl: every cell is a command line that a person could type."""

import json
import subprocess
import time

from common import *

CURL = ["curl", "--silent", "--show-error", "--noproxy", "*", "--max-time", "120"]


def curl(*arguments, body=None):
    done = subprocess.run([*CURL, *arguments], input=body, capture_output=True, check=False)
    check(done.returncode == 0, f"curl {' '.join(arguments)}: {done.returncode}, {done.stderr.decode().strip()}")
    return done.stdout


def with_head(*arguments, body=None):
    """Status, headers (with trailers: curl writes them behind) and body. A 100 comes first."""
    text = curl("--include", *arguments, body=body)
    while True:
        head, text = text.split(b"\r\n\r\n", 1)
        lines = head.decode().split("\r\n")
        status = int(lines[0].split()[1])
        if status >= 200:
            return status, headers_of(lines[1:]), text


def headers_of(lines):
    return {line.split(":", 1)[0].lower(): line.split(":", 1)[1].strip() for line in lines if ":" in line}


def stored(service, scenario, page="stored"):
    return sha256(curl("--fail", url(service, f"/{page}/{name(service, scenario)}")))


def small(service):
    target = url(service, "/small?a=1&b=%20x")
    for version in ("--http1.1", "--http1.0"):
        status, headers, body = with_head(version, "-H", "X-Probe: curl", target)
        check(status == 200, f"{version}: {status}")
        small_is_right(service, json.loads(body), headers, "curl")
    status, headers, body = with_head("--head", target)
    check((status, body) == (200, b""), f"HEAD: {status} {body[:50]}")
    check(int(headers["content-length"]) > 100, f"HEAD: {headers}")
    # Two requests over one connection: curl says how many it made.
    reused = curl("--output", "/dev/null", "--output", "/dev/null", "--write-out", "%{num_connects} ", target, target)
    check(reused.split() == [b"1", b"0"], f"connections made: {reused.decode()}")
    return "GET in 1.1 and 1.0, HEAD, keep-alive"


def up(service):
    # curl asks with `Expect: 100-continue` before it sends this much.
    status, _, body = with_head("-T", TASK["blob"], url(service, f"/upload/{name(service, 'up')}"))
    upload_is_right(
        service, status, body and service != "nginx" and json.loads(body), TASK["blob_bytes"], TASK["blob_sha256"],
        lambda: stored(service, "up"),
    )
    return "with Expect: 100-continue"


def down(service):
    digest = Digest()
    with subprocess.Popen([*CURL, "--fail", url(service, "/blob")], stdout=subprocess.PIPE) as process:
        while piece := process.stdout.read(PIECE):
            digest.update(piece)
    check(process.returncode == 0, f"curl ended with {process.returncode}")
    digest.is_blob()


def chunked(service):
    data = b"".join(PIECES) * 50
    if service == "nginx":
        target = name(service, "chunked")
        status, headers, _ = with_head("-T", "-", url(service, f"/upload/{target}"), body=data)
        check(status in (201, 204), f"nginx answered {status}")
        check(stored(service, "chunked") == sha256(data), "nginx stored something else")
        _, answer, body = with_head(url(service, f"/chunked/{target}"))
    else:
        status, headers, body = with_head("-X", "POST", "-T", "-", url(service, "/echo"), body=data)
        check(status == 200, f"{status}")
        answer = headers
    check(headers["x-request-chunked"] == "yes", "the request was not chunked when it arrived")
    check(answer.get("transfer-encoding") == "chunked", f"the response was not chunked: {answer}")
    check(body == data, f"{len(body)} bytes came back, not the {len(data)} that were sent")


def sse(service):
    id = name(service, "sse")
    command = [*CURL, "--fail", "--no-buffer", url(service, f"/sse?id={id}")]
    seen = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if line.startswith("id: "):
                seen.append(line[4:].strip())
                # Only now, having seen the third: a gateway that holds events back never gets here.
                if seen == EVENTS[:3]:
                    curl("--fail", "-X", "POST", url(service, f"/release?id={id}"))
    check(process.returncode == 0, f"curl ended with {process.returncode}")
    check(seen == EVENTS, f"events {seen}")


def trailers(service):
    arguments = ["-H", "TE: trailers", "-H", "Connection: TE", "-H", "X-Probe: curl-trailer", url(service, "/trailers")]
    # curl appends trailers to the file of headers.
    text = curl("--dump-header", "-", "--output", "/dev/null", *arguments).decode()
    check("x-probe: curl-trailer" in text.lower().split("\r\n"), f"no trailer in {text!r}")
    return "of the response; the command line cannot send any"


def cancel(service):
    down, up = name(service, "cancel-down"), name(service, "cancel-up")
    with subprocess.Popen([*CURL, url(service, f"/endless?id={down}")], stdout=subprocess.PIPE) as process:
        check(len(process.stdout.read(1_000_000)) == 1_000_000, "the download ended by itself")
        process.terminate()
    command = [*CURL, "-T", "-", url(service, f"/upload/{up}?id={up}")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        process.stdin.write(b"u" * 500_000)
        process.stdin.flush()
        wait_until_begun(service, up)
        process.kill()
    curl("--fail", url(service, "/small?a=1&b=%20x"))
    return "download and upload", [down, up]


def slow(service):
    began = time.monotonic()
    body = curl("--fail", url(service, f"/slow?pieces={TASK['pieces']}&ms={TASK['pause_ms']}"))
    check(sha256(body) == (TASK["text_sha256"] if service == "nginx" else TRICKLED), f"{len(body)} bytes, and wrong")
    check(time.monotonic() - began > 1, "that was not slow")
    target = url(service, f"/upload/{name(service, 'slow')}")
    command = [*CURL, "--write-out", "\n%{http_code}", "-T", "-", target]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        for piece in trickle():
            process.stdin.write(piece)
            process.stdin.flush()
        process.stdin.close()
        body, status = process.stdout.read().rsplit(b"\n", 1)
    upload_is_right(
        service, int(status), service != "nginx" and json.loads(body), 1000 * len(PIECES), TRICKLED,
        lambda: stored(service, "slow"),
    )
    return "both ways"


run({f.__name__: f for f in (small, up, down, chunked, sse, trailers, cancel, slow)})
