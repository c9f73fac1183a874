"""Which cells there are, and why some are not: nothing is left out in silence."""

CLIENTS = ["curl", "httpx", "aiohttp", "websockets", "node", "chromium"]
SERVICES = ["uvicorn", "nginx", "node"]
SCENARIOS = ["small", "up", "down", "chunked", "sse", "websocket", "trailers", "cancel", "slow", "cors"]

# (client, service, scenario), where None stands for all: why there is no such cell.
NOT_APPLICABLE = {
    ("curl", None, "websocket"): "its command line speaks no WebSocket",
    ("httpx", None, "websocket"): "it has no WebSocket; the client websockets stands beside it",
    ("websockets", None, "small"): "it speaks WebSocket only",
    ("websockets", None, "chunked"): "it speaks WebSocket only; messages in fragments are in its websocket",
    ("websockets", None, "sse"): "it speaks WebSocket only",
    ("websockets", None, "trailers"): "it speaks WebSocket only",
    (None, "uvicorn", "trailers"): "uvicorn sends no trailers and shows an application none of a request's",
    ("curl", None, "cors"): "only browsers enforce it",
    ("httpx", None, "cors"): "only browsers enforce it",
    ("aiohttp", None, "cors"): "only browsers enforce it",
    ("websockets", None, "cors"): "only browsers enforce it",
    ("node", None, "cors"): "only browsers enforce it",
}


def why_not(client, service, scenario):
    """Why there is no such cell; none where there is."""
    for (its_client, its_service, its_scenario), why in NOT_APPLICABLE.items():
        if its_client in (client, None) and its_service in (service, None) and its_scenario == scenario:
            return why
    return None
