/** The open video's comments: history first, then live, newest on top; a box to post; nothing twice, nothing lost. */

import { Replies } from './console-reply.js';
import { newId } from './liverank.js';

/** How many live comments stay in the page; older ones that were asked for stay besides. */
const KEPT = 500;
const PAGE = 50;
/** Comments in the page at most, with all the older ones that were asked for: about 20 MB of a browser's memory. */
const MOST = 10_000;
/** A gap of more pages than this stays a gap: it says so. */
const GAP_PAGES = 10;
/** History is shown even when the stream cannot be had, after this long, in ms. */
const HISTORY_ANYWAY_MS = 1_500;
/** A history that could not be read is asked for again after this long, in ms. */
const HISTORY_AGAIN_MS = 5_000;
/** Ids of removed comments that are remembered: a page of history is read within seconds, and does not bring one of these back. */
const REMOVED_KEPT = 1_000;
/** Screen readers hear of new comments at most this often, in ms. */
const ANNOUNCE_MS = 4_000;
/** A comment waits this long for a server that is away, in ms; then its writer decides. */
const POST_FOR_MS = 10 * 60_000;

const clock = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit', second: '2-digit' });
const day = new Intl.DateTimeFormat('en-GB', { day: 'numeric', month: 'short', hour: '2-digit', minute: '2-digit' });
const part = (id) => document.getElementById(id);

export class CommentsView {
  #liverank;
  #user;
  #mayDelete;
  #moderate;
  #pins;
  #onState;
  #replies = new Replies((id) => this.#shown.get(id)?.comment);
  #video = null;
  #stream = null;
  #resumeAt = '';
  /** By id: `{comment, element}`. Pending ones are not in it. */
  #shown = new Map();
  /** Posted here, answered, not yet seen in the stream: id to element. */
  #awaited = new Map();
  #removed = new Set();
  #older = null;
  /** The greatest number of a comment here. */
  #newest = 0;
  /** '' before, 'early' when it was read before the viewer had its place, 'live' when after. */
  #historyLoaded = '';
  #kept = KEPT;
  #unannounced = [];
  #announcing = null;
  #list = part('comment-list');
  #note = part('comment-note');

  /**
   * `user()` is the name in force; `mayDelete(comment)` says whose comments have a button for it; `moderate(comment)`
   * returns what bans its author, or null; `pins` shows the pinned one; `onState` gets the stream's
   * states, null when there is no stream.
   */
  constructor(liverank, { user, mayDelete, moderate, pins, onState }) {
    this.#liverank = liverank;
    this.#user = user;
    this.#mayDelete = mayDelete;
    this.#moderate = moderate;
    this.#pins = pins;
    this.#onState = onState;
    part('composer').addEventListener('submit', (event) => {
      event.preventDefault();
      this.#submit(part('comment-text'));
    });
    part('older').addEventListener('click', () => this.#loadOlder());
  }

  /** Leaves the video before and shows this one. */
  open(videoId) {
    this.suspend();
    this.#video = videoId;
    this.#resumeAt = '';
    this.#shown.clear();
    this.#awaited.clear();
    this.#removed.clear();
    this.#pins.open(videoId);
    this.#replies.open();
    this.#unannounced = [];
    this.#older = null;
    this.#newest = 0;
    this.#historyLoaded = '';
    this.#kept = KEPT;
    this.#list.replaceChildren();
    this.#say('');
    part('older').hidden = true;
    part('comments-empty').textContent = 'Loading…';
    this.#count();
    this.resume();
    setTimeout(() => this.#video === videoId && !this.#historyLoaded && this.#loadHistory(), HISTORY_ANYWAY_MS);
  }

  /** Gives the connection back while nobody looks; `resume` goes on where it stopped. */
  suspend() {
    if (!this.#stream) return;
    this.#resumeAt = this.#stream.lastEventId;
    this.#stream.close();
    this.#stream = null;
    this.#onState(null);
  }

  resume() {
    if (this.#stream || this.#video === null) return;
    const stream = this.#liverank.comments(this.#video, {
      userid: this.#user(),
      lastEventId: this.#resumeAt,
      // The viewer's place is fixed now: history that is read from here on leaves no hole before the first live comment.
      onConnected: () => (this.#historyLoaded === 'live' ? undefined : this.#loadHistory('live')),
      onComment: (comment) => this.#live(comment),
      onDeleted: ({ id }) => this.#remove(id),
      onPinned: (pinned) => this.#pins.take(pinned, this.#shown.get(pinned.id)?.comment),
      onGap: ({ from, to }) => this.#fill(this.#video, from, to),
      onState: (state) => (stream === this.#stream ? this.#onState(state) : undefined),
    });
    this.#stream = stream;
  }

  /** Begins anew as another user. */
  restart() {
    if (this.#video !== null) this.open(this.#video);
  }

  /** Tries again at once where the stream waits. */
  retryNow() {
    this.#stream?.retryNow();
  }

  // ------------------------------------------------------------------------------------------ receiving

  #live(comment) {
    if (!this.#add(comment)) return;
    this.#announce(comment);
    this.#trim();
    this.#count();
  }

  async #loadHistory(when = 'early') {
    const video = this.#video;
    const hear = this.#pins.asked();
    try {
      const page = await this.#liverank.history(video, { limit: PAGE, userid: this.#user() });
      if (video !== this.#video) return;
      hear(page);
      // A page that was read before the viewer had its place does not replace one that was read after.
      if (this.#historyLoaded !== 'live') this.#historyLoaded = when;
      for (const comment of page.comments) this.#add(comment);
      this.#replies.refresh();
      this.#older ??= page.next;
      this.#say('');
    } catch (error) {
      if (video !== this.#video) return;
      if (error.status !== 404) this.#say(`The history could not be read yet: ${error.message}.`);
      setTimeout(() => this.#video === video && this.#historyLoaded !== 'live' && this.#loadHistory(when), HISTORY_AGAIN_MS);
    }
    part('older').hidden = !this.#older;
    this.#count();
  }

  async #loadOlder() {
    const video = this.#video;
    const oldest = Math.min(...[...this.#shown.values()].map(({ comment }) => comment.seq ?? Infinity));
    try {
      const page = await this.#liverank.history(video, { before: this.#older, limit: PAGE, userid: this.#user() });
      if (video !== this.#video) return;
      this.#older = page.next;
      this.#kept = Math.min(this.#kept + page.comments.length, MOST);
      const added = page.comments.filter((comment) => this.#add(comment));
      this.#replies.refresh();
      this.#say(added.length > 0 || oldest <= 1 ? '' : 'There is nothing older.');
      if (this.#shown.size >= MOST && this.#older) {
        this.#older = null;
        this.#say(`This page holds ${MOST.toLocaleString('en')} comments; older ones are in the history of the API.`);
      }
    } catch (error) {
      this.#say(`Older comments could not be read: ${error.message}.`);
    }
    part('older').hidden = !this.#older;
    this.#count();
  }

  /** The stream moved on without `from` to `to`: the history has them. */
  async #fill(video, from, to) {
    let before;
    for (let page = 0; page < GAP_PAGES; page += 1) {
      const hear = before === undefined ? this.#pins.asked() : () => {};
      const found = await this.#liverank.history(video, { before, limit: PAGE, userid: this.#user() }).catch(() => null);
      if (video !== this.#video) return;
      if (found) hear(found);
      const { comments, next } = found ?? { comments: [] };
      for (const comment of comments) this.#add(comment);
      this.#replies.refresh();
      this.#count();
      if (comments.some((comment) => comment.seq <= from) || (comments.length > 0 && !next)) return;
      if (!next) break;
      before = next;
    }
    this.#say(`Comments ${from} to ${to} came while this page was away and are not all shown.`);
  }

  /** Puts a comment in its place; false when it is there already. */
  #add(comment) {
    if (this.#shown.has(comment.id) || this.#removed.has(comment.id)) return false;
    const element = commentElement(comment);
    const replied = this.#replies.line(comment);
    if (replied) element.querySelector('.text').before(replied);
    this.#addTools(element, comment);
    this.#shown.set(comment.id, { comment, element });
    element.dataset.order = order(comment);
    this.#awaited.get(comment.id)?.remove();
    this.#awaited.delete(comment.id);
    this.#newest = Math.max(this.#newest, comment.seq ?? 0);
    this.#list.insertBefore(element, this.#below(order(comment)));
    return true;
  }

  /** The comment above which one of this order stands. Most are the newest or the oldest: it is looked for from both ends. */
  #below(order) {
    const isOlder = (element) => Number(element.dataset.order) < order;
    const last = this.#list.lastElementChild;
    if (last && !isOlder(last)) return null;
    let next = this.#list.firstElementChild;
    while (next && !isOlder(next)) next = next.nextElementSibling;
    return next;
  }

  /** Takes a comment away that was removed. */
  #remove(id) {
    this.#removed.add(id);
    if (this.#removed.size > REMOVED_KEPT) this.#removed.delete(this.#removed.values().next().value);
    this.#pins.removed(id);
    this.#shown.get(id)?.element.remove();
    this.#shown.delete(id);
    this.#replies.removed(id);
    this.#awaited.get(id)?.remove();
    this.#awaited.delete(id);
    this.#unannounced = this.#unannounced.filter((comment) => comment.id !== id);
    this.#count();
  }

  /** What one may do about a comment: reply, and more as the user who is signed in. */
  #addTools(element, comment) {
    const tools = Object.assign(document.createElement('span'), { className: 'tools' });
    tools.append(this.#replies.button(comment));
    const pin = this.#pins.button(comment);
    if (pin) tools.append(pin);
    if (this.#mayDelete(comment)) tools.append(this.#deleteButton(comment));
    const moderate = this.#moderate(comment);
    if (moderate) {
      const button = Object.assign(document.createElement('button'), { type: 'button', className: 'quiet', textContent: 'Ban or mute' });
      button.ariaLabel = `Ban or mute ${comment.userid}`;
      button.addEventListener('click', moderate);
      tools.append(button);
    }
    element.append(tools);
  }

  /** A button that has a comment removed. The comment goes when the stream says that it is gone. */
  #deleteButton({ id, videoid, userid }) {
    const button = Object.assign(document.createElement('button'), { type: 'button', className: 'quiet delete', textContent: 'Delete' });
    button.ariaLabel = `Delete the comment by ${userid}`;
    button.addEventListener('click', async () => {
      button.disabled = true;
      try {
        await this.#liverank.deleteComment(videoid, id);
        this.#remove(id);
      } catch (error) {
        button.disabled = false;
        this.#say(`The comment could not be deleted: ${error.message}.`);
      }
    });
    return button;
  }

  #trim() {
    while (this.#shown.size > this.#kept) {
      const last = this.#list.lastElementChild;
      this.#shown.delete(last.dataset.id);
      last.remove();
      // The trimmed ones are history now, and `before` is a place in it that we no longer know.
      this.#older = null;
      part('older').hidden = true;
    }
  }

  #count() {
    part('comment-count').textContent = this.#newest > 0 ? this.#newest.toLocaleString('en') : '';
    part('comments-empty').hidden = this.#list.childElementCount > 0;
    if (this.#historyLoaded) part('comments-empty').textContent = 'No comments yet. Be the first.';
  }

  #announce(comment) {
    this.#unannounced.push(comment);
    this.#announcing ??= setTimeout(() => {
      const [first, ...more] = this.#unannounced;
      this.#announcing = null;
      this.#unannounced = [];
      if (!first) return;
      part('comment-announcer').textContent = more.length === 0 ? `${first.userid}: ${first.comment}` : `${more.length + 1} new comments`;
    }, ANNOUNCE_MS);
  }

  // -------------------------------------------------------------------------------------------- posting

  #submit(input) {
    const text = input.value.trim();
    if (text === '') return;
    if (this.#video === null) {
      this.#say('Choose a video first.');
      return;
    }
    input.value = '';
    this.#post({ userid: this.#user(), videoid: this.#video, comment: text, replyTo: this.#replies.take(), idempotencyKey: newId() });
  }

  async #post(draft) {
    const element = commentElement({ ...draft, id: '' });
    const fate = element.querySelector('time');
    const show = (text, name) => {
      fate.textContent = text;
      element.className = `comment ${name}`;
    };
    element.dataset.order = Infinity;
    show('sending…', 'pending');
    this.#list.prepend(element);
    this.#count();
    try {
      const options = { timeoutMs: POST_FOR_MS, onRetry: () => show('waits for the server…', 'pending') };
      const stored = await this.#liverank.postComment(draft, options);
      if (draft.videoid !== this.#video || this.#shown.has(stored.id)) element.remove();
      else {
        show(stored.held ? 'waits for a moderator' : 'sent', 'pending');
        this.#awaited.set(stored.id, element);
      }
    } catch (error) {
      show(`not sent: ${error.message}`, 'failed');
      this.#offerAgain(element, draft);
    }
  }

  #offerAgain(element, draft) {
    const again = Object.assign(document.createElement('button'), { type: 'button', className: 'quiet again', textContent: 'Send again' });
    again.addEventListener('click', () => {
      element.remove();
      this.#post(draft);
    });
    element.append(again);
  }

  #say(text) {
    this.#note.textContent = text;
    this.#note.hidden = text === '';
  }
}

/** Comments without a number (none come from this system) fall back to their time, which sorts before any number. */
function order(comment) {
  return comment.seq ?? -1 / Math.max(when(comment.timestamp).getTime(), 1);
}

/** RFC 3339, or Unix seconds. */
function when(timestamp) {
  return new Date(typeof timestamp === 'number' ? timestamp * 1000 : timestamp ?? Date.now());
}

function commentElement({ id, userid, comment, timestamp }) {
  const element = Object.assign(document.createElement('li'), { className: 'comment' });
  element.dataset.id = id;
  const add = (tag, className, textContent) => {
    const child = Object.assign(document.createElement(tag), { className, textContent });
    element.append(child, ' ');
    return child;
  };
  const avatar = add('span', 'avatar', [...userid][0].toUpperCase());
  avatar.ariaHidden = 'true';
  avatar.style.setProperty('--hue', hue(userid));
  add('span', 'author', userid);
  const at = when(timestamp);
  const today = at.toDateString() === new Date().toDateString();
  add('time', 'fate', Number.isNaN(at.getTime()) ? '' : (today ? clock : day).format(at)).dateTime = String(timestamp ?? '');
  add('span', 'text', comment);
  return element;
}

/** A colour that stays with a name. */
function hue(name) {
  let sum = 7;
  for (const letter of name) sum = (sum * 31 + letter.codePointAt(0)) % 3_600;
  return sum % 360;
}
