"""Chromium, headless, driven by chromedriver over WebDriver's own protocol (W3C), which is a few
requests of JSON. `page.js` is what the page does; here it is loaded and asked."""

import json
import subprocess
import tempfile
import urllib.error
import urllib.request

from common import *

FLAGS = """--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking
    --disable-component-update --disable-sync --disable-dev-shm-usage --no-proxy-server""".split()


class Browser:
    """One session of chromedriver; both end with the block."""

    def __enter__(self):
        self.profile = tempfile.TemporaryDirectory(prefix="matrix-chromium-")
        self.driver = subprocess.Popen(
            ["chromedriver", "--port=0"], stdout=subprocess.PIPE, text=True
        )
        for line in self.driver.stdout:
            if "was started successfully on port" in line:
                self.base = f"http://127.0.0.1:{line.rstrip().rstrip('.').split()[-1]}"
                break
        options = {"binary": TASK["chromium"], "args": [*FLAGS, f"--user-data-dir={self.profile.name}"]}
        wanted = {"goog:chromeOptions": options, "timeouts": {"script": 120_000}}
        session = self.ask("/session", {"capabilities": {"alwaysMatch": wanted}})
        self.base += f"/session/{session['sessionId']}"
        return self

    def __exit__(self, *_):
        try:
            self.ask("", None, method="DELETE")
        finally:
            self.driver.terminate()
            self.driver.wait(10)
            self.profile.cleanup()

    def ask(self, path, body, method="POST"):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.base + path, data, {"Content-Type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=180) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise Wrong(f"chromedriver: {json.load(error)['value']['message'].splitlines()[0]}") from None

    def open(self, page):
        self.ask("/url", {"url": page})

    def run(self, scenario, service):
        script = "const done = arguments[3]; run(arguments[0], arguments[1], arguments[2]).then(done);"
        result = self.ask("/execute/async", {"script": script, "args": [scenario, service, TASK]})
        check(result["ok"], result["note"])
        return result["note"], result["gone"]


with Browser() as browser:
    for service, scenario in TASK["cells"]:
        # A page for each cell: what one leaves behind ends with it.
        browser.open(f"{TASK['origin']}/page.html")
        # The origin that is not allowed belongs to the cell of CORS.
        def cell():
            result = browser.run(scenario, service)
            if scenario == "cors":
                browser.open(f"{TASK['other_origin']}/page.html")
                browser.run("stranger", service)
            return result

        one(service, scenario, cell)
