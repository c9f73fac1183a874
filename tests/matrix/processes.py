"""The gateway and the services: started on free ports, waited for, ended by their own ids."""

import json
import os
import pathlib
import re
import socket
import subprocess
import sys
import time
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
SERVICES = HERE / "services"
START_S = 30


class Processes:
    """Everything that was started in `folder`; ended, last first, with the block."""

    def __init__(self, folder, python, node_modules, blob, text):
        self.folder, self.python, self.node_modules = folder, python, node_modules
        self.blob, self.text = blob, text
        self.running = []
        self.ports = {}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in reversed(self.running):
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def services(self):
        self.ports = {name: free_port() for name in ("uvicorn", "nginx", "node")}
        shared = {**os.environ, "MATRIX_BLOB": str(self.blob), "MATRIX_TEXT": str(self.text)}
        uvicorn = ["-m", "uvicorn", "asgi:app", "--app-dir", SERVICES, "--log-level", "warning"]
        uvicorn += ["--http", "httptools", "--ws-max-size", str(1 << 28)]
        self.start("uvicorn", [self.python, *uvicorn, "--port", str(self.ports["uvicorn"])], shared)
        more = {"MATRIX_PORT": str(self.ports["node"]), "MATRIX_NODE_MODULES": str(self.node_modules)}
        self.start("node", ["node", SERVICES / "node.mjs"], {**shared, **more})
        self.start("nginx", self.nginx(), shared)
        for name, port in self.ports.items():
            self.wait_for(name, port)

    def nginx(self):
        own = self.folder / "nginx"
        (own / "stored").mkdir(parents=True)
        text = (SERVICES / "nginx.conf").read_text()
        values = {"PORT": self.ports["nginx"], "NODE": self.ports["node"], "BLOB": self.blob, "TEXT": self.text}
        # Its workers give up root, and could not read the files of whoever runs this.
        values["USER"] = "user root;" if os.geteuid() == 0 else ""
        for key, value in values.items():
            text = text.replace(f"@{key}@", str(value))
        (own / "nginx.conf").write_text(text)
        return ["nginx", "-p", own, "-e", "stderr", "-c", own / "nginx.conf"]

    def gateway(self, binary, origin):
        """Returns its two addresses and its process."""
        access = self.folder / "access.log"
        config = [
            '[server]\nlisten = "127.0.0.1:0"\n[admin]\nlisten = "127.0.0.1:0"',
            f'[log]\naccess = "{access}"',
            f'[cors]\nallow_origins = ["{origin}"]\nexpose_headers = ["x-request-id", "x-request-chunked"]',
        ]
        for name, port in self.ports.items():
            config.append(f'[services.{name}]\nendpoints = ["http://127.0.0.1:{port}"]')
        for name in self.ports:
            route = f'path_prefix = "/{name}"\nrewrite_prefix = "/"\nservice = "{name}"'
            config.append(f"[[policy.routing.config.routes]]\n{route}")
        config.insert(-len(self.ports), '[policy.routing]\ncomponent = "builtin:routing"')
        file = self.folder / "orchestrator.toml"
        file.write_text("\n".join(config) + "\n")
        process = self.start("gateway", [binary, "serve", "--config", file], os.environ)
        found = self.line("gateway", r" ready .*\blisten=(\S+) admin=(\S+)", process)
        return found[1], found[2], process

    def start(self, name, command, environment):
        with open(self.folder / f"{name}.log", "w") as log:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, cwd=self.folder
            )
        self.running.append(process)
        process.name = name
        return process

    def line(self, name, pattern, process):
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline and process.poll() is None:
            if found := re.search(pattern, self.log(name)):
                return found
            time.sleep(0.02)
        sys.exit(f"tests/matrix/run: {name} did not get ready:\n{self.log(name)}")

    def wait_for(self, name, port):
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
                    return answer.read()
            except OSError:
                time.sleep(0.05)
        sys.exit(f"tests/matrix/run: {name} does not answer on port {port}:\n{self.log(name)}")

    def log(self, name):
        return (self.folder / f"{name}.log").read_text(errors="replace")

    # What the services and the gateway say of a request that a client broke off.

    def service_saw_it_go(self, service, id):
        """None once the service has noticed; else what it says instead."""
        if service != "nginx" or id.endswith("-cancel"):  # nginx passes WebSocket on to Node.
            port = self.ports["node" if service == "nginx" else service]
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/state?id={id}", timeout=10) as answer:
                state = json.load(answer)
            return None if state and state["gone"] else f"{service} says {state}"
        ends = [line for line in lines(self.folder / "nginx" / "nginx.log") if line["args"] == f"id={id}"]
        return None if ends and not ends[-1]["completion"] else f"nginx logged {ends}"

    def gateway_saw_it_go(self, id):
        ends = [line for line in lines(self.folder / "access.log") if f"id={id}" in json.dumps(line)]
        if id.endswith("-cancel"):  # A tunnel: either side may be the first to be known as gone.
            return None if ends else "the access log has no line of it"
        # Gone while it waited for the answer, or in the middle of its own body.
        gone = any(line.get("why") in ("client_gone", "client_broke") for line in ends)
        return None if gone else f"the access log has {ends}"


def lines(file):
    """Lines of JSON; the last may not be whole yet."""
    found = []
    for line in file.read_text(errors="replace").splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
