export type { WebSocketAdapter, WebSocketOptions } from "./attach.js";
export { attachWebSocket } from "./attach.js";
