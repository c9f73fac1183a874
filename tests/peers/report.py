"""What was measured, as tables, as gates that hold or do not, and as a plot."""

import os
import pathlib
import re
import statistics
import subprocess
import time

from proxies import ALL, ENVOY, FLOOR, HAPROXY, NGINX, OURS, PROXY_WASM, UNBUFFERED

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
CACHED = f"{OURS}, compiled policies cached"

WHAT = {
    "small": "GET, 64 connections",
    "small-1000": "GET, 1,000 connections",
    "post": "POST of 1 KiB",
    "down": "1 MiB down",
    "up": "1 MiB up",
    "close": "a connection per request",
    "failing": "5 % of answers 503, tried again",
    "half": "fixed rate, half of its own most",
    "routes-10": "10 routes",
    "routes-1000": "1,000 routes",
    "routes-10000": "10,000 routes",
}
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"


def median(rounds, figure):
    return statistics.median(one[figure] for one in rounds)


def show(results, write):
    text = "\n\n".join(sections(results))
    print("\n" + text)
    if write:
        replace(HERE / "README.md", text)
        (HERE / "cpu.svg").write_text(plot(results))


def sections(results):
    on, off = results.get("on", {}), results.get("off", {})
    yield head(results)
    if gates := list(verdicts(results)):
        rows = [[what, ratio, gate, "yes" if ok else "**no**", dream, "yes" if met else "no"]
                for what, ratio, gate, ok, dream, met in gates]
        yield "### The gates\n\n" + table(["ours / peer, CPU per request", "measured", "gate", "holds", "dream", "met"], rows)
    for title, found in [("access logs on", on), ("access logs off", off)]:
        if loads := [name for name in WHAT if name in found]:
            yield f"### CPU per request in µs, {title}\n\nMedian, and least to most of the rounds.\n\n" + by_scenario(
                found, loads, lambda rounds: f"{median(rounds, 'cpu_us'):.1f}<br>{spread(rounds, 'cpu_us')}"
            )
    if loads := [name for name in WHAT if name in on]:
        yield "### Requests per second, access logs on\n\n" + by_scenario(
            on, loads, lambda rounds: f"{median(rounds, 'rate'):,.0f}"
        )
        yield "### Latency in ms, p50 / p99 / p99.9, access logs on\n\n" + by_scenario(
            on, loads, lambda rounds: " / ".join(f"{median(rounds, it) / 1000:.2f}" for it in ["p50", "p99", "p999"])
        )
        failed = {
            (name, proxy): sum(one["errors"] for one in rounds)
            for name in loads for proxy, rounds in on[name].items() if any(one["errors"] for one in rounds)
        }
        said = "; ".join(f"{proxy}, {WHAT[name]}: {count}" for (name, proxy), count in failed.items())
        yield f"Answers that were errors: {said or 'none'}."
    rows = list(memory(on))
    if rows:
        yield "### Memory and start\n\n" + table(
            ["", "resident after start, MiB", "after the loads", "per idle connection, KiB", "first answer, ms"], rows
        )
    if results.get("decision"):
        said = ", ".join(f"{name.removeprefix('route, ')}: {us:.2f} µs" for name, us in sorted(results["decision"].items()))
        yield f"A routing decision on its fibre, median (`cargo bench -p orchestrator --bench policy_call`): {said}."


def head(results):
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    day = time.strftime("%Y-%m-%d", time.gmtime(results["began"]))
    flags = " --quick" if results["quick"] else ""
    if not results["quick"] and (results["rounds"], results["seconds"]) != (5, 2):
        flags = f" --rounds {results['rounds']} --seconds {results['seconds']:g}"
    if results.get("gateway"):
        flags += f" --gateway {results['gateway']}"
    return (
        f"Measured on {day} by `tests/peers/run{flags}`: {results['rounds']} rounds of {results['seconds']:g} s; "
        f"{results['machine']}. {versions}."
    )


def verdicts(results):
    """What, measured, gate, whether it holds, dream, whether it is met."""
    on = results.get("on", {})

    def cpu(scenario, *proxies):
        """Of the cheapest of these."""
        found = [median(on[scenario][it], "cpu_us") for it in proxies if it in on.get(scenario, {})]
        return min(found) if len(found) == len(proxies) else None

    def against(what, scenario, proxies, gate, dream):
        ours, theirs = cpu(scenario, OURS), cpu(scenario, *proxies)
        if ours and theirs:
            ratio = ours / theirs
            met = dream is None or ratio <= dream
            yield what, f"{ratio:.2f} ×", f"≤ {gate:.2f} ×", ratio <= gate, f"≤ {dream:.2f} ×" if dream else "", met

    nginx = [NGINX, UNBUFFERED]
    small = WHAT["small"]
    yield from against(f"{small}, nginx (the better of both)", "small", nginx, 1.10, 1.00)
    yield from against(f"{small}, HAProxy", "small", [HAPROXY], 1.00, None)
    yield from against(f"{small}, Envoy + Proxy-Wasm", "small", [PROXY_WASM], 0.30, None)
    yield from against(f"{small}, the bare hyper floor", "small", [FLOOR], 1.15, 1.08)
    yield from against(f"{WHAT['small-1000']}, nginx", "small-1000", nginx, 1.10, 1.00)
    yield from against(f"{WHAT['post']}, nginx", "post", nginx, 1.05, 0.95)
    for way in ["down", "up"]:
        yield from against(f"{WHAT[way]}, nginx", way, nginx, 0.60, 0.45)
        yield from against(f"{WHAT[way]}, HAProxy", way, [HAPROXY], 0.95, 0.75)
    yield from against(f"{WHAT['close']}, nginx", "close", nginx, 1.15, 1.05)
    half = on.get("half", {})
    if OURS in half and NGINX in half:
        ours = median(half[OURS], "p99") / 1000
        theirs = min(median(half[it], "p99") / 1000 for it in nginx if it in half)
        ratio = ours / theirs
        measured = f"{ratio:.2f} × ({ours:.2f} and {theirs:.2f} ms)"
        ok = ratio <= 1.2 or ours - theirs <= 0.3
        yield "p99 at half of its own most, nginx", measured, "≤ 1.20 × or +0.3 ms", ok, "≤ 1.00 ×", ratio <= 1
    few, many = cpu("routes-10", OURS), cpu("routes-10000", OURS)
    if few and many:
        ratio = many / few
        yield "10,000 routes, ours with 10", f"{ratio:.2f} ×", "≤ 1.05 ×", ratio <= 1.05, "≤ 1.00 ×", ratio <= 1.005

    def least(what, value, unit, gate, dream):
        digits = 2 if gate < 2 else 1
        yield what, f"{value:.{digits}f} {unit}", f"≤ {gate} {unit}", value <= gate, f"≤ {dream} {unit}", value <= dream

    if OURS in on.get("idle", {}):
        yield from least("an idle connection, resident", median(on["idle"][OURS], "bytes_each") / 1024, "KiB", 20, 12)
    if OURS in on.get("start", {}):
        start = on["start"]
        yield from least("resident after start", median(start[OURS], "resident") / (1 << 20), "MiB", 30, 20)
        cold, cached = (median(start[it], "seconds") for it in [OURS, CACHED])
        yield "first answer, cold", f"{cold * 1000:.0f} ms", "≤ 1500 ms", cold <= 1.5, "", True
        yield from least("first answer, compiled policies cached", cached * 1000, "ms", 100, 50)
    decision = results.get("decision", {}).get("route, a prefix, 10 routes")
    if decision:
        yield from least("a routing decision, 10 routes", decision, "µs", 1.0, 0.7)
        if ours := cpu("small", OURS):
            part = decision / ours
            yield "… of the request's CPU", f"{part:.1%}", "≤ 7 %", part <= 0.07, "", True


def by_scenario(found, loads, cell):
    names = [name for name in ALL if any(name in found[load] for load in loads)]
    rows = [
        [WHAT[load], *(cell(found[load][name]) if name in found[load] else "–" for name in names)] for load in loads
    ]
    return table(["", *names], rows)


def memory(on):
    last = next((on[name] for name in reversed(WHAT) if name in on and not name.startswith("routes")), {})
    for name in [*ALL, CACHED]:
        start = on.get("start", {}).get(name)
        if not start and name not in on.get("idle", {}):
            continue
        mib = 1 << 20
        yield [
            name,
            f"{median(start, 'resident') / mib:.1f}" if start else "–",
            f"{median(last[name], 'resident') / mib:.1f}" if name in last else "–",
            f"{median(on['idle'][name], 'bytes_each') / 1024:.1f}" if name in on.get("idle", {}) else "–",
            f"{median(start, 'seconds') * 1000:.0f}" if start else "–",
        ]


def spread(rounds, figure):
    values = [one[figure] for one in rounds]
    return f"{min(values):.1f}–{max(values):.1f}"


def table(header, rows):
    lines = [header, ["---"] + ["--:"] * (len(header) - 1), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def replace(file, text):
    """Puts the text between the file's two marks."""
    before, rest = file.read_text().split(BEGIN)
    file.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{rest.split(END)[1]}")


def plot(results):
    """CPU per small request, a bar for each proxy; legible on light and on dark pages."""
    found = results["on"]["small"]
    bars = [(name, median(found[name], "cpu_us"), found[name]) for name in ALL if name in found]
    bars.sort(key=lambda bar: bar[1])
    # FastAPI's would leave nothing of the others to be seen: the axis ends before it.
    longest = max(us for name, us, _ in bars if us < 10 * bars[0][1])
    left, width, row, top = 170, 470, 26, 46
    height = top + row * len(bars) + 14
    scale = width / (longest * 1.05)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 760 {height}" font-family="system-ui, sans-serif" '
        f'font-size="13" role="img" aria-label="CPU time per proxied request, by proxy">',
        "<style>text{fill:#24292f}.bar{fill:#8c959f}.ours{fill:#1a7f64}.spread{stroke:#57606a}"
        "@media(prefers-color-scheme:dark){text{fill:#d0d7de}.bar{fill:#6e7681}.ours{fill:#3fb68b}"
        ".spread{stroke:#d0d7de}}</style>",
        '<text x="10" y="20" font-weight="600">CPU time per proxied request, µs (less is better)</text>',
        '<text x="10" y="37" font-size="11">GET of 100 bytes, 64 kept connections, one worker, access log on; '
        "line: least to most of the rounds</text>",
    ]
    for number, (name, us, rounds) in enumerate(bars):
        y = top + row * number
        kind = "ours" if name == OURS else "bar"
        length = min(us * scale, width)
        is_cut = us * scale > width
        label = f"{us:,.0f}, cut off" if is_cut else f"{us:.1f}"
        values = [one["cpu_us"] for one in rounds]
        low, high = (left + min(it * scale, width) for it in [min(values), max(values)])
        end = left + length if is_cut else max(left + length, high)
        weight = ' font-weight="600"' if name == OURS else ""
        lines += [
            f'<text x="{left - 8}" y="{y + 16}" text-anchor="end"{weight}>{name}</text>',
            f'<rect class="{kind}" x="{left}" y="{y + 3}" width="{length:.1f}" height="18" rx="2"/>',
            f'<text x="{end + 10:.1f}" y="{y + 16}"{weight}>{label}</text>',
        ]
        if not is_cut:
            lines.append(f'<line class="spread" x1="{low:.1f}" x2="{high:.1f}" y1="{y + 12}" y2="{y + 12}" stroke-width="2"/>')
    return "\n".join([*lines, "</svg>\n"])


def machine():
    cpus = pathlib.Path("/proc/cpuinfo").read_text()
    model = re.search(r"model name\s*: (.*)", cpus)
    return f"{os.cpu_count()} × {model[1] if model else 'unknown CPU'}, Linux {os.uname().release.split('-')[0]}"


def versions(tools):
    """Of each program, as it says itself."""
    asked = {
        "nginx": (["nginx", "-v"], r"nginx/(\S+)"),
        "HAProxy": (["haproxy", "-v"], r"version (\S+)"),
        "Envoy": ([tools.venv / "bin/envoy", "--version"], r"/(\d+\.\d+\.\d+)"),
        "Caddy": ([tools.venv / "bin/caddy", "version"], r"v?(\S+)"),
        "Traefik": ([tools.venv / "bin/traefik", "version"], r"Version:\s+(\S+)"),
        "gateway": ([tools.gateway, "--version"], r"(\d+\.\d+\.\d+)"),
        "rustc": (["rustc", "--version"], r"rustc (\S+)"),
    }
    found = {}
    for name, (command, pattern) in asked.items():
        ran = subprocess.run(list(map(str, command)), capture_output=True, text=True)
        found[name] = re.search(pattern, ran.stdout + ran.stderr)[1]
    packages = subprocess.run([tools.venv / "bin/pip", "freeze"], capture_output=True, text=True).stdout
    found |= {name: version for name, version in re.findall(r"^(fastapi|httpx|uvicorn)==(\S+)", packages, re.M)}
    return found
