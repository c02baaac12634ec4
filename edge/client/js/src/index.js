export { Reprise } from "./reprise.js";
export { UpdateError } from "./outbox.js";
export { Clock, instant, isStamp, millisecondsOf, stamp, zero } from "./hlc.js";
export { LWWRegister, ORSet, UserState } from "./merge.js";
export { indexedDBStore, localStore, memoryStore } from "./store.js";
