export type { AdapterContractOptions, AdapterFixture, AdapterViewer } from "./adapter-contract.js";
export { adapterContract } from "./adapter-contract.js";
export type { Test } from "./contract.js";
export type { EngineContractOptions, EngineFixture } from "./engine-contract.js";
export { engineContract } from "./engine-contract.js";
export type { History, HistorySummary, ObservedFrame, ObservedPoll } from "./history.js";
export { createHistory } from "./history.js";
export type { StoreContractOptions } from "./store-contract.js";
export { storeContract } from "./store-contract.js";
