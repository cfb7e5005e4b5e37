import type { Connection, JobSnapshot } from "@org/workflow-monitor-client";
import { createLogUpdate } from "log-update";
import { FRAME_MS, frame } from "./frame.js";
import { widthOf } from "./text.js";
import type { Clock, Output, View } from "./view.js";

const HIDE_CURSOR = "\u001b[?25l";
const SHOW_CURSOR = "\u001b[?25h";
const ERASE_AND_UP = "\u001b[2K\u001b[1A";

export interface TerminalOptions {
  /** What to call the job before it is known; printable. */
  title: string;
  colors: boolean;
  clock: Clock;
}

/** The watch as a picture that is drawn anew where it stands, whenever it has changed. */
export function terminalView(output: Output, { title, colors, clock }: TerminalOptions): View {
  // A pseudo-terminal that nobody has given a size says 0.
  const size = () => ({ columns: output.columns || 80, rows: output.rows || 24 });
  const screen = {
    get columns() {
      return size().columns;
    },
    get rows() {
      return size().rows;
    },
    write: (text: string) => output.write(text),
  };
  // The cursor is hidden here: the library would do it on the process's own stderr.
  const update = createLogUpdate(screen as unknown as NodeJS.WritableStream, { showCursor: true });

  let job: JobSnapshot | null = null;
  let connection: Connection | undefined;
  let drawn: string[] = [];
  let open = true;
  let cancel: (() => void) | undefined;

  const draw = () => {
    if (connection === undefined) return;
    if (drawn.length === 0) output.write(HIDE_CURSOR);
    drawn = frame({ job, title, connection, now: clock.now(), colors, ...size() });
    update(drawn.join("\n"));
  };
  const loop = () => {
    draw();
    cancel = clock.setTimeout(loop, FRAME_MS);
  };
  /** A terminal that became narrower has folded the lines: what is erased must count the new ones. */
  const resized = () => {
    const { columns } = size();
    const folded = drawn.reduce(
      (rows, line) => rows + Math.max(0, Math.ceil(widthOf(line) / columns) - 1),
      0,
    );
    output.write(ERASE_AND_UP.repeat(folded));
    draw();
  };
  const restore = () => {
    if (!open) return;
    open = false;
    cancel?.();
    output.off?.("resize", resized);
    if (drawn.length > 0) output.write(SHOW_CURSOR);
  };

  output.on?.("resize", resized);
  return {
    change(changed) {
      job = changed;
    },
    event() {},
    connection(changed) {
      connection = changed;
      if (open && cancel === undefined) loop();
    },
    done(last) {
      job = last;
      if (connection) connection = { ...connection, state: "ended", cause: null, stale: false };
      draw();
      restore();
    },
    failed() {
      draw();
      restore();
    },
    close() {
      if (open) output.write("\n"); // the terminal has written ^C where the cursor stands
      restore();
    },
  };
}
