import type { Liverank } from '@liverank/client';
import { createContext, createElement, useContext, type ReactElement, type ReactNode } from 'react';

const Context = createContext<Liverank | null>(null);

/** Props of {@link LiverankProvider}. */
export interface LiverankProviderProps {
  /** The client, made once outside of the component: another client opens other connections. */
  client: Liverank;
  children?: ReactNode;
}

/** Provides a client to the hooks of the components below it. */
export function LiverankProvider({ client, children }: LiverankProviderProps): ReactElement {
  return createElement(Context.Provider, { value: client }, children);
}

/** Returns the client of the nearest {@link LiverankProvider}; throws if there is none. */
export function useLiverank(): Liverank {
  const client = useContext(Context);
  if (!client) throw new Error('useLiverank: there is no LiverankProvider above');
  return client;
}
