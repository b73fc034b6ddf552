/** Whether the server is there: what the head of the page and its banner say, in words and for screen readers. */

/** One stream alone may be renewed in passing; only when it stays away this long, in ms, is it worth a word. */
const PASSING_MS = 2_000;
/** How long the good news stays, in ms. */
const BACK_SHOWN_MS = 6_000;

const WORDS = { live: 'Live', connecting: 'Connecting', lost: 'Server lost', partly: 'Partly lost', refused: 'Refused' };

export class StateView {
  #channels = new Map();
  #said = 'connecting';
  #lostAt = 0;
  #passing = null;
  #ticking = null;
  #hiding = null;
  #parts;
  #onRefused;

  /** `onRefused(error)` is told when an answer is final; `onSignIn` when its user wants to do something about it. */
  constructor({ onRetry, onSignIn, onRefused }) {
    const part = (id) => document.getElementById(id);
    this.#parts = {
      pill: part('state-pill'),
      word: part('state-word'),
      banner: part('banner'),
      what: part('banner-what'),
      when: part('banner-when'),
      announcer: part('state-announcer'),
      retry: part('retry-now'),
      signIn: part('banner-sign-in'),
    };
    this.#onRefused = onRefused;
    part('retry-now').addEventListener('click', onRetry);
    part('banner-sign-in').addEventListener('click', onSignIn);
  }

  /** Takes the state of one stream (`ranking`, `comments`) as liverank.js reports it, or null when there is none now. */
  set(channel, state) {
    const before = this.#channels.get(channel);
    const away = state !== null && state.state !== 'live' && (state.state === 'waiting' || before?.away === true);
    if (state === null) this.#channels.delete(channel);
    else this.#channels.set(channel, { ...state, away });
    this.#judge();
  }

  /** Forgets what was: other streams begin. */
  reset() {
    this.#channels.clear();
    clearTimeout(this.#passing);
    this.#passing = null;
    clearInterval(this.#ticking);
    this.#parts.banner.hidden = true;
    this.#said = 'connecting';
    this.#parts.pill.dataset.state = 'connecting';
    this.#parts.word.textContent = WORDS.connecting;
  }

  /** Whether nothing reaches us: then there is no point in asking for more. */
  get lost() {
    return this.#said === 'lost' || this.#said === 'refused';
  }

  #judge() {
    const channels = [...this.#channels.values()];
    const refused = channels.find((channel) => channel.state === 'failed');
    if (refused) return this.#sayRefused(refused.error);
    const away = channels.filter((channel) => channel.away);
    const partly = away.length > 0 && away.length < channels.length;
    if (partly) this.#passing ??= setTimeout(() => this.#say('partly'), PASSING_MS);
    else {
      clearTimeout(this.#passing);
      this.#passing = null;
    }
    if (away.length > 0 && !partly) this.#say('lost');
    else if (channels.every((channel) => channel.state === 'live')) this.#say('live');
  }

  /** An answer that is final: nothing is tried until somebody does something. */
  #sayRefused(error) {
    const { pill, word, banner, what, when, announcer, retry, signIn } = this.#parts;
    clearTimeout(this.#passing);
    clearTimeout(this.#hiding);
    clearInterval(this.#ticking);
    const unknown = error.status === 401;
    const sentences = unknown && !error.problem?.detail?.includes('not valid')
      ? ['Sign in to watch.', 'This system asks viewers for a token.']
      : [unknown ? 'Your token was refused.' : error.status === 403 ? 'Your token does not allow this.' : 'The server refuses this.', said(error)];
    this.#said = 'refused';
    pill.dataset.state = 'lost';
    word.textContent = WORDS.refused;
    banner.dataset.state = 'lost';
    banner.hidden = false;
    [what.textContent, when.textContent] = sentences;
    retry.hidden = unknown;
    signIn.hidden = !(unknown || error.status === 403);
    announcer.textContent = sentences.join(' ');
    this.#onRefused(error);
    return undefined;
  }

  #say(word) {
    const before = this.#said;
    this.#said = word;
    if (before === 'refused' && word === 'live') this.#parts.banner.hidden = true;
    const { pill, word: text } = this.#parts;
    pill.dataset.state = word === 'partly' ? 'lost' : word;
    text.textContent = WORDS[word];
    if (word === 'lost' || word === 'partly') this.#showTrouble(before);
    else if (word === 'live') this.#showBack(before);
  }

  #showTrouble(before) {
    const { banner, what, announcer } = this.#parts;
    const first = before !== this.#said;
    if (before !== 'lost' && before !== 'partly') this.#lostAt = Date.now();
    clearTimeout(this.#hiding);
    this.#parts.retry.hidden = false;
    this.#parts.signIn.hidden = true;
    banner.dataset.state = 'lost';
    banner.hidden = false;
    if (first) what.textContent = this.#sentence();
    this.#tick();
    clearInterval(this.#ticking);
    this.#ticking = setInterval(() => this.#tick(), 250);
    if (first) announcer.textContent = `${what.textContent} ${this.#when()}`;
  }

  #sentence() {
    if (this.#said === 'lost') return 'The connection to the server is lost.';
    const [name] = [...this.#channels].find(([, channel]) => channel.away) ?? ['ranking'];
    return name === 'ranking' ? 'The ranking stands still: its stream is lost.' : 'The comments stand still: their stream is lost.';
  }

  #tick() {
    const text = this.#when();
    if (this.#parts.when.textContent !== text) this.#parts.when.textContent = text;
  }

  #when() {
    const away = [...this.#channels.values()].filter((channel) => channel.away);
    if (away.some((channel) => channel.state === 'connecting')) return 'Trying now…';
    const next = Math.min(...away.map((channel) => channel.retryAt ?? Infinity));
    const seconds = Math.ceil((next - Date.now()) / 1000);
    return seconds >= 1 && seconds < 3600 ? `Next try in ${seconds} s.` : 'Trying again in a moment.';
  }

  #showBack(before) {
    clearInterval(this.#ticking);
    if (before !== 'lost' && before !== 'partly') return;
    const { banner, what, when, announcer } = this.#parts;
    const seconds = Math.max(1, Math.round((Date.now() - this.#lostAt) / 1000));
    banner.dataset.state = 'back';
    what.textContent = 'The server is back.';
    when.textContent = `It was away for ${seconds} s; what you missed is here.`;
    announcer.textContent = `${what.textContent} ${when.textContent}`;
    this.#hiding = setTimeout(() => {
      banner.hidden = true;
    }, BACK_SHOWN_MS);
  }
}

/** What the server said, as a sentence. */
function said(error) {
  const text = error.problem?.detail ?? error.message;
  return `${text[0].toUpperCase()}${text.slice(1)}${/[.!?]$/.test(text) ? '' : '.'}`;
}
