// What the browser does, on a page whose origin is not the gateway's: everything here is CORS, but for
// WebSocket. `chromium.py` calls `run(scenario, service, task)` and gets {ok, note, gone}.

const cells = {
  // A simple request: no preflight, and the page may read what the gateway exposes.
  async small(service) {
    const answer = await fetch(url(service, "/small?a=1&b=%20x"));
    const seen = await answer.json();
    same([seen.service, seen.path], [service, "/small"], "what the service saw");
    check(answer.headers.get("x-request-id"), "the page cannot read X-Request-Id");
    return "a simple CORS request";
  },

  // A request that wants a preflight: its method, and a header of its own.
  async cors(service) {
    const target = name(service, "cors");
    const answer = await fetch(url(service, `/upload/${target}`), {
      method: "PUT",
      headers: { "X-Probe": "preflighted", "Content-Type": "application/json" },
      body: "{}",
    });
    await uploaded(service, target, answer, 2, await sha256(new TextEncoder().encode("{}")));
    const refused = await fetch(url(service, "/small"), { method: "LOCK" }).then(
      (answer) => `answered ${answer.status}`,
      (error) => error.name,
    );
    same(refused, "TypeError", "a method that is not allowed");
    return "preflighted PUT; a method that is not allowed; an origin that is not allowed";
  },

  // On the page of another origin, which the gateway does not allow.
  async stranger(service) {
    for (const options of [{}, { method: "PUT", body: "{}" }]) {
      const refused = await fetch(url(service, "/small"), options).then(
        (answer) => `answered ${answer.status}`,
        (error) => error.name,
      );
      same(refused, "TypeError", "an origin that is not allowed");
    }
    return "";
  },

  async down(service) {
    same(await sha256(await (await fetch(url(service, "/blob"))).arrayBuffer()), task.blob_sha256, "what came");
    return "";
  },

  async up(service) {
    const body = await (await fetch(url("node", "/blob"))).arrayBuffer();
    const target = name(service, "up");
    const answer = await fetch(url(service, `/upload/${target}`), { method: "PUT", body });
    await uploaded(service, target, answer, task.blob_bytes, task.blob_sha256);
    return "";
  },

  async chunked(service) {
    const data = new Uint8Array(500_000).map((_, at) => at * 31);
    let answer;
    if (service === "nginx") {
      const target = name(service, "chunked");
      await uploaded(service, target, await fetch(url(service, `/upload/${target}`), { method: "PUT", body: data }), data.length, await sha256(data));
      answer = await fetch(url(service, `/chunked/${target}`));
    } else {
      answer = await fetch(url(service, "/echo"), { method: "POST", body: data });
    }
    same(answer.headers.get("content-length"), null, "the response's length");
    same(await sha256(await answer.arrayBuffer()), await sha256(data), "what came back");
    return "responses only: browsers stream uploads over HTTP/2 alone";
  },

  async sse(service) {
    const id = name(service, "sse");
    const source = new EventSource(url(service, `/sse?id=${id}`));
    const seen = [];
    await soon(
      new Promise((done, failed) => {
        source.addEventListener("tick", async (event) => {
          seen.push(event.lastEventId);
          if (event.data !== `${event.lastEventId}\nof five`) failed(new Error(`data ${event.data}`));
          if (seen.length === 3) await fetch(url(service, `/release?id=${id}`), { method: "POST" });
          if (event.lastEventId === "6") done();
        });
        source.addEventListener("error", () => source.readyState === EventSource.CLOSED && failed(new Error("refused")));
      }),
    ).finally(() => source.close());
    // The sixth only comes to who reconnects and says what it had last.
    same(seen, ["1", "2", "3", "4", "5", "6"], "the events");
    return "EventSource, and its reconnecting with Last-Event-ID";
  },

  async websocket(service) {
    const ws = new WebSocket(url(service, `/ws?id=${name(service, "websocket")}`).replace("http:", "ws:"));
    ws.binaryType = "arraybuffer";
    await next(ws, "open");
    for (const text of ["hello", "é".repeat(5000), ""]) {
      ws.send(text);
      same((await next(ws, "message")).data, text, "what came back");
    }
    const data = new Uint8Array(600_000).map((_, at) => at * 31);
    ws.send(data);
    same(await sha256((await next(ws, "message")).data), await sha256(data), "what came back");
    ws.send("close 4001");
    const { code, reason, wasClean } = await next(ws, "close");
    same([code, reason, wasClean], [4001, "as asked", true], "the end");
    return "text, binary, the service's close code";
  },

  async trailers(service) {
    const answer = await fetch(url(service, "/trailers"), { headers: { "X-Probe": "t" } });
    same(await sha256(await answer.arrayBuffer()), task.text_sha256, "the body");
    await cells.small(service);
    return "not shown to pages: they do no harm";
  },

  async cancel(service) {
    const [down, up] = [name(service, "cancel-down"), name(service, "cancel-up")];
    const abort = new AbortController();
    const reader = (await fetch(url(service, `/endless?id=${down}`), { signal: abort.signal })).body.getReader();
    for (let got = 0; got < 1_000_000; ) got += (await reader.read()).value.length;
    abort.abort();
    same(await reader.read().catch((error) => error.name), "AbortError", "reading on");

    // fetch does not say how far an upload is. Progress is told every 50 ms, in which a fast machine sends
    // a hundred megabytes.
    const request = new XMLHttpRequest();
    request.open("PUT", url(service, `/upload/${up}?id=${up}`));
    const progressed = next(request.upload, "progress");
    const aborted = next(request, "abort");
    request.send(new Uint8Array(400_000_000));
    await progressed;
    request.abort();
    await aborted;
    await cells.small(service);
    return ["download by AbortController, upload by XMLHttpRequest.abort", [down, up]];
  },

  async slow(service) {
    const began = performance.now();
    const answer = await fetch(url(service, `/slow?pieces=${task.pieces}&ms=${task.pause_ms}`));
    const wanted = service === "nginx" ? task.text_sha256 : task.trickled_sha256;
    same(await sha256(await answer.arrayBuffer()), wanted, "what came");
    check(performance.now() - began > 1000, "that was not slow");
    return "responses only: browsers stream uploads over HTTP/2 alone";
  },
};

let task;

async function run(scenario, service, given) {
  task = given;
  try {
    const result = await cells[scenario](service);
    return Array.isArray(result) ? { ok: true, note: result[0], gone: result[1] } : { ok: true, note: result, gone: [] };
  } catch (error) {
    return { ok: false, note: `${error}`, gone: [] };
  }
}

async function uploaded(service, target, answer, length, digest) {
  if (service === "nginx") {
    check([201, 204].includes(answer.status), `nginx answered ${answer.status}`);
    const stored = await (await fetch(url(service, `/stored/${target}`), { cache: "no-store" })).arrayBuffer();
    return same(await sha256(stored), digest, "what nginx stored");
  }
  const seen = await answer.json();
  same([answer.status, seen.bytes, seen.sha256], [200, length, digest], "what the service got");
}

function next(target, event) {
  return soon(
    new Promise((come, failed) => {
      target.addEventListener(event, come, { once: true });
      target.addEventListener("error", () => failed(new Error(`an error instead of ${event}`)), { once: true });
    }),
  );
}

function soon(promise) {
  const late = new Promise((_, failed) => setTimeout(() => failed(new Error("nothing came within 30 s")), 30_000));
  return Promise.race([promise, late]);
}

function url(service, path) {
  return `${task.gateway}/${service}${path}`;
}

function name(service, scenario) {
  return `${task.client}-${service}-${scenario}`;
}

async function sha256(data) {
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", data));
  return [...digest].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

function check(condition, words) {
  if (!condition) throw new Error(words);
}

function same(got, wanted, what) {
  check(JSON.stringify(got) === JSON.stringify(wanted), `${what}: ${JSON.stringify(got)}, not ${JSON.stringify(wanted)}`);
}
