// The service in Node: node:http alone, and `ws` for WebSocket.
//
// Its pages are those of `asgi.py`, and one that only Node can serve: trailers. `README.md` lists
// them. Everything it says about a request is what reached it.

import { createHash } from "node:crypto";
import { once } from "node:events";
import { createReadStream, readFileSync, statSync } from "node:fs";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { setTimeout as pause } from "node:timers/promises";

const { WebSocketServer } = createRequire(process.env.MATRIX_NODE_MODULES + "/")("ws");
const BLOB = process.env.MATRIX_BLOB;
const PIECE = Buffer.alloc(64 * 1024, "e");

// What became of the requests that named an id: {bytes, gone}.
const seen = new Map();
const released = new Map();

const server = createServer(async (request, response) => {
  const { pathname, searchParams: query } = new URL(request.url, "http://service");
  const name = pathname.split("/")[1];
  const id = query.get("id");
  const state = { bytes: 0, gone: false };
  // Asking for a state, or releasing one, must not make one.
  if (id && name !== "state" && name !== "release") seen.set(id, state);
  // Either side: the request was cut short, or the response could not be finished.
  request.on("error", () => (state.gone = true));
  response.on("close", () => (state.gone ||= !response.writableFinished));
  try {
    if (Object.hasOwn(pages, name)) await pages[name]({ request, response, query, id, state, pathname });
    else json(response, { detail: "no such page" }, 404);
  } catch (error) {
    if (!state.gone) throw error;
  }
});
// What is under test is the gateway's patience, not Node's.
server.requestTimeout = 0;
server.keepAliveTimeout = 0;

const pages = {
  health: ({ response }) => json(response, { status: "ok" }),

  state: ({ response, id }) => json(response, seen.get(id) ?? null),

  async small({ request, response, pathname, query }) {
    const body = Buffer.concat(await request.toArray()).toString();
    const { method, headers } = request;
    json(response, { service: "node", method, path: pathname, query: query.toString(), headers, body });
  },

  async upload({ request, response, state }) {
    const digest = createHash("sha256");
    for await (const piece of request) {
      digest.update(piece);
      state.bytes += piece.length;
    }
    const chunked = request.headers["transfer-encoding"] === "chunked";
    json(response, { bytes: state.bytes, sha256: digest.digest("hex"), chunked, trailers: request.trailers });
  },

  blob({ response }) {
    response.writeHead(200, { "Content-Type": "application/octet-stream", "Content-Length": statSync(BLOB).size });
    createReadStream(BLOB).pipe(response);
  },

  // The request's body, piece by piece, while it is still coming.
  async echo({ request, response }) {
    const chunked = request.headers["transfer-encoding"] === "chunked" ? "yes" : "no";
    response.writeHead(200, { "Content-Type": "application/octet-stream", "X-Request-Chunked": chunked });
    request.pipe(response);
    await once(response, "close");
  },

  // Three events, then nothing until somebody releases them, then two more and the end. Who comes
  // back with the last one's number gets the sixth.
  async sse({ request, response, id }) {
    response.writeHead(200, { "Content-Type": "text/event-stream", "Cache-Control": "no-store" });
    if (request.headers["last-event-id"] === "5") return response.end(event(6));
    response.write(": a comment\nretry: 50\n\n");
    for (const number of [1, 2, 3]) response.write(event(number));
    await Promise.race([gate(id).promise, once(response, "close")]);
    response.end(event(4) + event(5));
  },

  release({ response, id }) {
    gate(id).open();
    json(response, { released: id });
  },

  async endless({ response, state }) {
    response.writeHead(200, { "Content-Type": "application/octet-stream" });
    while (!response.destroyed) {
      state.bytes += PIECE.length;
      if (!response.write(PIECE)) await Promise.race([once(response, "drain"), once(response, "close")]);
    }
  },

  async slow({ response, query }) {
    response.writeHead(200, { "Content-Type": "application/octet-stream" });
    for (let number = 0; number < Number(query.get("pieces")); number++) {
      response.write(String.fromCharCode(97 + (number % 26)).repeat(1000));
      await pause(Number(query.get("ms")));
    }
    response.end();
  },

  // A body, and behind it a trailer that the client chose.
  trailers({ request, response }) {
    response.writeHead(200, { "Content-Type": "text/plain", Trailer: "X-Probe" });
    response.write(readFileSync(process.env.MATRIX_TEXT));
    response.addTrailers({ "X-Probe": request.headers["x-probe"] });
    response.end();
  },
};

function json(response, value, status = 200) {
  const body = JSON.stringify(value);
  response.writeHead(status, { "Content-Type": "application/json", "Content-Length": Buffer.byteLength(body) });
  response.end(body);
}

function event(number) {
  return `id: ${number}\nevent: tick\ndata: ${number}\ndata: of five\n\n`;
}

function gate(id) {
  if (!released.has(id)) {
    const made = {};
    made.promise = new Promise((open) => (made.open = open));
    released.set(id, made);
  }
  return released.get(id);
}

// Echoes messages. `close N` closes with that code; `send N` sends so many bytes in messages of
// 1 MiB; `take` takes binary messages until `taken`, and says what they were.
const sockets = new WebSocketServer({ noServer: true, perMessageDeflate: false, maxPayload: 1 << 28 });
server.on("upgrade", (request, socket, head) =>
  sockets.handleUpgrade(request, socket, head, (ws) => {
    const id = new URL(request.url, "http://service").searchParams.get("id");
    const state = { bytes: 0, gone: false };
    if (id) seen.set(id, state);
    let taking = null;
    ws.on("close", (code) => Object.assign(state, { gone: true, code }));
    ws.on("error", () => {});
    ws.on("message", async (data, binary) => {
      state.bytes += data.length;
      const text = binary ? "" : data.toString();
      if (binary && taking) {
        taking.digest.update(data);
        taking.bytes += data.length;
      } else if (binary) ws.send(data);
      else if (text === "take") taking = { digest: createHash("sha256"), bytes: 0 };
      else if (text === "taken") {
        ws.send(JSON.stringify({ bytes: taking.bytes, sha256: taking.digest.digest("hex") }));
        taking = null;
      } else if (text.startsWith("send ")) {
        for await (const piece of createReadStream(BLOB, { highWaterMark: 1 << 20 })) {
          await new Promise((sent) => ws.send(piece, sent));
        }
      } else if (text.startsWith("close ")) ws.close(Number(text.slice(6)), "as asked");
      else ws.send(text);
    });
  }),
);

server.listen(Number(process.env.MATRIX_PORT), "127.0.0.1");
