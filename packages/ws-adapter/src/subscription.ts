import type { Codec, EndReason, Member, Mode } from "@org/workflow-monitor";
import { textMessage } from "./codec.js";

/** What a subscription needs of its connection. */
export interface Carrier {
  readonly writable: boolean;
  deliver(parts: readonly Uint8Array[]): void;
  /** A subscription is over. */
  ended(subscription: Subscription, reason: EndReason): void;
}

/** One job on a connection: a member of its room. */
export class Subscription implements Member {
  readonly mode: Mode;
  readonly #carrier: Carrier;

  constructor(carrier: Carrier, mode: Mode) {
    this.#carrier = carrier;
    this.mode = mode;
  }

  get codec(): Codec {
    return textMessage;
  }

  get writable(): boolean {
    return this.#carrier.writable;
  }

  write(parts: readonly Uint8Array[]): void {
    this.#carrier.deliver(parts);
  }

  end(reason: EndReason): void {
    this.#carrier.ended(this, reason);
  }
}
