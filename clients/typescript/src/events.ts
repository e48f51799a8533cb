// What events are, as onceguard answers with them and as it is asked.

import type { Metadata } from "./types.js";

/** An event to publish. */
export interface NewEvent {
  /**
   * What happened, such as `com.example.order.paid`: letters, digits, dots, hyphens and underscores.
   * What begins with `onceguard.` is the service's own.
   */
  readonly type: string;
  /** What it is about. */
  readonly subject: string;
  /** Anything; at most 16 KiB. */
  readonly data?: Metadata;
}

/** An event of the log. */
export interface Event {
  readonly id: string;
  /** Its place in the log. Later events have higher ones; some are left out. */
  readonly sequence: number;
  readonly type: string;
  /** `onceguard`, or the token that published it. */
  readonly source: string;
  /** Null once the event is emptied. */
  readonly subject: string | null;
  /** Null once the event is emptied. */
  readonly actor: string | null;
  /** `success`, or the code of a refusal. */
  readonly outcome: string;
  /** Of the call that it comes from. */
  readonly requestId: string | null;
  readonly at: string;
  readonly data: Metadata;
}

/** Which events to list or follow: those that have exactly this. */
export interface EventFilter {
  readonly type?: string;
  readonly subject?: string;
  readonly actor?: string;
  readonly outcome?: string;
  /** Not before this time. */
  readonly from?: string;
  /** Before this time. */
  readonly to?: string;
  readonly pageSize?: number;
}

/** A page of the log; without items, there is nothing new yet. */
export interface EventFeed {
  readonly items: readonly Event[];
  /** Where to go on. */
  readonly nextCursor: string;
}
