import { createContext, createElement, type ReactElement, type ReactNode, useContext } from "react";
import type { MonitorClient } from "../types.js";

const Client = createContext<MonitorClient | null>(null);

export interface MonitorProviderProps {
  /** Made once, outside of components. Whoever made it closes it. */
  client: MonitorClient;
  children?: ReactNode;
}

/** Gives the hooks below it their client. */
export function MonitorProvider({ client, children }: MonitorProviderProps): ReactElement {
  return createElement(Client.Provider, { value: client }, children);
}

export function useClient(): MonitorClient {
  const client = useContext(Client);
  if (client) return client;
  throw new Error(
    "There is no <MonitorProvider client={…}> above this component: wrap your app in one.",
  );
}
