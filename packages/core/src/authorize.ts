import { WorkflowMonitorError } from "./errors.js";
import type { Clock, Logger } from "./host.js";
import type { Transport } from "./protocol.js";

/** Who asks for what, the same on every transport. */
export interface AuthorizeRequest {
  /** Null: may this viewer list jobs at all? Each row is then asked about as `watch`. */
  jobId: string | null;
  action: "watch" | "list";
  transport: Transport;
  headers: Readonly<Record<string, string | string[] | undefined>>;
  query: Readonly<Record<string, unknown>>;
  remoteAddress: string | undefined;
}

/**
 * The one hook that every transport asks: at a join, and at each HTTP request. False looks like an
 * unknown job; a throw, or no answer in 5 s, is a refusal that the viewer may retry.
 */
export type Authorize = (request: AuthorizeRequest) => boolean | Promise<boolean>;

/** Lets everybody watch everything. For trying out, and for hosts that guard the routes themselves. */
export const allowAll: Authorize = () => true;

const ANSWER_MS = 5_000;

/** `authorize` with its failures told apart; synchronous when the hook is. */
export function createGate(authorize: Authorize, clock: Clock, logger: Logger): Authorize {
  const failed = (thrown: unknown, { jobId, transport }: AuthorizeRequest) => {
    logger.warn({ jobId, transport, err: thrown }, "authorize failed");
    return new WorkflowMonitorError("unavailable", "Access could not be checked: try again.");
  };

  return (request) => {
    let answer: boolean | Promise<boolean>;
    try {
      answer = authorize(request);
    } catch (thrown) {
      throw failed(thrown, request);
    }
    if (typeof answer === "boolean") return answer;
    return new Promise<boolean>((resolve, reject) => {
      const cancel = clock.setTimeout(
        () => reject(failed(new Error(`no answer in ${ANSWER_MS} ms`), request)),
        ANSWER_MS,
      );
      Promise.resolve(answer)
        .then(
          (allowed) => resolve(allowed === true),
          (thrown) => reject(failed(thrown, request)),
        )
        .finally(cancel);
    });
  };
}
