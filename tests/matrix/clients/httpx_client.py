"""httpx, the way a service in Python calls another: one client, kept connections."""

import json
import time

import httpx
from common import *

client = httpx.Client(trust_env=False, timeout=60)


def stored(service, scenario):
    return sha256(client.get(url(service, f"/stored/{name(service, scenario)}")).content)


def small(service):
    for _ in range(2):
        answer = client.get(url(service, "/small?a=1&b=%20x"), headers={"X-Probe": "httpx"})
        check(answer.status_code == 200, f"{answer.status_code}: {answer.text}")
        small_is_right(service, answer.json(), answer.headers, "httpx")
    if service != "nginx":
        answer = client.post(url(service, "/small"), json={"of": "httpx"})
        check(json.loads(answer.json()["body"]) == {"of": "httpx"}, f"the service got {answer.json()['body']}")


def up(service):
    length = str(TASK["blob_bytes"])
    answer = client.put(
        url(service, f"/upload/{name(service, 'up')}"), content=blob(), headers={"Content-Length": length}
    )
    upload_is_right(
        service, answer.status_code, service != "nginx" and answer.json(), TASK["blob_bytes"], TASK["blob_sha256"],
        lambda: stored(service, "up"),
    )


def down(service):
    digest = Digest()
    with client.stream("GET", url(service, "/blob")) as answer:
        check(answer.status_code == 200, f"{answer.status_code}")
        for piece in answer.iter_raw():
            digest.update(piece)
    digest.is_blob()


def chunked(service):
    data = b"".join(PIECES) * 50
    pieces = (data[at : at + 10_000] for at in range(0, len(data), 10_000))
    if service == "nginx":
        target = name(service, "chunked")
        sent = client.put(url(service, f"/upload/{target}"), content=pieces)
        check(sent.status_code in (201, 204), f"nginx answered {sent.status_code}")
        answer = client.get(url(service, f"/chunked/{target}"), headers={"Accept-Encoding": "identity"})
    else:
        answer = sent = client.post(url(service, "/echo"), content=pieces)
    check(sent.headers["x-request-chunked"] == "yes", "the request was not chunked when it arrived")
    check(answer.headers.get("transfer-encoding") == "chunked", f"not chunked: {answer.headers}")
    check(answer.content == data, f"{len(answer.content)} bytes came back, not {len(data)}")


def sse(service):
    id = name(service, "sse")
    seen = []
    with client.stream("GET", url(service, f"/sse?id={id}")) as answer:
        for line in answer.iter_lines():
            if line.startswith("id: "):
                seen.append(line[4:])
                if seen == EVENTS[:3]:
                    client.post(url(service, f"/release?id={id}")).raise_for_status()
    check(seen == EVENTS, f"events {seen}")


def trailers(service):
    answer = client.get(url(service, "/trailers"), headers={"TE": "trailers", "Connection": "TE", "X-Probe": "t"})
    check(sha256(answer.content) == TASK["text_sha256"], f"{len(answer.content)} bytes, and wrong")
    small(service)
    return "not shown to programs by httpx: they do no harm"


def cancel(service):
    down, up = name(service, "cancel-down"), name(service, "cancel-up")
    with client.stream("GET", url(service, f"/endless?id={down}")) as answer:
        got = 0
        for piece in answer.iter_raw():
            got += len(piece)
            if got > 1_000_000:
                break  # Leaving the block closes the connection.

    class Enough(Exception):
        pass

    def broken():
        yield b"u" * 500_000
        wait_until_begun(service, up)
        raise Enough

    try:
        client.put(url(service, f"/upload/{up}?id={up}"), content=broken())
        raise Wrong("the upload was not broken off")
    except Enough:
        pass
    small(service)
    return "download and upload", [down, up]


def slow(service):
    began = time.monotonic()
    answer = client.get(url(service, f"/slow?pieces={TASK['pieces']}&ms={TASK['pause_ms']}"))
    wanted = TASK["text_sha256"] if service == "nginx" else TRICKLED
    check(sha256(answer.content) == wanted, f"{len(answer.content)} bytes, and wrong")
    check(time.monotonic() - began > 1, "that was not slow")
    answer = client.put(url(service, f"/upload/{name(service, 'slow')}"), content=trickle())
    upload_is_right(
        service, answer.status_code, service != "nginx" and answer.json(), 1000 * len(PIECES), TRICKLED,
        lambda: stored(service, "slow"),
    )
    return "both ways"


run({f.__name__: f for f in (small, up, down, chunked, sse, trailers, cancel, slow)})
