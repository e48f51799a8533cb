// What webhooks are, as onceguard answers with them and as it is asked.

/** How deliveries are signed: `v1` is HMAC-SHA256, `v1a` is Ed25519. */
export type WebhookSignature = "v1" | "v1a";
export type WebhookState = "active" | "paused" | "disabled";
export type WebhookDeliveryState = "pending" | "delivered" | "dead";

/** A webhook to make. */
export interface NewWebhook {
  /** `https://`, without user and password. */
  readonly url: string;
  /** The types of events that it hears; `*` stands for all. */
  readonly types: readonly string[];
  /** `v1`, if left out. */
  readonly signature?: WebhookSignature;
}

/** What to change in a webhook; at least one. */
export interface WebhookChange {
  readonly url?: string;
  readonly types?: readonly string[];
  /** `true`: events wait. `false`: they are sent, also if it was disabled. */
  readonly paused?: boolean;
}

/** An endpoint that events are sent to. */
export interface Webhook {
  readonly id: string;
  /** The configuration's; `null` if a caller made it. */
  readonly name: string | null;
  readonly url: string;
  readonly types: readonly string[];
  readonly signature: WebhookSignature;
  /** `active`: events are sent. `paused` and `disabled`: they wait. */
  readonly state: WebhookState;
  /** Why it is not active, where no caller paused it. */
  readonly reason: string | null;
  readonly createdAt: string;
}

/** A webhook that was made. */
export interface CreatedWebhook extends Webhook {
  /**
   * What its receiver verifies with: the secret (`whsec_…`), or with `v1a` the public key (`whpk_…`).
   * It comes only here. Read it by its name: what prints, copies or serializes the webhook leaves it
   * out.
   */
  readonly secret: string;
}

/** Which deliveries to list. */
export interface WebhookDeliveryFilter {
  readonly state?: WebhookDeliveryState;
  readonly pageSize?: number;
}

/** What became of an event at a webhook. */
export interface WebhookDelivery {
  /** The id of the event, and the `webhook-id` that it is sent with. */
  readonly event: string;
  /** The event's place in the log. */
  readonly sequence: number;
  /** `pending`: it is sent, or sent again. `dead`: it was given up. */
  readonly state: WebhookDeliveryState;
  readonly attempts: number;
  readonly nextAttemptAt: string | null;
  readonly createdAt: string;
  readonly lastAttemptAt: string | null;
  /** Of the last answer. */
  readonly lastStatus: number | null;
  /** Why the last attempt failed. */
  readonly lastError: string | null;
}

/** Which events to send again: one, or all of this time or later that the webhook hears. */
export type WebhookReplay =
  | { readonly event: string; readonly since?: never }
  | { readonly since: string; readonly event?: never };
