"""What many teams run today: FastAPI and httpx, passing requests through. One uvicorn worker with uvloop
and httptools. PEERS_UPSTREAM is the port behind it, PEERS_ROUTES how many routes there are."""

import contextlib
import os
import uuid

import fastapi
import httpx
from starlette.responses import StreamingResponse

UPSTREAM = f"http://127.0.0.1:{os.environ['PEERS_UPSTREAM']}"
HOP_BY_HOP = {"connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "host"}
ATTEMPTS = 3


@contextlib.asynccontextmanager
async def lifespan(app):
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=2048)
    async with httpx.AsyncClient(base_url=UPSTREAM, limits=limits, timeout=30) as client:
        app.state.client = client
        yield


app = fastapi.FastAPI(lifespan=lifespan, docs_url=None, openapi_url=None)


async def forward(request, path, attempts=1):
    headers = [(name, value) for name, value in request.headers.items() if name not in HOP_BY_HOP]
    headers += [("x-forwarded-for", request.client.host), ("x-request-id", uuid.uuid4().hex)]
    url = httpx.URL(path=path, query=request.url.query.encode())
    client = request.app.state.client
    has_body = "content-length" in request.headers or "transfer-encoding" in request.headers
    for left in reversed(range(attempts)):
        body = request.stream() if has_body else None
        answer = await client.send(client.build_request(request.method, url, headers=headers, content=body), stream=True)
        if answer.status_code != 503 or not left:
            break
        await answer.aclose()
    kept = {name: value for name, value in answer.headers.items() if name not in HOP_BY_HOP}
    kept["access-control-allow-origin"] = "*"

    async def pieces():
        async for piece in answer.aiter_raw():
            yield piece
        await answer.aclose()

    return StreamingResponse(pieces(), status_code=answer.status_code, headers=kept)


async def writer(request: fastapi.Request, rest: str):
    return await forward(request, "/" + rest)


async def as_it_is(request: fastapi.Request):
    return await forward(request, request.url.path)


async def flaky(request: fastapi.Request):
    return await forward(request, request.url.path, ATTEMPTS)


app.add_api_route("/api/writer/{rest:path}", writer, methods=["GET", "POST"])
app.add_api_route("/flaky", flaky, methods=["GET"])
for number in range(int(os.environ["PEERS_ROUTES"])):
    app.add_api_route(f"/team-{number}/api/{{rest:path}}", as_it_is, methods=["GET"])
