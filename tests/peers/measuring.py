"""Loads, and what they cost: figures of one run of one scenario against one proxy."""

import json
import os
import pathlib
import socket
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
IDLE_CONNECTIONS = 5_000


def wrk(proxy, seconds, connections, target="/api/writer/notes/7?draft=1", method="GET", body=0, close=False, routes=0):
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s"]
    command += ["-s", HERE / "wrk.lua", f"http://127.0.0.1:{proxy.port}{target}", "--"]
    command += [method, str(body), "close" if close else "keep", str(routes)]
    return costs(proxy, command)


def pace(proxy, programs, per_s, seconds):
    command = [programs, "pace", proxy.port, "/api/writer/notes/7?draft=1", 64, int(per_s), max(1, round(seconds))]
    return costs(proxy, command)


def costs(proxy, command):
    """Runs a load and adds to its figures: CPU in µs per request, requests per second, resident bytes.
    None: nothing was answered in that time."""
    before = cpu_ns(proxy)
    ran = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    spent = cpu_ns(proxy) - before
    lines = [line for line in ran.stdout.splitlines() if line.startswith("{")]
    if ran.returncode or not lines:
        sys.exit(f"tests/peers/run: {command[0]} against {proxy.name}:\n{ran.stdout}{ran.stderr}")
    figures = json.loads(lines[-1])
    if not figures["requests"]:
        return None
    figures["cpu_us"] = spent / figures["requests"] / 1000
    figures["rate"] = figures["requests"] / figures["seconds"]
    figures["resident"] = resident(proxy)
    return figures


def idle(proxy):
    """Resident bytes for each of many connections that have had an answer and wait."""
    before = resident(proxy)
    request = b"GET /api/writer/notes/7 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    connections = []
    try:
        for _ in range(IDLE_CONNECTIONS):
            connection = socket.create_connection(("127.0.0.1", proxy.port), timeout=10)
            connections.append(connection)
            connection.sendall(request)
            if not connection.recv(4096).startswith(b"HTTP/1.1 200"):
                sys.exit(f"tests/peers/run: {proxy.name} does not serve {len(connections)} connections")
        time.sleep(0.5)
        return {"bytes_each": (resident(proxy) - before) / IDLE_CONNECTIONS, "resident": resident(proxy)}
    finally:
        for connection in connections:
            connection.close()


def cpu_ns(proxy):
    """The time on a CPU of all threads of the proxy's processes."""
    spent = 0
    for pid in proxy.pids:
        for thread in pathlib.Path(f"/proc/{pid}/task").iterdir():
            try:
                spent += int((thread / "schedstat").read_text().split()[0])
            except (FileNotFoundError, ProcessLookupError):
                continue
    return spent


def resident(proxy):
    return sum(int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in proxy.pids) * PAGE_BYTES
