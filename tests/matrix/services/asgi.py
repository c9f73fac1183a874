"""The service behind uvicorn: a bare ASGI application, no framework between it and the server.

Its pages are those of `node.mjs`; `README.md` lists them. Everything it says about a request is
what reached it, so that a client can compare that with what it sent.
"""

import asyncio
import hashlib
import json
import os
import urllib.parse

BLOB = os.environ["MATRIX_BLOB"]
PIECE = 64 * 1024

# What became of the requests that named an id: {"bytes": …, "gone": …}.
seen = {}
released = {}


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        return await lifespan(receive, send)
    exchange = Exchange(scope, receive, send)
    if scope["type"] == "websocket":
        return await websocket(exchange)
    first = scope["path"].split("/")[1]
    page = PAGES.get(first)
    if page is None:
        return await exchange.json({"detail": "no such page"}, status=404)
    await page(exchange)


async def lifespan(receive, send):
    while True:
        message = await receive()
        await send({"type": message["type"] + ".complete"})
        if message["type"] == "lifespan.shutdown":
            return


class Exchange:
    def __init__(self, scope, receive, send):
        self.scope, self.receive, self.send = scope, receive, send
        self.query = dict(urllib.parse.parse_qsl(scope["query_string"].decode()))
        self.headers = {name.decode(): value.decode("latin-1") for name, value in scope["headers"]}
        self.state = {"bytes": 0, "gone": False}
        # Asking for a state, or releasing one, must not make one.
        if "id" in self.query and scope["path"] not in ("/state", "/release"):
            self.state = seen[self.query["id"]] = self.state

    async def start(self, status=200, **headers):
        headers = [(name.replace("_", "-").encode(), str(value).encode()) for name, value in headers.items()]
        await self.send({"type": "http.response.start", "status": status, "headers": headers})

    async def piece(self, data, more=True):
        await self.send({"type": "http.response.body", "body": data, "more_body": more})
        self.state["bytes"] += len(data)

    async def json(self, value, status=200):
        body = json.dumps(value).encode()
        await self.start(status, content_type="application/json", content_length=len(body))
        await self.send({"type": "http.response.body", "body": body})

    async def body(self):
        """The pieces of the request's body. Ends early, and says so, where the client left."""
        while True:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                self.state["gone"] = True
                return
            self.state["bytes"] += len(message["body"])
            yield message["body"]
            if not message["more_body"]:
                return

    def watch(self):
        """A task that ends when the client leaves; only after the request's body was read."""

        async def watching():
            while (await self.receive())["type"] != "http.disconnect":
                pass
            self.state["gone"] = True

        return asyncio.create_task(watching())


async def small(exchange):
    body = b"".join([piece async for piece in exchange.body()])
    await exchange.json(
        {
            "service": "uvicorn",
            "method": exchange.scope["method"],
            "path": exchange.scope["raw_path"].decode(),
            "query": exchange.scope["query_string"].decode(),
            "headers": exchange.headers,
            "body": body.decode(),
        }
    )


async def upload(exchange):
    digest, length = hashlib.sha256(), 0
    async for piece in exchange.body():
        digest.update(piece)
        length += len(piece)
    if exchange.state["gone"]:
        return
    chunked = exchange.headers.get("transfer-encoding") == "chunked"
    await exchange.json({"bytes": length, "sha256": digest.hexdigest(), "chunked": chunked, "trailers": {}})


async def blob(exchange):
    await exchange.start(content_type="application/octet-stream", content_length=os.path.getsize(BLOB))
    with open(BLOB, "rb") as file:
        while piece := file.read(PIECE):
            await exchange.piece(piece)
    await exchange.piece(b"", more=False)


async def echo(exchange):
    """The request's body, piece by piece, while it is still coming."""
    chunked = exchange.headers.get("transfer-encoding") == "chunked"
    await exchange.start(content_type="application/octet-stream", x_request_chunked="yes" if chunked else "no")
    async for piece in exchange.body():
        await exchange.send({"type": "http.response.body", "body": piece, "more_body": True})
    await exchange.piece(b"", more=False)


async def sse(exchange):
    """Three events, then nothing until somebody releases them, then two more and the end. Who comes
    back with the last one's number gets the sixth."""
    gone = exchange.watch()
    await exchange.start(content_type="text/event-stream", cache_control="no-store")
    if exchange.headers.get("last-event-id") == "5":
        await exchange.piece(event(6))
    else:
        await exchange.piece(b": a comment\nretry: 50\n\n")
        for number in (1, 2, 3):
            await exchange.piece(event(number))
        release = released.setdefault(exchange.query["id"], asyncio.Event())
        waiting = asyncio.create_task(release.wait())
        await asyncio.wait([waiting, gone], return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        for number in (4, 5):
            await exchange.piece(event(number))
    await exchange.piece(b"", more=False)
    gone.cancel()


def event(number):
    return f"id: {number}\nevent: tick\ndata: {number}\ndata: of five\n\n".encode()


async def release(exchange):
    released.setdefault(exchange.query["id"], asyncio.Event()).set()
    await exchange.json({"released": exchange.query["id"]})


async def endless(exchange):
    gone = exchange.watch()
    await exchange.start(content_type="application/octet-stream")
    while not gone.done():
        await exchange.piece(b"e" * PIECE)
        await asyncio.sleep(0)


async def slow(exchange):
    await exchange.start(content_type="application/octet-stream")
    for number in range(int(exchange.query["pieces"])):
        await exchange.piece(bytes([97 + number % 26]) * 1000)
        await asyncio.sleep(int(exchange.query["ms"]) / 1000)
    await exchange.piece(b"", more=False)


async def state(exchange):
    await exchange.json(seen.get(exchange.query["id"]))


async def health(exchange):
    await exchange.json({"status": "ok"})


async def websocket(exchange):
    """Echoes messages. `close N` closes with that code; `send N` sends so many bytes in messages of
    1 MiB; `take` takes binary messages until `taken`, and says what they were."""
    await exchange.receive()
    await exchange.send({"type": "websocket.accept"})
    taking = None
    while True:
        message = await exchange.receive()
        if message["type"] == "websocket.disconnect":
            exchange.state.update(gone=True, code=message.get("code"))
            return
        text, data = message.get("text"), message.get("bytes")
        exchange.state["bytes"] += len(text or data or "")
        if data is not None and taking is not None:
            taking[0].update(data)
            taking[1] += len(data)
        elif data is not None:
            await exchange.send({"type": "websocket.send", "bytes": data})
        elif text == "take":
            taking = [hashlib.sha256(), 0]
        elif text == "taken":
            answer = {"bytes": taking[1], "sha256": taking[0].hexdigest()}
            taking = None
            await exchange.send({"type": "websocket.send", "text": json.dumps(answer)})
        elif text.startswith("send "):
            with open(BLOB, "rb") as file:
                while piece := file.read(1024 * 1024):
                    await exchange.send({"type": "websocket.send", "bytes": piece})
        elif text.startswith("close "):
            await exchange.send({"type": "websocket.close", "code": int(text[6:]), "reason": "as asked"})
            return
        else:
            await exchange.send({"type": "websocket.send", "text": text})


PAGES = {
    page.__name__: page
    for page in (small, upload, blob, echo, sse, release, endless, slow, state, health)
}
