// The round-robin proxy as a process of its own, for containers. NODES: `host:port,host:port …`
import { startLine } from "../demo/line.js";

const { NODES = "", PORT = "3000", HOST = "0.0.0.0" } = process.env;

const nodes = NODES.split(",").map((node) => {
  const [host = "", port = "3000"] = node.split(":");
  return { host, port: Number(port) };
});
const line = await startLine(nodes, { host: HOST, port: Number(PORT) });
console.log(`http://localhost:${line.port}`);
