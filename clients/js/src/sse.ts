import { LiverankError } from './error.js';

/** The greatest length of an event of a stream, in characters: far above the longest comment, which has 4,096. */
const LONGEST_EVENT = 1 << 20;

/**
 * One server-sent event. `id` is the id in force, which an event without an id inherits. `data` is empty if the event
 * has only an id: such an event only moves the position to resume from.
 */
export interface SseEvent {
  type: string;
  data: string;
  id: string;
}

/** The handlers of a parser. */
export interface SseHandlers {
  onEvent: (event: SseEvent) => void;
  /** The pause that the stream asks for before a new connection, in ms. */
  onRetry?: (ms: number) => void;
}

/**
 * Creates a parser of `text/event-stream`. `feed` takes text as it comes, cut anywhere; it throws if an event or a
 * line is longer than 2^20 characters.
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
