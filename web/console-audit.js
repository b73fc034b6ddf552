/** The audit log: who did what, when and why, newest first. */

import { element, moment } from './console-format.js';
import { PagedDialog } from './console-paged.js';

const PAGE = 50;
/** As whom the server writes down what it does not say of whom. */
const NOBODY = 'liverank:nobody';
const REVIEWS = { release: 'released', reject: 'rejected' };
const CLOSED = { dismissed: 'dismissed the reports of', deleted: 'deleted, as reported,', banned: 'banned, as reported, the author of' };
const RESTRICTED = { ban: 'banned', mute: 'muted', shadow: 'shadow-banned', tokens: 'revoked the tokens of', token: 'revoked the token' };
const LIFTED = { ban: 'ban', mute: 'mute', shadow: 'shadow ban', tokens: 'revocation of the tokens', token: 'revocation of the token' };

function place(scope) {
  if (scope?.video) return ` on ${scope.video}`;
  if (scope?.owner) return ` on the videos of ${scope.owner}`;
  return scope === 'everywhere' ? ' everywhere' : '';
}

const comment = ({ videoid }) => `a comment on ${videoid}`;
const SAID = {
  delete: (action) => `deleted ${comment(action)}`,
  put_video: ({ videoid }) => `described the video ${videoid}`,
  remove_video: ({ videoid }) => `took the video ${videoid} off the boards`,
  restrict: ({ kind, userid, scope, until }) => `${RESTRICTED[kind] ?? kind} ${userid}${place(scope)}${until ? ` until ${moment(until)}` : ''}`,
  lift: ({ kind, userid, scope }) => `lifted the ${LIFTED[kind] ?? kind} of ${userid}${place(scope)}`,
  set_rules: ({ rules, scope }) => `${rules ? 'set rules of comments' : 'took the rules of comments away'}${place(scope)}`,
  pin: (action) => (action.comment_id ? `pinned ${comment(action)}` : `unpinned the comment on ${action.videoid}`),
  review: (action) => `${REVIEWS[action.outcome] ?? action.outcome} ${comment(action)}`,
  report: (action) => `reported ${comment(action)}: ${action.why}`,
  close_reports: (action) => `${CLOSED[action.outcome] ?? action.outcome} ${comment(action)}`,
  erase_user: () => 'erased a user',
};

/** What was done, in words. */
function said(action) {
  const who = action.by === NOBODY ? 'Somebody' : `${action.by} (${action.role})`;
  return `${who} ${SAID[action.action]?.(action) ?? action.action}`;
}

function line({ timestamp, reason, ...action }) {
  const item = element('li');
  item.append(element('b', '', said(action)), element('small', '', `${moment(timestamp)}${reason ? `: ${reason}` : ''}`));
  return item;
}

/** One that a later release wrote: this one knows when it was, and no more. */
function unknownLine({ timestamp }) {
  const item = element('li');
  item.append(element('b', '', 'Something that this release does not know'), element('small', '', moment(timestamp)));
  return item;
}

export class AuditLog {
  #dialog;

  constructor(liverank) {
    this.#dialog = new PagedDialog('audit', {
      none: 'Nothing was done yet.',
      read: async (before) => {
        const { actions, unknown = [], next } = await liverank.moderationLog({ before, limit: PAGE });
        const lines = [...actions.map((action) => [action.timestamp, line(action)]), ...unknown.map((action) => [action.timestamp, unknownLine(action)])];
        lines.sort(([a], [b]) => Date.parse(b) - Date.parse(a));
        return { lines: lines.map(([, item]) => item), next };
      },
    });
  }

  /** Shows what moderators have, or hides it. */
  offer(moderates) {
    this.#dialog.offer(moderates);
  }
}
