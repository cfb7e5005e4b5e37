/** What `--help` prints, and what follows a usage error. */
export const usage = `workflow-monitor: watches jobs from a terminal

Usage
  workflow-monitor watch <url> <jobId> [options]
  workflow-monitor watch http://host/jobs/<jobId> [options]
  workflow-monitor list <url> [options]

<url> is where the server is: http://localhost:3000

Options of watch
  --json               one JSON object a line on stdout, for programs
  --transport <name>   ws, sse or poll; default: the best that gets through
  --after <cursor>     begin with the events after this place in the job's log

Options of list
  --status <status>    pending, running, waiting, completed, failed, cancelled or skipped
  --label <key:value>  jobs with this label
  --limit <n>          how many jobs at most, newest first; default 50
  --json               one job a line, as JSON

Options of both
  --token <token>      sent as a bearer token. Better: WORKFLOW_MONITOR_TOKEN in the environment,
                       for what stands on a command line everybody on the machine can read (ps)
  --jobs-path <path>   where the server answers polls; default /jobs
  --ws-path <path>     where it answers WebSockets; default /ws
  --no-color           no colours; NO_COLOR in the environment does the same
  --help, --version

Exit code of watch
  0 completed   1 failed   2 cancelled or skipped   3 could not watch   64 wrong usage   130 Ctrl-C
`;
