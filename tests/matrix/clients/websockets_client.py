"""websockets: what WebSocket's own library does over a tunnel, 100 MB each way included."""

import asyncio
import json
import time

import websockets
from common import *


def connect(service, scenario):
    address = url(service, f"/ws?id={name(service, scenario)}").replace("http:", "ws:")
    return websockets.connect(address, max_size=None, proxy=None, compression=None, open_timeout=20)


async def websocket(service):
    async with connect(service, "websocket") as ws:
        for message in ("hello", "é" * 5000, "", b"".join(PIECES) * 100):
            await ws.send(message)
            got = await asyncio.wait_for(ws.recv(), 20)
            check(got == message, f"{got[:20]!r} came back, not {message[:20]!r}")
        # In fragments, and with a ping that must be answered by the service.
        await ws.send(["in ", "three ", "pieces"])
        check(await asyncio.wait_for(ws.recv(), 20) == "in three pieces", "the fragments did not come back")
        await asyncio.wait_for(await ws.ping(), 20)
        await ws.send("close 4001")
        try:
            await asyncio.wait_for(ws.recv(), 20)
            raise Wrong("a message instead of the end")
        except websockets.ConnectionClosed as end:
            check(end.rcvd and (end.rcvd.code, end.rcvd.reason) == (4001, "as asked"), f"the end: {end}")
    return "text, binary, fragments, ping, the service's close code"


async def up(service):
    async with connect(service, "up") as ws:
        await ws.send("take")
        for piece in blob():
            await ws.send(piece)
        await ws.send("taken")
        answer = json.loads(await asyncio.wait_for(ws.recv(), 60))
    got, wanted = (answer["bytes"], answer["sha256"]), (TASK["blob_bytes"], TASK["blob_sha256"])
    check(got == wanted, f"the service got {got}, not {wanted}")
    return "as messages through the tunnel"


async def down(service):
    digest = Digest()
    async with connect(service, "down") as ws:
        await ws.send(f"send {TASK['blob_bytes']}")
        while digest.bytes < TASK["blob_bytes"]:
            digest.update(await asyncio.wait_for(ws.recv(), 60))
    digest.is_blob()
    return "as messages through the tunnel"


async def cancel(service):
    id = name(service, "cancel")
    ws = await connect(service, "cancel")
    await ws.send("half a conversation")
    await asyncio.wait_for(ws.recv(), 20)
    # No closing handshake: the client's machine is gone.
    ws.transport.abort()
    await websocket(service)
    return "a tunnel that breaks off", [id]


async def slow(service):
    began = time.monotonic()
    async with connect(service, "slow") as ws:
        for piece in PIECES:
            await ws.send(piece)
            check(await asyncio.wait_for(ws.recv(), 20) == piece, "other bytes came back")
            await asyncio.sleep(PAUSE)
    check(time.monotonic() - began > 1, "that was not slow")
    return "a message now and then"


asyncio.run(run_async({f.__name__: f for f in (up, down, websocket, cancel, slow)}))
