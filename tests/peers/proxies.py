"""The proxies that are compared: how each is configured (config/) and started, and what it cannot do."""

import dataclasses
import os
import pathlib
import socket
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
CONFIG = HERE / "config"

# Ours first: the others are what it is compared with.
OURS, NGINX, UNBUFFERED, HAPROXY = "gateway", "nginx", "nginx, unbuffered", "HAProxy"
ENVOY, PROXY_WASM, CADDY, TRAEFIK = "Envoy", "Envoy + Proxy-Wasm", "Caddy", "Traefik"
FASTAPI, FLOOR = "FastAPI + httpx", "hyper floor"
ALL = [OURS, FLOOR, NGINX, UNBUFFERED, HAPROXY, ENVOY, PROXY_WASM, CADDY, TRAEFIK, FASTAPI]

START_S = 120


@dataclasses.dataclass
class Tools:
    """Where the programs are."""

    gateway: pathlib.Path
    programs: pathlib.Path
    filter: pathlib.Path
    venv: pathlib.Path


@dataclasses.dataclass
class Proxy:
    name: str
    port: int
    process: subprocess.Popen
    log: pathlib.Path
    started_s: float

    @property
    def pids(self):
        """It and its children: nginx works in one."""
        own = self.process.pid
        children = pathlib.Path(f"/proc/{own}/task/{own}/children").read_text().split()
        return [own, *map(int, children)]


class Processes:
    """Everything that was started in `folder`; ended, last first, with the block."""

    def __init__(self, folder, tools):
        self.folder, self.tools = pathlib.Path(folder), tools
        self.running = []
        self.number = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        while self.running:
            self.stop(self.running[-1])

    def stop(self, process):
        self.running.remove(process)
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def upstream(self):
        port = free_port()
        self.spawn([self.tools.programs, "upstream", str(port)], port, self.folder)
        return port

    def proxy(self, name, upstream, logs=True, routes=10, cache=None):
        """Starts one, and returns when it has answered a request."""
        port = free_port()
        self.number += 1
        own = self.folder / f"{self.number}"
        own.mkdir()
        log = own / "access.log"
        values = {"LISTEN": port, "UPSTREAM": upstream, "FOLDER": own, "FILTER": self.tools.filter}
        make = {
            OURS: self.gateway,
            NGINX: self.nginx,
            UNBUFFERED: self.nginx,
            HAPROXY: self.haproxy,
            ENVOY: self.envoy,
            PROXY_WASM: self.envoy,
            CADDY: self.caddy,
            TRAEFIK: self.traefik,
            FASTAPI: self.fastapi,
            FLOOR: self.floor,
        }[name]
        command, environment, output = make(name, own, log if logs else None, routes, values, cache)
        process, took = self.spawn(command, port, own, environment, output)
        return Proxy(name, port, process, log, took)

    def gateway(self, name, own, log, routes, values, cache):
        values["LOG"] = log or "off"
        values["CACHE"] = f'cache_dir = "{cache}"' if cache else ""
        text = fill("gateway.toml", values) + repeated("gateway.route", routes, values)
        file = write(own / "gateway.toml", text)
        return [self.tools.gateway, "serve", "--config", file], {}, None

    def nginx(self, name, own, log, routes, values, cache):
        values["LOG"] = f"{log} facts buffer=64k flush=1s" if log else "off"
        values["BUFFERING"] = "off" if name == UNBUFFERED else "on"
        values["ROUTES"] = repeated("nginx.route", routes, values)
        file = write(own / "nginx.conf", fill("nginx.conf", values))
        return ["nginx", "-p", own, "-e", "stderr", "-c", file], {}, None

    def haproxy(self, name, own, log, routes, values, cache):
        values["LOG"] = "log stdout format raw local0" if log else ""
        values["LOGGING"] = "log global\n    option httplog" if log else ""
        write(own / "routes.map", repeated("haproxy.route", routes, values))
        file = write(own / "haproxy.cfg", fill("haproxy.cfg", values))
        return ["haproxy", "-db", "-f", file], {}, log

    def envoy(self, name, own, log, routes, values, cache):
        access = "envoy.extensions.access_loggers.file.v3.FileAccessLog"
        typed = f'{{ "@type": type.googleapis.com/{access}, path: "{log}" }}'
        values["LOG"] = f"[{{ name: envoy.access_loggers.file, typed_config: {typed} }}]" if log else "[]"
        values["WASM"] = fill("envoy.wasm.yaml", values) if name == PROXY_WASM else ""
        values["ROUTES"] = repeated("envoy.route", routes, values)
        file = write(own / "envoy.yaml", fill("envoy.yaml", values))
        command = [self.tools.venv / "bin/envoy", "-c", file, "--concurrency", "1", "-l", "error"]
        return [*command, "--use-dynamic-base-id"], {}, None

    def caddy(self, name, own, log, routes, values, cache):
        values["LOG"] = f"log {{\n\t\toutput file {log} {{\n\t\t\troll_disabled\n\t\t}}\n\t}}" if log else ""
        values["ROUTES"] = repeated("caddy.route", routes, values)
        file = write(own / "Caddyfile", fill("Caddyfile", values))
        command = [self.tools.venv / "bin/caddy", "run", "--adapter", "caddyfile", "--config", file]
        return command, {"GOMAXPROCS": "1", "HOME": str(own)}, None

    def traefik(self, name, own, log, routes, values, cache):
        values["LOG"] = f'accessLog: {{ filePath: "{log}", bufferingSize: 1000 }}' if log else ""
        values["ROUTES"] = repeated("traefik.route", routes, values)
        write(own / "routes.yml", fill("traefik.routes.yml", values))
        file = write(own / "traefik.yml", fill("traefik.yml", values))
        return [self.tools.venv / "bin/traefik", f"--configFile={file}"], {"GOMAXPROCS": "1"}, None

    def fastapi(self, name, own, log, routes, values, cache):
        command = [self.tools.venv / "bin/python", "-m", "uvicorn", "passthrough:app", "--app-dir", CONFIG]
        command += ["--host", "127.0.0.1", "--port", str(values["LISTEN"]), "--backlog", "4096"]
        command += ["--loop", "uvloop", "--http", "httptools", "--timeout-keep-alive", "300"]
        command += ["--access-log" if log else "--no-access-log", "--no-use-colors"]
        environment = {
            "PEERS_UPSTREAM": str(values["UPSTREAM"]),
            "PEERS_ROUTES": str(routes),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        return command, environment, log

    def floor(self, name, own, log, routes, values, cache):
        return [self.tools.programs, "floor", str(values["LISTEN"]), str(values["UPSTREAM"])], {}, None

    def spawn(self, command, port, folder, environment=None, output=None):
        """Starts a program; returns it and the seconds until it answered."""
        with open(output or folder / "stdout", "w") as out, open(folder / "stderr", "w") as diagnostics:
            began = time.monotonic()
            process = subprocess.Popen(
                list(map(str, command)),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=diagnostics,
                cwd=folder,
                env={**os.environ, **(environment or {})},
            )
        self.running.append(process)
        while time.monotonic() < began + START_S:
            if process.poll() is not None:
                said = "".join(it.read_text()[:2000] for it in [folder / "stderr", output or folder / "stdout"])
                sys.exit(f"tests/peers/run: {command[0]} ended:\n{said}")
            if answers(port):
                return process, time.monotonic() - began
            time.sleep(0.002)
        sys.exit(f"tests/peers/run: {command[0]} does not answer on port {port}")


def answers(port):
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            connection.sendall(b"GET /api/writer/notes/7 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            return connection.recv(64).startswith(b"HTTP/1.1 200")
    except OSError:
        return False


def fill(template, values):
    text = (CONFIG / template).read_text()
    for key, value in values.items():
        text = text.replace(f"@{key}@", str(value))
    return text


def repeated(template, count, values):
    one = fill(template, values)
    return "".join(one.replace("@N@", str(number)) for number in range(count))


def write(file, text):
    file.write_text(text)
    return file


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
