/**
 * Server-sent events as our server writes them (PROTOCOL.md; HTML Living Standard §9.2): the data of an
 * event is one line. Returns what takes the text as it comes, and tells each event's data, and how
 * long to wait before the next connection.
 */
export function createEventParser(
  onData: (data: string) => void,
  onRetry: (ms: number) => void,
): (text: string) => void {
  let rest = "";
  return (text) => {
    // Only what is new is searched: a big frame comes in many pieces.
    const lines = text.split("\n");
    lines[0] = rest + lines[0];
    rest = lines.pop() ?? "";
    for (const line of lines) {
      const [, data, ms] = /^(?:data: ?([^\r]*)|retry: ?(\d+))\r?$/.exec(line) ?? [];
      if (data !== undefined) onData(data);
      else if (ms) onRetry(Number(ms));
    }
  };
}
