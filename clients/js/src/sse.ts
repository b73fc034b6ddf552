import { LiverankError } from './error.js';

/** An event of a stream may not be longer than this many characters: the longest comment is 4,096. */
const LONGEST_EVENT = 1 << 20;

/**
 * One server-sent event. `id` is the id in force, which an event without one inherits. `data` is empty where the event has an
 * id alone: it only moves the place to resume from.
 */
export interface SseEvent {
  type: string;
  data: string;
  id: string;
}

/** Who is told what a stream holds. */
export interface SseHandlers {
  onEvent: (event: SseEvent) => void;
  /** The pause that the stream asks for before a new connection, in ms. */
  onRetry?: (ms: number) => void;
}

/**
 * A parser of `text/event-stream`. Feed it text as it comes, cut anywhere. It throws when a single event grows beyond any
 * sense.
 */
export function createSseParser({ onEvent, onRetry = () => {} }: SseHandlers): { feed: (chunk: string) => void } {
  let rest = '';
  let afterCr = false;
  let started = false;
  let id = '';
  let type = '';
  let data: string[] = [];
  let moved = false;
  let size = 0;

  const field = (name: string, value: string): void => {
    if (name === 'data') data.push(value);
    else if (name === 'event') type = value;
    else if (name === 'id' && !value.includes('\0')) {
      id = value;
      moved = true;
    } else if (name === 'retry' && /^\d+$/.test(value)) onRetry(Number(value));
  };
  const line = (text: string): void => {
    if (text === '') {
      if (data.length > 0 || moved) onEvent({ type: type || 'message', data: data.join('\n'), id });
      type = '';
      data = [];
      moved = false;
      size = 0;
      return;
    }
    size += text.length;
    if (size > LONGEST_EVENT) throw new LiverankError('an event of the stream is too long');
    const colon = text.indexOf(':');
    if (colon < 0) field(text, '');
    else if (colon > 0) field(text.slice(0, colon), text.slice(colon + (text[colon + 1] === ' ' ? 2 : 1)));
  };

  return {
    feed(chunk: string): void {
      if (chunk === '') return;
      let text = chunk;
      if (!started && text[0] === '\ufeff') text = text.slice(1);
      started = true;
      // The newline of a CRLF that was cut in two belongs to the line that is already done.
      if (afterCr && text[0] === '\n') text = text.slice(1);
      afterCr = chunk.endsWith('\r');
      const lines = (rest + text).split(/\r\n|\r|\n/);
      rest = lines.pop() ?? '';
      if (rest.length > LONGEST_EVENT) throw new LiverankError('a line of the stream is too long');
      lines.forEach(line);
    },
  };
}
