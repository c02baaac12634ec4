export { Reprise } from "./reprise.js";
export { UpdateError } from "./outbox.js";
export { Clock, isStamp, millisecondsOf, stamp, zero } from "./hlc.js";
export { instant, LWWRegister, ORSet, UserState } from "./merge.js";
export { indexedDBStore, localStore, memoryStore } from "./store.js";
