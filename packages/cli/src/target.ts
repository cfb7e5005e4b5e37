/** The command line makes no sense; the message is a sentence. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}

/** Which server, and how to talk to it. */
export interface Target {
  /** An http origin: `http://localhost:3000`. */
  origin: string;
  paths: { jobs: string; ws: string };
  token?: string;
  noColor: boolean;
}

interface Given {
  url: string;
  jobsPath: string | undefined;
  wsPath: string | undefined;
  token: string | undefined;
  noColor: boolean;
  /** The url names the job, too: its last segment. */
  jobInUrl: boolean;
}

/**
 * The server that a url names. A path in it (a proxy's prefix) stands before the default paths; of a
 * job's url, all but the last segment is the path of the jobs. Throws a `UsageError`.
 */
export function parseTarget(given: Given): Target & { jobId?: string } {
  const url = parseUrl(given.url);
  const { token, noColor } = given;
  const base = { origin: url.origin, noColor, ...(token && { token }) };
  const path = url.pathname.replace(/\/+$/, "");
  if (!given.jobInUrl) {
    const paths = {
      jobs: given.jobsPath === undefined ? `${path}/jobs` : rooted(given.jobsPath),
      ws: given.wsPath === undefined ? `${path}/ws` : rooted(given.wsPath),
    };
    return { ...base, paths };
  }
  const at = path.lastIndexOf("/");
  const jobs = given.jobsPath === undefined ? path.slice(0, at) : rooted(given.jobsPath);
  if (jobs === "" || path.slice(0, at) !== jobs) {
    throw new UsageError(
      `A job's id is missing: watch <url> <jobId>, or ${url.origin}/jobs/<jobId>.`,
    );
  }
  const ws = given.wsPath === undefined ? jobs.replace(/\/[^/]*$/, "/ws") : rooted(given.wsPath);
  return { ...base, paths: { jobs, ws }, jobId: decoded(path.slice(at + 1)) };
}

const rooted = (path: string) => `/${path.replace(/^\/+|\/+$/g, "")}`;

function parseUrl(text: string): URL {
  let url: URL | undefined;
  try {
    url = new URL(text);
  } catch {
    // Told below.
  }
  // `localhost:3000` parses, with the scheme `localhost:`.
  if (url?.protocol !== "http:" && url?.protocol !== "https:") {
    throw new UsageError(`${text} is not the url of a server, like http://localhost:3000.`);
  }
  if (url.username || url.password) {
    throw new UsageError("A url with a password is not taken: set WORKFLOW_MONITOR_TOKEN.");
  }
  return url;
}

function decoded(segment: string): string {
  try {
    return decodeURIComponent(segment);
  } catch {
    throw new UsageError(`${segment} is not a job's id: its percent-encoding is broken.`);
  }
}
