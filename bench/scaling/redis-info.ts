import { connect } from "node:net";

/** What a Redis has done since it was started. */
export interface RedisCounts {
  /** Seconds, user and system. */
  cpu: number;
  bytesIn: number;
  bytesOut: number;
  /** Calls of scripts: appends, reads, and what keeps the index. */
  scripts: number;
  subscribed: number;
  /** Without the one that asks. */
  connections: number;
  /** Bytes that its data takes. */
  memory: number;
}

/** What asking costs is not in the next answer. */
let askedBytes = 0;

export async function redisCounts(port: number): Promise<RedisCounts> {
  const text = await info(port);
  const field = (name: string) =>
    Number(new RegExp(`^${name}:([\\d.]+)`, "m").exec(text)?.[1] ?? 0);
  const calls = (name: string) =>
    Number(new RegExp(`^cmdstat_${name}:calls=(\\d+)`, "m").exec(text)?.[1] ?? 0);
  const counts = {
    cpu: field("used_cpu_user") + field("used_cpu_sys"),
    bytesIn: field("total_net_input_bytes"),
    bytesOut: field("total_net_output_bytes") - askedBytes,
    scripts: calls("evalsha") + calls("eval"),
    subscribed: calls("subscribe"),
    connections: field("connected_clients") - 1,
    memory: field("used_memory_dataset"),
  };
  askedBytes += text.length;
  return counts;
}

/** Of a Redis that was started anew. */
export function forgetAsked(): void {
  askedBytes = 0;
}

function info(port: number): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = "";
    const socket = connect(port, "127.0.0.1", () => socket.write("INFO everything\r\nQUIT\r\n"));
    socket.on("data", (data) => {
      text += data.toString();
    });
    socket.on("error", reject);
    socket.on("close", () => resolve(text));
  });
}
