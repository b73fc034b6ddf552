/**
 * The types of requests and answers. Their shapes come from the server's OpenAPI document, from which `schema.ts` is
 * generated.
 */

import type { components } from './schema.js';

type Schemas = components['schemas'];

/** An interaction of a viewer with a video. */
export type Interaction = Schemas['Interaction'];
/** The type of an interaction: `view`, `like`, `comment`, `share`, `watch_time`, `unlike` or `unshare`. */
export type InteractionType = Interaction['type'];
/** The answer to an interaction. */
export type Acknowledged = Schemas['Acknowledged'];
/** One line of a ranked list. */
export type Ranked = Schemas['Ranked'];
/** One line of a list that is pushed, with `metadata` if they were asked for. */
export type RankedVideo = Schemas['RankedVideo'];
/** One line of an owner's list. */
export type OwnRanked = Schemas['OwnRanked'];
/** All boards, with the windows of those that have windows. */
export type Boards = Schemas['Boards'];
/** The description of a board: its name, order, category and windows. */
export type BoardDescription = Schemas['BoardDescription'];
/** A window of a board. */
export type BoardWindow = Schemas['BoardWindow'];
/** One page of a ranked list. */
export type VideoPage = Schemas['VideoPage'];
/** One video with its counters. */
export type Video = Schemas['Video'];
/** A comment as its author gets it back. */
export type Comment = Schemas['Comment'];
/** A comment that was posted. */
export type PostedComment = Comment & {
  /** It waits for a moderator: nobody sees it before. */
  held?: true;
};
/** A comment with its number among its video's. */
export type NumberedComment = Schemas['NumberedComment'];
/** One page of a video's history. */
export type CommentPage = Schemas['CommentPage'];
/** The first event of a comment stream. */
export type Connected = Schemas['Connected'];
/** The event that a comment was removed. */
export type Deleted = Schemas['Deleted'];
/** A request to ban or mute a user: where, for how long, and why. */
export type BanRequest = Schemas['BanRequest'];
/** The answer to a ban: what was written into the log. */
export type BanAnswer = Schemas['BanAnswer'];
/** One page of bans and mutes. */
export type BanPage = Schemas['BanPage'];
/** The event that another comment is pinned, or none any more. */
export type Pinned = Schemas['Pinned'];
/** The answer to a pin: what was written into the log. */
export type PinAnswer = Schemas['PinAnswer'];
/** One page of held comments, which wait for a moderator. */
export type HeldPage = Schemas['HeldPage'];
/** One page of reported comments. */
export type ReportPage = Schemas['ReportPage'];
/** The reason for reporting a comment. */
export type ReportReason = Schemas['ReportReason'];
/** A request to set the rules of comments for a video, an owner or everywhere. */
export type CommentRulesRequest = Schemas['CommentRulesRequest'];
/** The answer to new rules of comments: what was written into the log. */
export type CommentRulesAnswer = Schemas['CommentRulesAnswer'];
/** One page of the rules of comments. */
export type CommentRulesPage = Schemas['CommentRulesPage'];
/** One page of the audit log. */
export type ModerationPage = Schemas['ModerationPage'];
/** A range of comments that a stream can no longer deliver: the first and the last `seq`. */
export type Gap = Schemas['Gap'];
/** The data of an event `viewers`: the number of viewers. */
export type ViewerCount = Schemas['ViewerCount'];
/** A message of `/ws/videos?mode=delta`. */
export type RankingMessage = Schemas['RankingSnapshot'] | Schemas['RankingDelta'];
/** A message of `/ws/videos?around=`: the lines around a video. */
export type RankingPart = Schemas['RankingPart'];
/** All statistics of the system. */
export type Statistics = Schemas['Statistics'];

/** The name of a board: one of these two, or of a declared one. */
export type Board = 'global' | 'trending' | (string & {});

/** A moderator's decision on a held comment. */
export interface Review {
  videoid: string;
  id: string;
  outcome: 'release' | 'reject';
  /** The reason, for the audit log. */
  reason?: string | undefined;
}

/** A user's report of a comment. */
export interface CommentReport {
  /** The id of the user who reports. */
  userid: string;
  reason: ReportReason;
  /** The reason in the user's own words, for moderators: 200 characters at most. */
  text?: string | undefined;
}

/** A moderator's decision on a reported comment. */
export interface ReportDecision {
  videoid: string;
  id: string;
  outcome: 'dismiss' | 'delete' | 'ban';
  /** With `ban`: what the author may no longer do; `ban` by default. */
  kind?: 'ban' | 'mute' | 'shadow' | undefined;
  /** With `ban`: where it applies; on the comment's video by default. */
  scope?: 'video' | 'everywhere' | undefined;
  /** With `ban`: the duration in seconds; without an end by default. */
  seconds?: number | undefined;
  /** The reason, for the audit log. */
  reason?: string | undefined;
}

/** The place of rules: a video, an owner's videos, or everywhere if neither is given. */
export interface RulesPlace {
  videoid?: string | undefined;
  owner_id?: string | undefined;
  /** The reason, for the audit log. */
  reason?: string | undefined;
}

/** A new comment, to be posted. */
export interface Draft {
  userid: string;
  videoid: string;
  comment: string;
  /** The id of the comment on the same video to which it replies. */
  replyTo?: string;
  /** The key of the post: a second post with the same key makes no second comment. Random by default. */
  idempotencyKey?: string;
}
