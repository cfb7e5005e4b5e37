import { WorkflowMonitorError } from "./errors.js";
import type { Clock, Logger } from "./host.js";
import type { Transport } from "./protocol.js";

/** Who asks for what, the same on every transport. Read its fields by name: some are looked up on demand. */
export interface AuthorizeRequest {
  /** Null: may this viewer list jobs at all? Each row is then asked about as `watch`. */
  jobId: string | null;
  action: "watch" | "list";
  transport: Transport;
  /** Names in lower case. A token that a WebSocket brought as a subprotocol is `authorization` here, as on HTTP. */
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

/** `authorize` with its failures told apart. */
export interface Gate {
  /** Synchronous when the hook is. Throws or rejects `unavailable` when it cannot tell. */
  admit: Authorize;
  /** The same for what the store is asked: who waits for it can be given up, too. */
  wait<T>(answer: Promise<T>): Promise<T>;
  /** Whoever still waits for an answer is rejected with this. */
  giveUp(error: WorkflowMonitorError): void;
}

export function createGate(authorize: Authorize, clock: Clock, logger: Logger): Gate {
  const waiting = new Set<(error: WorkflowMonitorError) => void>();

  const failed = (thrown: unknown, { jobId, transport }: AuthorizeRequest) => {
    logger.warn({ jobId, transport, err: thrown }, "authorize failed");
    return new WorkflowMonitorError("unavailable", "Access could not be checked: try again.");
  };

  return {
    admit(request) {
      let answer: boolean | Promise<boolean>;
      try {
        answer = authorize(request);
      } catch (thrown) {
        throw failed(thrown, request);
      }
      if (typeof answer === "boolean") return answer;
      return new Promise<boolean>((resolve, reject) => {
        const end = (error?: WorkflowMonitorError, allowed = false) => {
          cancel();
          waiting.delete(end);
          if (error) reject(error);
          else resolve(allowed);
        };
        const cancel = clock.setTimeout(
          () => end(failed(new Error(`no answer in ${ANSWER_MS} ms`), request)),
          ANSWER_MS,
        );
        waiting.add(end);
        // Only true is yes. A foreign promise is as good as ours.
        Promise.resolve(answer).then(
          (allowed) => end(undefined, allowed === true),
          (thrown: unknown) => end(failed(thrown, request)),
        );
      });
    },

    wait(answer) {
      return new Promise((resolve, reject) => {
        waiting.add(reject);
        answer.then(resolve, reject).finally(() => waiting.delete(reject));
      });
    },

    giveUp(error) {
      for (const end of [...waiting]) end(error);
    },
  };
}
