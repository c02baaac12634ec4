/** A stamp: 16 lower-case hex digits, 48 bits of Unix milliseconds and a counter of 16 bits. It sorts as text. */
export type Stamp = string;

/** What every event of the user's log has. */
interface Stored {
  /** The relay's stamp: the event's place in the user's log, and the cursor behind it. */
  hlc: Stamp;
  /** The device that made it, where that is known. */
  device_id?: string;
  /** When it was made, as its publisher wrote it; see {@link instant}. */
  timestamp?: string;
}

export interface WatchlistEvent extends Stored {
  type: "watchlist_update";
  content_id: string;
  action: "add" | "remove";
  unique_tag: string;
}

export interface ProgressEvent extends Stored {
  type: "progress_update";
  content_id: string;
  /** Seconds. */
  position: number;
  /** Seconds. */
  duration?: number;
}

export interface CommandEvent extends Stored {
  type: "device_command";
  command: string;
  /** Every device of the user gets a command, and looks here whether it is meant. */
  target_device: string;
  payload?: Record<string, unknown>;
  /** Unix milliseconds. */
  expires_at?: number;
}

export interface NotificationEvent extends Stored {
  type: "notification";
  data: Record<string, unknown>;
}

export type UserEvent = WatchlistEvent | ProgressEvent | CommandEvent | NotificationEvent;

/** To every connection, live only, of no user's log. */
export interface Announcement {
  type: "announcement";
  data: Record<string, unknown>;
}

/** The folded state up to `hlc`, with the option `snapshot`. It replaces what the app knew. */
export interface Snapshot {
  type: "snapshot";
  hlc: Stamp;
  watchlist: { content_id: string; unique_tags: string[] }[];
  progress: { content_id: string; position: number; duration?: number; device_id?: string; timestamp?: string }[];
}

/** Where a connection goes on. */
export interface Resume {
  since: Stamp;
  /** Whether the edge proves that nothing is missing. */
  complete: boolean;
  /** Why not. */
  reason?: "trimmed" | "future_cursor" | "store_reset" | "upstream_gap";
}

export interface Welcome {
  type: "welcome";
  connection_id: string;
  user_id: string;
  device_id: string;
  node: string;
  /** Unix milliseconds. */
  server_time: number;
  ping_interval_ms: number;
  idle_timeout_ms: number;
  resume: Resume;
}

/**
 * The end of a replay: all that this device missed has been delivered. One that was
 * cut and begun anew is one replay: what any of its welcomes said to be missing is
 * missing, for the reason that the first of those gave.
 */
export interface Resumed extends Resume {
  /** The device has seen everything up to here. */
  hlc: Stamp;
  /** How many events were missed, over all the connections that it took. */
  replayed: number;
}

/** How a connection ended. */
export interface End {
  /** Whether the edge had let it in. */
  opened: boolean;
  /** The close code, 1006 where the link was lost without one. */
  code: number;
  /** The edge's words, or what is known of the loss. */
  reason: string;
  /** What the edge answers to a connection that it does not let in, where that could be learned. */
  refusal?: { status: number; code?: string; message?: string; retryAfterMs?: number };
  /** What was thrown, where something was. */
  error?: unknown;
}

/**
 * - `idle`: not told to connect yet
 * - `connecting`
 * - `replaying`: what was missed comes in
 * - `live`
 * - `waiting`: for the next attempt
 * - `closed`: for good
 */
export type State = "idle" | "connecting" | "replaying" | "live" | "waiting" | "closed";

/** What {@link Reprise.on} may be told of. */
export interface RepriseEvents {
  watchlist_update: WatchlistEvent;
  progress_update: ProgressEvent;
  device_command: CommandEvent;
  notification: NotificationEvent;
  /** Any event of the log, after the listeners of its own type. */
  event: UserEvent;
  announcement: Announcement;
  snapshot: Snapshot;
  welcome: Welcome;
  /**
   * Everything that was missed has been delivered. Where `complete` is false
   * something is missing for good, and the app should fetch its state anew.
   */
  resumed: Resumed;
  /** A quiet connection's cursor moved on. */
  position: { type: "position"; hlc: Stamp };
  /** Any frame as it came in, before it is dealt with; also what is dropped. */
  frame: { type: string; [member: string]: unknown };
  state: State;
  /** A connection ended or could not be made; the next attempt is in `retryInMs`. */
  disconnected: End & { retryInMs: number };
  /** There will be no further attempt: {@link Reprise.close} was called, or the edge will not have this device. */
  closed: Partial<End>;
  /** An update has been queued: what the app should show at once, before anybody else knows. */
  update: Update & { device_id?: string };
  /** An update is stored. */
  accepted: { id: string };
  /** An update was refused for good. */
  rejected: UpdateError;
  /** A listener threw, the store does not keep, the edge complains. Without a listener it is reported as uncaught. */
  error: unknown;
}

/** Where a device keeps its cursor and its queue. Each function may return a promise. */
export interface Store {
  get(key: string): string | null | undefined | Promise<string | null | undefined>;
  set(key: string, text: string): void | Promise<unknown>;
}

/** Times are milliseconds. */
export interface Options {
  /** The edge: ws, wss, http or https; a URL without a path gets `/ws`. In a browser it may be relative; left out it is `/ws` on the page's host. */
  url?: string | URL;
  /**
   * The JWT, or what makes a fresh one: it is called before each connection, and before
   * a token runs out. One that throws, makes no token or takes longer than `dialTimeout`
   * is a failed attempt. One whose token the edge does not take is asked again after
   * about `maxBackoff`; a string that it does not take ends the client. White space
   * around a token is left out.
   */
  token?: string | (() => string | Promise<string>);
  /**
   * The user: for edges without authentication, and beside a token function, so that the
   * store can be opened before there is a token. Without it what is sent waits in memory
   * until the first token has named the user: a page that dies before that loses it.
   */
  userId?: string;
  /** The lower-case UUID of this device: it must stay the same, and no two pages may use one at a time. */
  deviceId?: string;
  /** Where a device begins that has no cursor: a cursor, `earliest`, `latest`; left out: what the edge remembers of it, else the latest. */
  since?: Stamp | "earliest" | "latest";
  /** Also hear what this device sends itself; `snapshot` implies it. */
  echo?: boolean;
  /** Of the positions that were missed only the newest per content. */
  coalesce?: boolean;
  /**
   * Get the folded state where a replay cannot be complete. It is some seconds behind the
   * log, and what this device did since follows as events: it implies `echo`.
   */
  snapshot?: boolean;
  /** Where the cursor and the queue live; left out: in memory. */
  store?: Store;
  /** false: wait for {@link Reprise.connect}. Otherwise the first connection is begun when the current task ends. */
  connect?: boolean;
  /** How many updates may wait; 1000. */
  queueLimit?: number;
  /** Updates a second, 15, and at once after a pause, 100: below what an edge allows. */
  sendRate?: number;
  sendBurst?: number;
  /** The wait before a new connection lies between these, and that before an update is sent again that the edge refused for the moment; 500 and 20000. */
  minBackoff?: number;
  maxBackoff?: number;
  /** How long an attempt may take, and before it the token function; 15000. */
  dialTimeout?: number;
  /** How long a link may be silent before it is asked for a sign of life, 25000, and how long that may take, 10000. */
  pingInterval?: number;
  pingTimeout?: number;
  /** How often the edge is told the cursor, so that it can help a device that lost it; 30000. */
  ackInterval?: number;
  /** How often at most the cursor is kept; 250. */
  saveInterval?: number;
  /** The class to use where there is no global one, such as that of the package `ws`. */
  WebSocket?: new (url: string, protocols?: string[]) => unknown;
  /** Asks an edge why it refused, which a WebSocket does not tell. */
  fetch?: typeof globalThis.fetch;
}

/** An update without what the client fills in: `id`, of 1 to 128 characters, which edges want to be a UUID, and `timestamp`. */
export type Update = { id?: string; timestamp?: string } & (
  | { type: "watchlist_update"; operation: "add" | "remove"; content_id: string; unique_tag: string }
  | { type: "progress_update"; content_id: string; position_seconds: number; duration_seconds?: number }
  | { type: "device_command"; target_device_id: string; command_type: string; payload?: Record<string, unknown>; expires_at?: number }
  | { type: "device_handoff"; target_device_id: string; content_id: string; position_seconds?: number }
);

/**
 * What became of an update: it is stored, or it was not sent because a newer position of
 * the same content waited, by the order of {@link LWWRegister}: one that came later and
 * took its place, or one that was there already.
 */
export interface Accepted {
  id: string;
  supersededBy?: string;
}

/** An update that was not taken. */
export class UpdateError extends Error {
  /** The edge's code (`bad_field`, `read_only`, `expired`, …), `too_large` where it closes the connection for the update, or `queue_full`, `bad_id`, `not_json`, `closed`. */
  code: string;
  update: Update;
}

/**
 * A device: it stays connected to an edge and delivers its user's events in
 * order, each once, over any number of connections.
 *
 * An event that is not newer than the cursor is dropped. The cursor is kept in
 * the store when the listeners of an event have ended, also those that return a
 * promise: a page that dies in between gets the event again. In a replay that is
 * incomplete it is not kept before the listeners of `resumed` have ended: a page that
 * dies in between is told again that something is missing.
 */
export class Reprise {
  /** Throws a TypeError that names everything that is wrong with the options. */
  constructor(options: Options);

  readonly state: State;
  /** Everything up to here has been delivered. */
  readonly cursor: Stamp;
  /** The user whose device this is; undefined before the first attempt to connect, and before the first token where the option is missing. */
  readonly userId: string | undefined;
  /** The updates that are not stored yet, oldest first. */
  readonly pending: Update[];

  /** Calls the listener for each event of a type; the answer ends that. */
  on<T extends keyof RepriseEvents>(type: T, listener: (detail: RepriseEvents[T]) => unknown): () => void;
  once<T extends keyof RepriseEvents>(type: T, listener: (detail: RepriseEvents[T]) => unknown): () => void;
  off<T extends keyof RepriseEvents>(type: T, listener: (detail: RepriseEvents[T]) => unknown): void;

  /** Begins, where the option `connect` is false. After {@link Reprise.close} it does nothing. */
  connect(): void;
  /** Ends for good, in good order, when cursor and queue are kept. Updates that wait are sent by the next client with the same store. */
  close(): Promise<void>;
  /** Gives the current connection up, as a lost network would; for tests. */
  cut(): void;
  /** Ends when cursor and queue are kept. */
  flush(): Promise<void>;

  /**
   * Has every update from now on be newer than the positions of a state, for one that was
   * kept: what {@link UserState.from} gave. Other devices' positions that are more than a
   * minute ahead of the clock, and its own that are more than a day, are left out.
   */
  follow(state: UserState): void;

  /**
   * Sends an update, now or when there is a connection, again and again until
   * the edge has it on disk. It rejects with an {@link UpdateError}; who does not
   * look at the promise hears of it by `rejected`.
   */
  send(update: Update): Promise<Accepted>;
  /** A playback position, in seconds. */
  progress(contentId: string, positionSeconds: number, durationSeconds?: number): Promise<Accepted>;
  /** Adds to the watchlist, under a tag of its own. */
  add(contentId: string, uniqueTag?: string): Promise<Accepted>;
  /** Takes back one addition; {@link ORSet.tags} knows which there are. */
  remove(contentId: string, uniqueTag: string): Promise<Accepted>;
  /** expires_at is Unix milliseconds: who has not got the command by then does not get it. */
  command(targetDeviceId: string, commandType: string, payload?: Record<string, unknown>, options?: { expires_at?: number }): Promise<Accepted>;
  handoff(targetDeviceId: string, contentId: string, positionSeconds?: number): Promise<Accepted>;
}

/** Keeps everything for as long as the page or the process lives. */
export function memoryStore(): Store;
/** Keeps everything in localStorage, or in another Storage. */
export function localStore(storage?: Pick<Storage, "getItem" | "setItem" | "removeItem">): Store;
/** Keeps everything in an IndexedDB database of this name, `reprise`. */
export function indexedDBStore(name?: string, factory?: IDBFactory): Store;

/** Before everything. */
export const zero: Stamp;
export function isStamp(text: unknown): text is Stamp;
export function stamp(milliseconds: number, counter?: number): Stamp;
/** The Unix time of a stamp in milliseconds. */
export function millisecondsOf(stamp: Stamp): number;

/** A hybrid logical clock (Kulkarni et al. 2014). */
export class Clock {
  /** now is the wall clock; maxDrift is how far ahead of it, and of what was taken up, a foreign stamp may be, 60000. */
  constructor(options?: { now?: () => number; maxDrift?: number });
  /** A stamp above all that this clock gave or was told of. */
  tick(): Stamp;
  /** Takes note of a foreign timestamp, in any form that {@link instant} reads; false: it is none, or too far ahead, and ignored. */
  update(foreign: string | number | undefined): boolean;
  /** Takes up a timestamp that this device made before, or its relay, also where the wall clock was put back since; false: it is none, or more than a day ahead. */
  resume(own: string | number | undefined): boolean;
}

/** An event's timestamp as a number that can be compared: milliseconds times 65536. What cannot be read is 0. */
export function instant(timestamp: string | number | undefined): bigint;

/** Of all values offered it holds that with the newest timestamp; a tie goes by device id, then by the value. */
export class LWWRegister<V> {
  value: V | undefined;
  timestamp: string | undefined;
  deviceId: string | undefined;
  /** Tells whether the value won. */
  set(value: V, timestamp: string | number | undefined, deviceId?: string): boolean;
  merge(other: LWWRegister<V>): boolean;
}

/** An observed-remove set: an addition carries a tag of its own, a removal names the tag that it saw. */
export class ORSet {
  readonly size: number;
  /** Tells whether the set changed. */
  add(element: string, tag: string): boolean;
  /** Tells whether the set changed. */
  remove(element: string, tag: string): boolean;
  has(element: string): boolean;
  /** What a removal has to name. */
  tags(element: string): string[];
  /** Sorted. */
  values(): string[];
  [Symbol.iterator](): Iterator<string>;
  merge(other: ORSet): void;
  toJSON(): unknown;
  static from(json: any): ORSet;
}

/** A user's watchlist and positions. Order and repetition of what is applied do not matter. */
export class UserState {
  /** Content ids. */
  watchlist: ORSet;
  /** By content id, in seconds. */
  positions: Map<string, LWWRegister<{ position: number; duration?: number }>>;
  /** Applies an event or an update; false: it is of a type that is no state. */
  apply(event: UserEvent | Snapshot | Update): boolean;
  /** Forgets everything and takes a snapshot; apply {@link Reprise.pending} afterwards. */
  reset(snapshot: Pick<Snapshot, "progress"> & Partial<Pick<Snapshot, "watchlist">>): void;
  merge(other: UserState): void;
  toJSON(): unknown;
  static from(json: any): UserState;
}
