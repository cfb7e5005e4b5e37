/**
 * Server-sent events, out of text as it comes (HTML Living Standard §9.2.6): `onData` is called with
 * the data of each event, `onRetry` with each `retry` field. What else events carry is in our frames.
 */
export function createEventParser(
  onData: (data: string) => void,
  onRetry: (ms: number) => void,
): (chunk: string) => void {
  let rest = "";
  let data: string[] = [];

  function take(line: string): void {
    if (line === "") {
      if (data.length > 0) onData(data.join("\n"));
      data = [];
      return;
    }
    const colon = line.indexOf(":");
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(line[colon + 1] === " " ? colon + 2 : colon + 1);
    if (name === "data") data.push(value);
    else if (name === "retry" && /^\d+$/.test(value)) onRetry(Number(value));
  }

  return (chunk) => {
    // Only what is new is searched: a big frame comes in many chunks.
    const lines = chunk.split("\n");
    lines[0] = rest + lines[0];
    rest = lines.pop() ?? "";
    for (const line of lines) take(line.endsWith("\r") ? line.slice(0, -1) : line);
  };
}
