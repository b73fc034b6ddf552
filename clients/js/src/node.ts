/**
 * The entry for Node: the same client, with a WebSocket, which Node 20 does not have, and the token in a header
 * instead of the URL.
 */

import { WebSocket as Socket } from 'ws';
import { Liverank as Portable, type LiverankOptions, type WebSocketConstructor } from './client.js';

export * from './index.js';

class HeaderSocket extends Socket {
  constructor(address: string) {
    const url = new URL(address);
    const token = url.searchParams.get('access_token');
    url.searchParams.delete('access_token');
    super(url, token ? { headers: { authorization: `Bearer ${token}` } } : {});
  }
}

/** A client of one liverank system. */
export class Liverank extends Portable {
  constructor(options: LiverankOptions = {}) {
    super({ WebSocket: HeaderSocket as unknown as WebSocketConstructor, ...options });
  }
}
