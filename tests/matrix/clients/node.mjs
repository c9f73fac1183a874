// Node: fetch wherever fetch can do it, `node:http` for trailers, `ws` for WebSocket. What it is given
// and how it reports is as in `common.py`.

import { createHash } from "node:crypto";
import { once } from "node:events";
import { createReadStream, openAsBlob, readdirSync, readFileSync, statSync } from "node:fs";
import http from "node:http";
import { createRequire } from "node:module";
import { setTimeout as pause } from "node:timers/promises";

const WebSocket = createRequire(process.env.MATRIX_NODE_MODULES + "/")("ws");
const task = JSON.parse(process.env.MATRIX);
const pieces = Array.from({ length: task.pieces }, (_, n) => Buffer.alloc(1000, 97 + (n % 26)));
const trickled = sha256(Buffer.concat(pieces));
const events = ["1", "2", "3", "4", "5"];

const cells = {
  async small(service) {
    for (let time = 0; time < 2; time++) {
      const answer = await fetch(url(service, "/small?a=1&b=%20x"), { headers: { "X-Probe": "node" } });
      same(answer.status, 200, "the status");
      const seen = await answer.json();
      same([seen.service, seen.path, seen.headers["x-probe"]], [service, "/small", "node"], "what the service saw");
      check(answer.headers.get("x-request-id"), "the response has no X-Request-Id");
    }
    if (service === "nginx") return "";
    const answer = await fetch(url(service, "/small"), { method: "POST", body: "of node" });
    same((await answer.json()).body, "of node", "the body that the service got");
  },

  async up(service) {
    const body = openAsBlob ? await openAsBlob(task.blob) : new Blob([readFileSync(task.blob)]);
    await upload(service, "up", { body }, task.blob_bytes, task.blob_sha256);
  },

  async down(service) {
    const answer = await fetch(url(service, "/blob"));
    same(answer.status, 200, "the status");
    const digest = createHash("sha256");
    for await (const piece of answer.body) digest.update(piece);
    same(digest.digest("hex"), task.blob_sha256, "what came");
  },

  async chunked(service) {
    const data = Buffer.concat(Array(50).fill(Buffer.concat(pieces)));
    async function* parts() {
      for (let at = 0; at < data.length; at += 10_000) yield data.subarray(at, at + 10_000);
    }
    const sending = { body: ReadableStream.from ? ReadableStream.from(parts()) : parts(), duplex: "half" };
    const target = name(service, "chunked");
    let sent, answer;
    if (service === "nginx") {
      sent = await fetch(url(service, `/upload/${target}`), { method: "PUT", ...sending });
      check([201, 204].includes(sent.status), `nginx answered ${sent.status}`);
      const headers = { "Accept-Encoding": "identity" };
      answer = await fetch(url(service, `/chunked/${target}`), { headers });
    } else {
      answer = sent = await fetch(url(service, "/echo"), { method: "POST", ...sending });
    }
    same(sent.headers.get("x-request-chunked"), "yes", "chunked on arrival");
    same(answer.headers.get("transfer-encoding"), "chunked", "the response's framing");
    same(sha256(Buffer.from(await answer.arrayBuffer())), sha256(data), "what came back");
  },

  async sse(service) {
    const id = name(service, "sse");
    const seen = [];
    let text = "";
    const answer = await fetch(url(service, `/sse?id=${id}`));
    for await (const piece of answer.body.pipeThrough(new TextDecoderStream())) {
      text += piece;
      const lines = text.split("\n");
      text = lines.pop();
      for (const line of lines) {
        if (!line.startsWith("id: ")) continue;
        seen.push(line.slice(4));
        if (seen.length === 3) {
          const released = await fetch(url(service, `/release?id=${id}`), { method: "POST" });
          same(released.status, 200, "the release");
          await released.text();
        }
      }
    }
    same(seen, events, "the events");
  },

  async websocket(service) {
    const ws = await open(service, "websocket");
    for (const message of ["hello", "é".repeat(5000), "", Buffer.concat(Array(100).fill(Buffer.concat(pieces)))]) {
      ws.send(message);
      const [data, binary] = await soon(once(ws, "message"));
      check(binary === (typeof message !== "string"), "text became binary, or the reverse");
      check(data.equals(Buffer.from(message)), "another message came back");
    }
    ws.ping("are you there");
    const [pong] = await soon(once(ws, "pong"));
    same(pong.toString(), "are you there", "the pong");
    ws.send("close 4001");
    const [code, reason] = await soon(once(ws, "close"));
    same([code, reason.toString()], [4001, "as asked"], "the end");
    return "by ws: text, binary, ping, the service's close code";
  },

  async trailers(service) {
    const headers = { TE: "trailers", Connection: "TE", "X-Probe": "node-trailer" };
    const [response] = await soon(once(http.get(url(service, "/trailers"), { headers }), "response"));
    const body = Buffer.concat(await response.toArray());
    same(sha256(body), task.text_sha256, "the body");
    same(response.trailers["x-probe"], "node-trailer", "the response's trailer");
    if (service !== "node") return "of the response, by node:http; nginx does not show those of requests";
    const request = http.request(url(service, "/upload/trailers"), {
      method: "POST",
      headers: { Trailer: "X-Sum", "Transfer-Encoding": "chunked" },
    });
    request.write("a body");
    request.addTrailers({ "X-Sum": "of the body" });
    request.end();
    const [answer] = await soon(once(request, "response"));
    const seen = JSON.parse(Buffer.concat(await answer.toArray()));
    same(seen.sha256, sha256("a body"), "the request's body");
    same(seen.trailers, { "x-sum": "of the body" }, "the request's trailers");
    return "of request and response, by node:http; fetch has none";
  },

  async cancel(service) {
    const [down, up] = [name(service, "cancel-down"), name(service, "cancel-up")];
    const abort = new AbortController();
    const answer = await fetch(url(service, `/endless?id=${down}`), { signal: abort.signal });
    let got = 0;
    for await (const piece of answer.body) {
      got += piece.length;
      if (got > 1_000_000) break;
    }
    abort.abort();

    const uploading = new AbortController();
    async function* begun() {
      yield Buffer.alloc(500_000, "u");
      await untilBegun(service, up);
      uploading.abort();
      await pause(60_000, null, { signal: uploading.signal }).catch(() => {});
    }
    const sending = fetch(url(service, `/upload/${up}?id=${up}`), {
      method: "PUT",
      body: ReadableStream.from ? ReadableStream.from(begun()) : begun(),
      duplex: "half",
      signal: uploading.signal,
    });
    await sending.then(
      (answer) => check(false, `the upload was not broken off: ${answer.status}`),
      (error) => check(error.name === "AbortError", `the upload ended with ${error}`),
    );
    await cells.small(service);
    return ["download and upload, by AbortController", [down, up]];
  },

  async slow(service) {
    const began = performance.now();
    const answer = await fetch(url(service, `/slow?pieces=${task.pieces}&ms=${task.pause_ms}`));
    const body = Buffer.from(await answer.arrayBuffer());
    same(sha256(body), service === "nginx" ? task.text_sha256 : trickled, "what came");
    check(performance.now() - began > 1000, "that was not slow");
    async function* slowly() {
      for (const piece of pieces) {
        yield piece;
        await pause(task.pause_ms);
      }
    }
    const body2 = ReadableStream.from ? ReadableStream.from(slowly()) : slowly();
    await upload(service, "slow", { body: body2, duplex: "half" }, 1000 * pieces.length, trickled);
    return "both ways";
  },
};

for (const [service, scenario] of task.cells) {
  let line = { service, scenario, ok: true, note: "", gone: [] };
  try {
    const result = await cells[scenario](service);
    if (Array.isArray(result)) [line.note, line.gone] = result;
    else line.note = result ?? "";
  } catch (error) {
    line = { ...line, ok: false, note: `${error}${error.cause ? `: ${error.cause}` : ""}` };
  }
  console.log(JSON.stringify(line));
}
process.exit();

async function upload(service, scenario, sending, length, digest) {
  const target = name(service, scenario);
  const answer = await fetch(url(service, `/upload/${target}`), { method: "PUT", ...sending });
  const text = await answer.text();
  if (service !== "nginx") {
    same(answer.status, 200, "the status");
    const seen = JSON.parse(text);
    return same([seen.bytes, seen.sha256], [length, digest], "what the service got");
  }
  check([201, 204].includes(answer.status), `nginx answered ${answer.status}`);
  const stored = createHash("sha256");
  for await (const piece of (await fetch(url(service, `/stored/${target}`))).body) stored.update(piece);
  same(stored.digest("hex"), digest, "what nginx stored");
}

async function open(service, scenario) {
  const ws = new WebSocket(url(service, `/ws?id=${name(service, scenario)}`).replace("http:", "ws:"));
  await soon(once(ws, "open"));
  return ws;
}

async function untilBegun(service, id) {
  const deadline = performance.now() + 20_000;
  while (performance.now() < deadline) {
    if ((await received(service, id)) >= 100_000) return;
    await pause(20);
  }
  check(false, `${id} did not reach the service in 20 s`);
}

async function received(service, id) {
  // It tells nobody, but keeps large bodies in files.
  if (service === "nginx") return Math.max(0, ...filesIn(task.nginx_bodies));
  const state = await (await fetch(`${task.services[service]}/state?id=${id}`)).json();
  return state?.bytes ?? 0;
}

function filesIn(folder) {
  return readdirSync(folder).map((file) => statSync(`${folder}/${file}`, { throwIfNoEntry: false })?.size ?? 0);
}

// `once` rejects where "error" comes first.
function soon(promise) {
  const late = pause(20_000, null, { ref: false }).then(() => check(false, "nothing came within 20 s"));
  return Promise.race([promise, late]);
}

function url(service, path) {
  return `${task.gateway}/${service}${path}`;
}

function name(service, scenario) {
  return `${task.client}-${service}-${scenario}`;
}

function sha256(data) {
  return createHash("sha256").update(data).digest("hex");
}

function check(condition, words) {
  if (!condition) throw new Error(words);
}

function same(got, wanted, what) {
  check(JSON.stringify(got) === JSON.stringify(wanted), `${what}: ${JSON.stringify(got)}, not ${JSON.stringify(wanted)}`);
}
