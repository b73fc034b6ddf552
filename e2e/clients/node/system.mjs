// The system under test, and a way to cut connections to it: a proxy that passes bytes on until it is told to drop them.
import { randomUUID } from 'node:crypto';
import net from 'node:net';

export const front = process.env.LIVERANK_FRONT;
const { hostname, port } = new URL(front);

export class Cutter {
  #sockets = new Set();
  #server = net.createServer((near) => {
    const far = net.connect(Number(port), hostname);
    for (const [from, to] of [[near, far], [far, near]]) {
      this.#sockets.add(from);
      from.on('close', () => { this.#sockets.delete(from); to.destroy(); });
      from.on('error', () => {});
      from.pipe(to);
    }
  });
  async open() {
    await new Promise((resolve) => this.#server.listen(0, '127.0.0.1', resolve));
    this.url = `http://127.0.0.1:${this.#server.address().port}`;
    return this;
  }
  cut() { for (const socket of this.#sockets) socket.destroy(); }
  close() { this.#server.close(); this.cut(); }
}

/** Posts JSON; what a part that is away for a moment answers (503) is posted again. */
export function post(path, body, headers = { 'content-type': 'application/json' }) {
  return until(`an answer of ${path}`, async () => {
    const response = await fetch(front + path, { method: 'POST', headers, body: JSON.stringify(body) });
    return response.status !== 503 && response;
  });
}

let comments = 0;
/** Posts `count` comments, whose texts are numbered; answers the texts. */
export async function say(videoid, count) {
  const texts = [];
  for (let n = 0; n < count; n += 1) {
    comments += 1;
    const comment = `comment ${comments}\u2028\u0085`;
    const response = await post('/comment', { userid: 'poster', videoid, comment, idempotency_key: randomUUID() });
    if (response.status !== 201) throw new Error(`a comment was answered ${response.status}`);
    texts.push(comment);
  }
  return texts;
}

/** Waits until `check` answers something. */
export async function until(what, check, seconds = 20) {
  const deadline = Date.now() + seconds * 1000;
  for (;;) {
    const found = await check();
    if (found) return found;
    if (Date.now() > deadline) throw new Error(`not within ${seconds} s: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
