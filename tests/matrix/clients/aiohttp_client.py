"""aiohttp: the same as httpx does, on an event loop, and WebSocket."""

import asyncio
import json
import time

import aiohttp
from common import *


def stored(session, service, scenario):
    async def read():
        async with session.get(url(service, f"/stored/{name(service, scenario)}")) as answer:
            return sha256(await answer.read())

    return read()


async def upload(session, service, scenario, data, length, digest, **headers):
    async with session.put(url(service, f"/upload/{name(service, scenario)}"), data=data, headers=headers) as answer:
        body = await answer.read()
    back = await stored(session, service, scenario) if service == "nginx" else None
    upload_is_right(service, answer.status, service != "nginx" and json.loads(body), length, digest, lambda: back)


async def small(session, service):
    for _ in range(2):
        async with session.get(url(service, "/small?a=1&b=%20x"), headers={"X-Probe": "aiohttp"}) as answer:
            check(answer.status == 200, f"{answer.status}")
            small_is_right(service, await answer.json(), answer.headers, "aiohttp")
    if service != "nginx":
        async with session.post(url(service, "/small"), json={"of": "aiohttp"}) as answer:
            got = (await answer.json())["body"]
            check(json.loads(got) == {"of": "aiohttp"}, f"the service got {got}")


async def up(session, service):
    with open(TASK["blob"], "rb") as file:
        await upload(session, service, "up", file, TASK["blob_bytes"], TASK["blob_sha256"])


async def down(session, service):
    digest = Digest()
    async with session.get(url(service, "/blob")) as answer:
        check(answer.status == 200, f"{answer.status}")
        async for piece in answer.content.iter_any():
            digest.update(piece)
    digest.is_blob()


async def chunked(session, service):
    data = b"".join(PIECES) * 50

    async def pieces():
        for at in range(0, len(data), 10_000):
            yield data[at : at + 10_000]

    if service == "nginx":
        target = name(service, "chunked")
        async with session.put(url(service, f"/upload/{target}"), data=pieces()) as sent:
            check(sent.status in (201, 204), f"nginx answered {sent.status}")
        request = session.get(url(service, f"/chunked/{target}"), headers={"Accept-Encoding": "identity"})
    else:
        request = session.post(url(service, "/echo"), data=pieces())
    async with request as answer:
        body = await answer.read()
    arrived = sent if service == "nginx" else answer
    check(arrived.headers["x-request-chunked"] == "yes", "the request was not chunked when it arrived")
    check(answer.headers.get("transfer-encoding") == "chunked", f"not chunked: {answer.headers}")
    check(body == data, f"{len(body)} bytes came back, not {len(data)}")


async def sse(session, service):
    id = name(service, "sse")
    seen = []
    async with session.get(url(service, f"/sse?id={id}")) as answer:
        async for line in answer.content:
            if line.startswith(b"id: "):
                seen.append(line[4:].decode().strip())
                if seen == EVENTS[:3]:
                    async with session.post(url(service, f"/release?id={id}")) as released:
                        check(released.status == 200, f"release: {released.status}")
    check(seen == EVENTS, f"events {seen}")


async def websocket(session, service):
    async with session.ws_connect(url(service, f"/ws?id={name(service, 'websocket')}"), max_msg_size=0) as ws:
        for text in ("hello", "é" * 5000, ""):
            await ws.send_str(text)
            got = await ws.receive_str(timeout=20)
            check(got == text, f"{got[:20]!r} came back, not {text[:20]!r}")
        data = b"".join(PIECES) * 100
        await ws.send_bytes(data)
        check(await ws.receive_bytes(timeout=20) == data, "other bytes came back")
        await ws.ping(b"are you there")
        await ws.send_str("close 4001")
        end = await ws.receive(timeout=20)
        check((end.type, end.data, end.extra) == (aiohttp.WSMsgType.CLOSE, 4001, "as asked"), f"the end: {end}")
    return "text, binary, ping, the service's close code"


async def trailers(session, service):
    headers = {"TE": "trailers", "Connection": "TE", "X-Probe": "t"}
    async with session.get(url(service, "/trailers"), headers=headers) as answer:
        body = await answer.read()
    check(sha256(body) == TASK["text_sha256"], f"{len(body)} bytes, and wrong")
    await small(session, service)
    return "not shown to programs by aiohttp: they do no harm"


async def cancel(session, service):
    down, up = name(service, "cancel-down"), name(service, "cancel-up")

    async def download():
        async with session.get(url(service, f"/endless?id={down}")) as answer:
            got = 0
            async for piece in answer.content.iter_any():
                got += len(piece)
                if got > 1_000_000 and not enough.done():
                    enough.set_result(None)

    async def begun():
        yield b"u" * 500_000
        await asyncio.to_thread(wait_until_begun, service, up)
        enough.set_result(None)
        await asyncio.sleep(60)

    async def sending():
        async with session.put(url(service, f"/upload/{up}?id={up}"), data=begun()) as answer:
            raise Wrong(f"the upload was not broken off: {answer.status}")

    for exchange in (download, sending):
        enough = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(exchange())
        await asyncio.wait([task, enough], return_when=asyncio.FIRST_COMPLETED, timeout=30)
        check(enough.done(), f"{exchange.__name__} came to nothing: {task}")
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    await small(session, service)
    return "download and upload", [down, up]


async def slow(session, service):
    async def download():
        began = time.monotonic()
        async with session.get(url(service, f"/slow?pieces={TASK['pieces']}&ms={TASK['pause_ms']}")) as answer:
            body = await answer.read()
        wanted = TASK["text_sha256"] if service == "nginx" else TRICKLED
        check(sha256(body) == wanted, f"{len(body)} bytes, and wrong")
        check(time.monotonic() - began > 1, "that was not slow")

    async def pieces():
        for piece in PIECES:
            yield piece
            await asyncio.sleep(PAUSE)

    await asyncio.gather(download(), upload(session, service, "slow", pieces(), 1000 * len(PIECES), TRICKLED))
    return "both ways at once"


async def main():
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as session:
        cells = (small, up, down, chunked, sse, websocket, trailers, cancel, slow)
        await run_async({f.__name__: lambda service, f=f: f(session, service) for f in cells})


asyncio.run(main())
