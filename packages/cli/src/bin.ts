#!/usr/bin/env node
import { ExitCode } from "./exit-codes.js";
import { main } from "./main.js";

const stop = new AbortController();
const signals = {
  SIGINT: ExitCode.interrupted,
  SIGTERM: ExitCode.terminated,
  SIGHUP: ExitCode.hangup,
} as const;
for (const [signal, code] of Object.entries(signals)) process.once(signal, () => stop.abort(code));
// Nobody reads any more (`| head`): that is no error of ours.
for (const output of [process.stdout, process.stderr]) {
  output.on("error", () => stop.abort(ExitCode.brokenPipe));
}

/** Ends when what was written has left; open sockets do not hold it up. */
const exit = (code: number) => process.stdout.write("", () => process.exit(code));

main(process.argv.slice(2), {
  stdout: process.stdout,
  stderr: process.stderr,
  env: process.env,
  clock: {
    now: Date.now,
    setTimeout(fn, ms) {
      const timer = setTimeout(fn, ms);
      return () => clearTimeout(timer);
    },
  },
  signal: stop.signal,
}).then(exit, (error: unknown) => {
  process.stderr.write(`${error instanceof Error ? error.stack : String(error)}\n`);
  exit(ExitCode.notWatched);
});
