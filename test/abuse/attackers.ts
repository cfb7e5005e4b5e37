// The attackers: connections that send as fast as the server takes it, and come back when it ends them.
import { randomBytes } from "node:crypto";
import { connect, type Socket } from "node:net";
import { answer } from "../../bench/child.js";
import { type Attack, attacks } from "./attacks.js";

const BACK_MS = 100;
const sockets = new Set<Socket>();
let ended = 0;
let running = false;

const upgrade = (path: string) =>
  `GET ${path} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: ${randomBytes(16).toString("base64")}\r\nSec-WebSocket-Version: 13\r\n\r\n`;

function open(port: number, attack: Attack): void {
  const socket = connect(port, "127.0.0.1");
  sockets.add(socket);
  socket.on("error", () => {});
  socket.once("close", () => {
    sockets.delete(socket);
    if (!running) return;
    ended += 1;
    setTimeout(() => running && open(port, attack), BACK_MS);
  });
  const send = () => {
    if (!running || socket.destroyed) return;
    // Not all at once: this process has ten of them.
    if (socket.write(attack.flood)) setImmediate(send);
    else socket.once("drain", send);
  };
  const begin = () => {
    if (attack.first) socket.write(attack.first);
    if (attack.inTurn) {
      socket.on("data", (chunk) => {
        if (chunk.toString("latin1").endsWith("}")) socket.write(attack.flood);
      });
      socket.write(attack.flood);
    } else send();
    if (attack.deaf) socket.pause();
    else socket.resume();
  };
  socket.once("connect", () => {
    if (attack.upgrade === undefined) return begin();
    socket.write(upgrade(attack.upgrade));
    socket.once("data", begin);
  });
}

const calls = {
  begin: async (port: number, name: string, connections: number) => {
    const attack = attacks.find((one) => one.name === name);
    if (!attack) throw new Error(`There is no attack "${name}".`);
    running = true;
    ended = 0;
    for (let n = 0; n < connections; n++) open(port, attack);
  },

  /** Goes away. How many connections the server has ended. */
  end: async () => {
    running = false;
    for (const socket of sockets) socket.resetAndDestroy();
    return { ended };
  },
};

export type AttackerCalls = typeof calls;
answer(calls);
