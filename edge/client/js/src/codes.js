// The close codes of an edge that mean something to a device. Those from 4500 to
// 4999 say: do not come back unchanged.

/** A frame was larger than the edge takes. */
export const tooBig = 1009;

/** More frames came than the edge takes. */
export const tooManyMessages = 4029;

/** A renewal's token is not valid. */
export const badToken = 4501;
