/** What moderators do to users: bans and mutes, and their end. Deleting a comment stands beside the comment. */

import { element, moment } from './console-format.js';
import { PagedDialog } from './console-paged.js';

const part = (id) => document.getElementById(id);
const PAGE = 50;
const WORDS = { ban: 'Ban', mute: 'Mute', shadow: 'Shadow ban' };
const DONE = { ban: 'banned', mute: 'muted', shadow: 'shadow-banned' };

export class Moderation {
  #liverank;
  #whom = null;
  #dialog;
  #onDone;

  /** `onDone(text)` is told what was done. */
  constructor(liverank, { onDone }) {
    this.#liverank = liverank;
    this.#onDone = onDone;
    part('moderate-cancel').addEventListener('click', () => part('moderate-dialog').close());
    part('moderate-kind').addEventListener('change', () => this.#explain());
    part('moderate-form').addEventListener('submit', (event) => {
      event.preventDefault();
      this.#begin();
    });
    this.#dialog = new PagedDialog('bans', {
      none: 'Nobody is banned or muted.',
      read: async (after) => {
        const { bans, next } = await liverank.bans({ after, limit: PAGE });
        return { lines: bans.map((ban) => this.#line(ban)), next };
      },
    });
  }

  /** Shows what moderators have, or hides it. */
  offer(moderates) {
    this.#dialog.offer(moderates);
  }

  /** Asks what to do with the author of a comment. */
  ask({ userid, videoid }) {
    this.#whom = { userid, videoid };
    this.#explain();
    part('moderate-reason').value = '';
    this.#complain('');
    part('moderate-dialog').showModal();
  }

  /** Says what the kind that is chosen does. */
  #explain() {
    const { userid } = this.#whom;
    const kind = part('moderate-kind').value;
    const then = kind === 'shadow' ? `are shown to ${userid} alone, who is not told` : 'are refused';
    part('moderate-whom').textContent = `Comments of ${userid} ${then}, from then on. Those that are there stay.`;
    part('moderate-do').textContent = WORDS[kind];
  }

  async #begin() {
    const { userid, videoid } = this.#whom;
    const kind = part('moderate-kind').value;
    const whom = { userid, kind };
    if (part('moderate-scope').value === 'video') whom.videoid = videoid;
    if (part('moderate-time').value !== '') whom.seconds = Number(part('moderate-time').value);
    const reason = part('moderate-reason').value.trim();
    if (reason !== '') whom.reason = reason;
    try {
      await this.#liverank.ban(whom);
      part('moderate-dialog').close();
      this.#onDone(`${userid} is ${DONE[kind]} ${whom.videoid ? 'on this video' : 'everywhere'}.`);
    } catch (error) {
      this.#complain(`It was not done: ${error.message}`);
    }
  }

  #complain(text) {
    part('moderate-problem').textContent = text;
    part('moderate-problem').hidden = text === '';
  }

  #line({ userid, kind, videoid, owner_id: owner, until, by, reason }) {
    const where = videoid ? `on ${videoid}` : owner ? `on the videos of ${owner}` : 'everywhere';
    const end = until ? `until ${moment(until)}` : 'for good';
    const item = element('li');
    item.append(element('b', '', userid), element('small', '', `${WORDS[kind] ?? kind} ${where}, ${end}, by ${by}${reason ? `: ${reason}` : ''}`));
    const lift = Object.assign(element('button', 'quiet', 'Lift'), { type: 'button', ariaLabel: `Lift the ${WORDS[kind]?.toLowerCase() ?? kind} of ${userid} ${where}` });
    lift.addEventListener('click', async () => {
      lift.disabled = true;
      try {
        await this.#liverank.liftBan({ userid, kind, videoid, owner_id: owner });
        this.#dialog.remove(item);
        this.#onDone(`The ${WORDS[kind]?.toLowerCase() ?? kind} of ${userid} is lifted.`);
      } catch (error) {
        lift.disabled = false;
        this.#dialog.say(`It was not lifted: ${error.message}`);
      }
    });
    item.append(lift);
    return item;
  }
}
