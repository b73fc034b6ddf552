/** What travels, named. The shapes come from the server's OpenAPI document (`schema.ts` is generated from it). */

import type { components } from './schema.js';

type Schemas = components['schemas'];

/** What a viewer did. */
export type Interaction = Schemas['Interaction'];
/** `view`, `like`, `comment`, `share`, `watch_time`, `unlike` or `unshare`. */
export type InteractionType = Interaction['type'];
/** The answer to an interaction. */
export type Acknowledged = Schemas['Acknowledged'];
/** One line of a ranked list. */
export type Ranked = Schemas['Ranked'];
/** One line of a list that is pushed: with `metadata`, where these were asked for. */
export type RankedVideo = Schemas['RankedVideo'];
/** One line of an owner's list. */
export type OwnRanked = Schemas['OwnRanked'];
/** The boards, and the windows of those that have some. */
export type Boards = Schemas['Boards'];
/** A board, and what is on it. */
export type BoardDescription = Schemas['BoardDescription'];
/** A window of a board. */
export type BoardWindow = Schemas['BoardWindow'];
/** One page of a ranked list. */
export type VideoPage = Schemas['VideoPage'];
/** One video with its counters. */
export type Video = Schemas['Video'];
/** A comment as its writer gets it back. */
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
/** That a comment was removed. */
export type Deleted = Schemas['Deleted'];
/** Whom to ban or mute, where, for how long, and why. */
export type BanRequest = Schemas['BanRequest'];
/** What the log has of it. */
export type BanAnswer = Schemas['BanAnswer'];
/** One page of bans and mutes. */
export type BanPage = Schemas['BanPage'];
/** That a comment is pinned from now on, or none. */
export type Pinned = Schemas['Pinned'];
/** What the log has of a pin. */
export type PinAnswer = Schemas['PinAnswer'];
/** One page of comments that wait for a moderator. */
export type HeldPage = Schemas['HeldPage'];
/** One page of comments that were reported. */
export type ReportPage = Schemas['ReportPage'];
/** What is wrong with a comment. */
export type ReportReason = Schemas['ReportReason'];
/** What comments must be like in a place, and why. */
export type CommentRulesRequest = Schemas['CommentRulesRequest'];
/** What the log has of it. */
export type CommentRulesAnswer = Schemas['CommentRulesAnswer'];
/** One page of rules of comments. */
export type CommentRulesPage = Schemas['CommentRulesPage'];
/** One page of the audit log. */
export type ModerationPage = Schemas['ModerationPage'];
/** Comments that can no longer be had: the first and the last `seq`. */
export type Gap = Schemas['Gap'];
/** The data of an event `viewers`. */
export type ViewerCount = Schemas['ViewerCount'];
/** A message of `/ws/videos?mode=delta`. */
export type RankingMessage = Schemas['RankingSnapshot'] | Schemas['RankingDelta'];
/** A message of `/ws/videos?around=`: the lines around a video. */
export type RankingPart = Schemas['RankingPart'];
/** Everything in one answer. */
export type Statistics = Schemas['Statistics'];

/** A board that the server has: one of these two, or the name of one that was declared. */
export type Board = 'global' | 'trending' | (string & {});

/** What becomes of a comment that waits. */
export interface Review {
  videoid: string;
  id: string;
  outcome: 'release' | 'reject';
  /** Why, for the audit log. */
  reason?: string | undefined;
}

/** That something is wrong with a comment. */
export interface CommentReport {
  /** Who reports. */
  userid: string;
  reason: ReportReason;
  /** The same in the user's words, for moderators: 200 characters at most. */
  text?: string | undefined;
}

/** What becomes of a comment that was reported. */
export interface ReportDecision {
  videoid: string;
  id: string;
  outcome: 'dismiss' | 'delete' | 'ban';
  /** With `ban`: what is refused to the author; `ban` by default. */
  kind?: 'ban' | 'mute' | 'shadow' | undefined;
  /** With `ban`: where; on the comment's video by default. */
  scope?: 'video' | 'everywhere' | undefined;
  /** With `ban`: for how long; for good by default. */
  seconds?: number | undefined;
  /** Why, for the audit log. */
  reason?: string | undefined;
}

/** A video, an owner's videos, or everywhere where neither is given. */
export interface RulesPlace {
  videoid?: string | undefined;
  owner_id?: string | undefined;
  /** Why, for the audit log. */
  reason?: string | undefined;
}

/** What a new comment needs. */
export interface Draft {
  userid: string;
  videoid: string;
  comment: string;
  /** The comment under the same video that it replies to. */
  replyTo?: string;
  /** Posting again under the same key makes no second comment; a random one by default. */
  idempotencyKey?: string;
}
