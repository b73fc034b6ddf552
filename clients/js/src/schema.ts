/** Made by `npm run schema` from services/gateway/openapi/openapi.yaml. Do not edit. */

export type paths = Record<string, never>;
export type webhooks = Record<string, never>;
export interface components {
    schemas: {
        /** @description Confirmation that the log has stored the interaction durably. */
        Acknowledged: {
            /** @description Id of the stored event: the sender's, or a generated one, with which the event cannot be sent again. */
            event_id: components["schemas"]["Id"];
        };
        /** @description A ban, mute or shadow ban in force. */
        Ban: {
            /** @description Id of the banned user. */
            userid: components["schemas"]["Id"];
            /** @description Kind of the ban: `ban`, `mute` or `shadow`. */
            kind: components["schemas"]["BanKind"];
            /** @description Id of the video on which the ban is in force; absent if the ban has another scope. */
            videoid?: components["schemas"]["Id"];
            /** @description Id of the owner on whose videos the ban is in force; absent if the ban has another scope. */
            owner_id?: components["schemas"]["Id"];
            /**
             * Format: date-time
             * @description Time until which the ban is in force; null means for good.
             */
            until: string | null;
            /** @description Id of the user or service that set the ban. */
            by: components["schemas"]["Id"];
            /** @description Reason for the ban, in words; null if none was given. */
            reason: string | null;
            /**
             * Format: date-time
             * @description Time at which the ban was set.
             */
            since: string;
        };
        /** @description Confirmation that the ban, or its end, is stored in the log. */
        BanAnswer: {
            /** @description Id of the action in the audit log (`/moderation/log`). */
            action_id: components["schemas"]["Id"];
            /** @description Id of the banned user. */
            userid: components["schemas"]["Id"];
            /** @description Kind of the ban: `ban`, `mute` or `shadow`. */
            kind: components["schemas"]["BanKind"];
            /** @description Id of the video on which the ban is in force; absent if the ban has another scope. */
            videoid?: components["schemas"]["Id"];
            /** @description Id of the owner on whose videos the ban is in force; absent if the ban has another scope. */
            owner_id?: components["schemas"]["Id"];
            /**
             * Format: date-time
             * @description Time until which the ban is in force; null means for good.
             */
            until?: string | null;
        };
        /**
         * @description Kind of a ban. `ban` and `mute` both refuse the user's comments; they are two kinds, so that one may end while the other goes on: `ban` for a user who misbehaved, `mute` for a user who is to be quiet for a while. `shadow` accepts the comments, and shows them to the user alone.
         * @default ban
         * @enum {string}
         */
        BanKind: "ban" | "mute" | "shadow";
        /** @description One page of bans, mutes and shadow bans. */
        BanPage: {
            /** @description Bans of the page, in the order of their last change. */
            bans: components["schemas"]["Ban"][];
            /** @description The `after` of the next page; null if this is the last page. */
            next: number | null;
        };
        /** @description A ban to set, with its user, kind, scope, duration and reason. */
        BanRequest: {
            /** @description Id of the user to ban. */
            userid: components["schemas"]["Id"];
            /** @description Kind of the ban: `ban`, `mute` or `shadow`. */
            kind?: components["schemas"]["BanKind"];
            /** @description Id of the video on which the ban is in force. Without `videoid` and `owner_id`, the ban is in force everywhere. */
            videoid?: components["schemas"]["OptionalId"];
            /** @description Id of the owner on whose videos the ban is in force. Cannot be used together with `videoid`. */
            owner_id?: components["schemas"]["OptionalId"];
            /** @description Duration of the ban in seconds; absent or null means for good. */
            seconds?: number | null;
            /** @description Reason for the ban, shown in the audit log. */
            reason?: string | null;
        };
        /** @description The half-life that a board has of its own. */
        BoardDecay: {
            /** @description Half-life in minutes, after which an interaction counts half. */
            half_life_minutes: number;
            /** @description Whether the board's points contain all interactions, not only those after the half-life was declared; null while the archive is away, or does not count by this half-life yet. */
            whole: boolean | null;
            /** @description Time after which all interactions are in the board's points, in milliseconds since the Unix epoch; absent if all interactions are. */
            whole_after?: number;
        };
        /** @description A board with its settings and windows. */
        BoardDescription: {
            /** @description Name of the board, as used in `board=`. */
            name: string;
            /**
             * @description Order of the board: by points, or (`trending`) by points that decay.
             * @enum {string}
             */
            order: "points" | "trending";
            /** @description Whether the board was declared by an operator; false for a built-in board. */
            declared: boolean;
            /** @description Half-life in seconds, after which points are worth half; null if the board's points do not decay, and while the store of boards is away or empty. */
            half_life_seconds: number | null;
            /** @description Points of one `view`, `like`, `comment`, `share`, `watch_short` and `watch_long` on this board; null if it has the weights of all boards. */
            weights: {
                [key: string]: number;
            } | null;
            /** @description Category of the videos on the board; null if the board has videos of all categories. */
            category: string | null;
            /** @description Minimum number of points that a video needs to be on the board. */
            minimum: number;
            /** @description Windows of the board; null if it has none. */
            windows: components["schemas"]["BoardWindows"] | null;
        };
        /** @description One window of a board: the hour, day or week whose interactions are ranked. */
        BoardWindow: {
            /** @description Name of the window, as used in `window=`. */
            name: string;
            /** @description Time at which the window begins, in milliseconds since the Unix epoch. */
            start: number;
            /** @description Time at which the window ends, in milliseconds since the Unix epoch; an interaction at exactly this time is in the next window. */
            end: number;
            /**
             * @description State of the window: `running`; `ended`, if interactions in it may still be on their way to the list, or a store that knows is away; `final`, if the list has all interactions of the window.
             * @enum {string}
             */
            state: "running" | "ended" | "final";
            /** @description Whether the window's list counts all interactions in the window, not only those after windows were declared; null while the archive is away. */
            whole: boolean | null;
        };
        /** @description The windows of a board: the one that runs, and those that ended and are kept. */
        BoardWindows: {
            /**
             * @description Length of each window: an hour, a day or a week.
             * @enum {string}
             */
            unit: "hour" | "day" | "week";
            /** @description Time zone by which hours, days and weeks begin, a name of the IANA's database. */
            time_zone: string;
            /** @description The window that runs now. */
            running: components["schemas"]["BoardWindow"];
            /** @description The windows that have ended and are kept, latest first. */
            ended: components["schemas"]["BoardWindow"][];
        };
        /** @description All boards. */
        Boards: {
            /** @description The boards: first the built-in ones, then the declared ones in the order of their declaration. */
            boards: components["schemas"]["BoardDescription"][];
        };
        /** @description Report of a client about itself. */
        ClientReport: {
            /** @description Id of the client. */
            clientId: components["schemas"]["RequiredName"];
            /** @description Id of the user as whom the client watches. */
            userId?: components["schemas"]["Name"];
            /** @description Id of the video that the client watches. */
            videoId?: components["schemas"]["Name"];
            /** @description Number of comments that the client posted. */
            commentsGenerated?: components["schemas"]["ReportedCount"];
            /** @description Number of comments that the client received. */
            commentsConsumed?: components["schemas"]["ReportedCount"];
            /** @description Channels that the client is subscribed to; a channel is the comments of one video. */
            subscribedTopics?: components["schemas"]["Names"];
            /** @description The reader to which the client is connected. */
            connectedReader?: components["schemas"]["Name"];
        };
        /** @description A comment under a video. */
        Comment: {
            /** @description Id of the comment. */
            id: components["schemas"]["Id"];
            /** @description Id of the user who wrote the comment. */
            userid: components["schemas"]["Id"];
            /** @description Id of the video under which the comment was posted. */
            videoid: components["schemas"]["Id"];
            /** @description Text of the comment. */
            comment: string;
            /**
             * Format: date-time
             * @description Time at which the comment was posted.
             */
            timestamp: string;
            /** @description Id of the comment to which this comment replies; absent if it is no reply. */
            reply_to?: components["schemas"]["Id"];
        };
        /** @description One page of a video's comments. */
        CommentPage: {
            /** @description Comments of the page, newest first. */
            comments: components["schemas"]["NumberedComment"][];
            /** @description The `before` of the page of older comments; null if there are no older comments. */
            next: number | null;
            /** @description The `after` of the page of newer comments; absent if there were no newer comments at the time of the request. */
            newer?: number;
            /** @description Pinned comment of the video, with the newest page only; absent if no comment is pinned. */
            pinned?: components["schemas"]["NumberedComment"];
        };
        /** @description Report of a comment service about itself. */
        CommentReport: {
            /** @description Id of the comment service; the seed's service has none. */
            instanceId?: components["schemas"]["Name"];
            /** @description Number of comments that the service accepted since its start. */
            totalComments?: components["schemas"]["ReportedCount"];
            /** @description Number of comments that the service accepted since its start, by video. */
            commentsByVideo?: components["schemas"]["ReportedCounts"];
            /** @description Videos that have comments. */
            activeTopics?: components["schemas"]["Names"];
            /** @description Number of readers that are subscribed to each channel; a channel is the comments of one video. */
            topicSubscribers?: components["schemas"]["ReportedCounts"];
        };
        /** @description Rules that comments have to comply with. An absent member means no such rule; all members together have at most 8 KiB as JSON. */
        CommentRules: {
            /** @description Slow mode, as the least number of seconds between two comments of one user. */
            slow_seconds?: number;
            /** @description Whether only users whose token has the role `member` may comment. */
            members_only?: boolean;
            /** @description Maximum length of a comment, in characters. */
            max_chars?: number;
            /** @description Seconds for which a user may not post the same text again. */
            own_repeat_seconds?: number;
            /** @description Seconds for which nobody may post the same text again, whoever posted it. */
            any_repeat_seconds?: number;
            /** @description Whether every comment waits for a moderator. */
            hold_all?: boolean;
            /** @description Rule for comments with links. */
            links?: {
                /** @description What happens to a comment with a link. */
                action: components["schemas"]["Measure"];
                /** @description Hosts to which links are allowed, with all their subdomains. */
                allow?: string[];
            };
            /** @description Lists of forbidden words and phrases, at most 1,000 in all lists together. */
            words?: {
                /** @description What happens to a comment that contains one of `words`. */
                action: components["schemas"]["Measure"];
                /** @description Whole words or phrases, which are found in any disguise (case, accents, similar letters). `*` at an end stands for more of a word. */
                words: string[];
            }[];
            /** @description Patterns that comments may not contain. */
            patterns?: {
                /** @description What happens to a comment in which `pattern` is found. */
                action: components["schemas"]["Measure"];
                /** @description Regular expression in the syntax of the Rust crate `regex`; upper and lower case are the same. */
                pattern: string;
            }[];
        };
        /** @description Confirmation that the rules of a scope, or their removal, are stored in the log. */
        CommentRulesAnswer: {
            /** @description Id of the action in the audit log (`/moderation/log`). */
            action_id: components["schemas"]["Id"];
            /** @description Id of the video on which the rules are in force; absent if the rules have another scope. */
            videoid?: components["schemas"]["Id"];
            /** @description Id of the owner on whose videos the rules are in force; absent if the rules have another scope. */
            owner_id?: components["schemas"]["Id"];
            /** @description Rules of the scope from now on; null if they were removed. */
            rules: components["schemas"]["CommentRules"] | null;
        };
        /** @description The rules of one scope, with who set them and why. */
        CommentRulesLine: {
            /** @description Id of the video on which the rules are in force; absent if the rules have another scope. */
            videoid?: components["schemas"]["Id"];
            /** @description Id of the owner on whose videos the rules are in force; absent if the rules have another scope. */
            owner_id?: components["schemas"]["Id"];
            /** @description Rules of the scope. */
            rules: components["schemas"]["CommentRules"];
            /** @description Id of the user or service that set the rules. */
            by: components["schemas"]["Id"];
            /** @description Reason for the rules, in words; null if none was given. */
            reason: string | null;
            /**
             * Format: date-time
             * @description Time at which the rules were set.
             */
            since: string;
        };
        /** @description One page of rules for comments. */
        CommentRulesPage: {
            /** @description Rules of the page, one entry for each scope, in the order of their last change. */
            rules: components["schemas"]["CommentRulesLine"][];
            /** @description The `after` of the next page; null if this is the last page. */
            next: number | null;
        };
        /** @description Rules to set in one scope, and the reason. */
        CommentRulesRequest: {
            /** @description Id of the video on which the rules are in force. Without `videoid` and `owner_id`, they are in force everywhere. */
            videoid?: components["schemas"]["OptionalId"];
            /** @description Id of the owner on whose videos the rules are in force. Cannot be used together with `videoid`. */
            owner_id?: components["schemas"]["OptionalId"];
            /** @description Rules that replace all rules of the scope. */
            rules: components["schemas"]["CommentRules"];
            /** @description Reason for the rules, shown in the audit log. */
            reason?: string | null;
        };
        /** @description Greeting, the first event of a comment stream. */
        Connected: {
            /**
             * @description Kind of the event, always `connected`.
             * @constant
             */
            type: "connected";
            /** @description Id of the user who watches the video. */
            userid: components["schemas"]["Id"];
            /** @description Id of the video whose comments the stream sends. */
            videoid: components["schemas"]["Id"];
            /** @description Id of the reader that holds the stream. */
            instance: components["schemas"]["Id"];
        };
        /** @description A number of things, 0 or more. */
        Count: number;
        /** @description Event: a comment was removed. Only viewers who asked for `events=deleted` get it. */
        Deleted: {
            /**
             * @description Kind of the event, always `deleted`.
             * @constant
             */
            type: "deleted";
            /** @description Id of the removed comment. */
            id: components["schemas"]["Id"];
            /** @description Id of the video of the removed comment. */
            videoid: components["schemas"]["Id"];
            /** @description Number (`seq`) of the removed comment; null if it is not known. */
            seq: number | null;
            /**
             * @description Whether the comment's author or a moderator removed the comment.
             * @enum {string}
             */
            by: "author" | "moderator";
            /**
             * Format: date-time
             * @description Time at which the comment was removed.
             */
            timestamp: string;
        };
        /** @description Range of comments that this stream can no longer send; the history (`GET /comments`) may still have them. */
        Gap: {
            /** @description Number (`seq`) of the first missed comment; 0 if it is not known which comments the viewer got. */
            from: number;
            /** @description Number (`seq`) of the last missed comment. */
            to: number;
        };
        /** @description A comment that waits for a moderator. */
        Held: {
            /** @description Id of the comment. */
            id: components["schemas"]["Id"];
            /** @description Id of the video under which the comment was posted. */
            videoid: components["schemas"]["Id"];
            /** @description Id of the user who wrote the comment. */
            userid: components["schemas"]["Id"];
            /** @description Text of the comment. */
            comment: string;
            /** @description Id of the comment to which this comment replies; absent if it is no reply. */
            reply_to?: components["schemas"]["Id"];
            /** @description Rule by which the comment waits: `words`, `links`, `patterns`, `hold_all`, `hook`. */
            rule: string;
            /**
             * Format: date-time
             * @description Time at which the comment was posted.
             */
            timestamp: string;
        };
        /** @description One page of comments that wait for a moderator. */
        HeldPage: {
            /** @description Comments of the page, oldest first. */
            comments: components["schemas"]["Held"][];
            /** @description The `after` of the next page; null if this is the last page. */
            next: string | null;
        };
        /** @description An identifier of 1 to 256 bytes of UTF-8 without control characters. */
        Id: string;
        /** @description One interaction of a user with a video. */
        Interaction: {
            /** @description Id of the video that the user interacted with. */
            video_id: components["schemas"]["Id"];
            /** @description Id of the user who interacted with the video. */
            user_id: components["schemas"]["Id"];
            /**
             * @description Type of the interaction. `unlike` and `unshare` take back the user's earlier like or share. They are accepted only if likes or shares count once per user (setting `unique`); they count for nothing if this user has not liked or shared the video.
             * @enum {string}
             */
            type: "view" | "like" | "comment" | "share" | "watch_time" | "unlike" | "unshare";
            /** @description Seconds that the user watched; required with the type `watch_time`, ignored with other types. */
            watch_time?: number | null;
            /** @description Time of the interaction, as Unix seconds or in RFC 3339, from 1970 to 9999; absent or null means now. */
            timestamp?: number | string | null;
            /** @description Id that the sender chooses for this event, so that it can be sent again: events with the same id of one user for one video within 24 hours count once. */
            event_id?: components["schemas"]["OptionalId"];
            /** @description Id of the video's owner; if no owner is ever given, the owner is the user of the video's first interaction. If viewers need tokens, only the value from a `service` is used, any other is ignored. */
            owner_id?: components["schemas"]["OptionalId"];
        };
        /** @description One line of a page of a ranked list, with the members that were asked for by `fields`. */
        ListedVideo: components["schemas"]["Ranked"] & {
            /** @description Number of viewers connected to the video now, if asked for by `fields`; null while no manager reports it. */
            viewers?: number | null;
            /** @description The most viewers of the video at the same time, for five seconds on end, if asked for by `fields`; null while no manager knows it. */
            peak_viewers?: number | null;
            /** @description Seconds that the video was watched, by all users together, if `fields` asks for `watch_time`; null while the archive is away. */
            watch_time_total?: number | null;
            /** @description What the app stored about the video, if asked for by `fields`; null if the app stored nothing, and while the archive is away. */
            metadata?: components["schemas"]["Metadata"] | null;
        };
        /** @description Report of a manager about itself. */
        ManagerReport: {
            /** @description Id of the manager; the seed's manager has none. */
            instanceId?: components["schemas"]["Name"];
            /** @description Name of the service, as the manager calls itself. */
            service?: components["schemas"]["Name"];
            /** @description Number of videos that are assigned to a reader. */
            registeredVideos?: components["schemas"]["ReportedCount"];
            /** @description Addresses of the readers that accept viewers. */
            availableReaderApis?: components["schemas"]["Names"];
            /** @description Number of registrations that the manager answered since its start. */
            registrationCount?: components["schemas"]["ReportedCount"];
            /** @description Address of the reader of each video. */
            videoMappings?: {
                [key: string]: string | number;
            } | null;
        };
        /**
         * @description What happens to a comment in which something forbidden is found: `reject` refuses it, `mask` puts asterisks in the place of what was found, `hold` makes it wait for a moderator.
         * @enum {string}
         */
        Measure: "reject" | "mask" | "hold";
        /** @description What an app stores about a video; at most 4096 bytes of JSON without blanks. Members that are not listed here are the app's own. */
        Metadata: {
            /** @description Title of the video; not blanks only. */
            title?: string | null;
            /** @description Address of a preview image of the video. */
            thumbnail?: string | null;
            /** @description Category of the video, by which declared boards select videos. */
            category?: string | null;
        };
        /** @description One action in the audit log. Clients ignore members and actions that they do not know. */
        ModerationAction: {
            /**
             * @description Kind of the action. `restrict` sets a ban or a revocation, `lift` ends it; `review` decides on a comment that waits, `close_reports` ends the reports of a comment.
             * @enum {string}
             */
            action: "delete" | "put_video" | "remove_video" | "restrict" | "lift" | "set_rules" | "pin" | "review" | "report" | "close_reports" | "erase_user";
            /** @description Id of the action. */
            action_id: components["schemas"]["Id"];
            /** @description Id of the user or service that did the action. For a `report` it is `liverank:nobody`; `/moderation/reports` has who reported. */
            by: components["schemas"]["Id"];
            /**
             * @description Role in which `by` did the action.
             * @enum {string}
             */
            role: "author" | "owner" | "moderator" | "service" | "viewer";
            /** @description Reason for the action, in the words of `by`. */
            reason?: string;
            /**
             * Format: date-time
             * @description Time of the action, by the log's clock.
             */
            timestamp: string;
            /** @description Id of the video that was put or removed, or of the video of the comment that the action is about. */
            videoid?: components["schemas"]["Id"];
            /** @description Metadata that were stored about the video. */
            metadata?: components["schemas"]["Metadata"];
            /** @description Id of the user who was named as the video's owner. */
            owner_id?: components["schemas"]["Id"];
            /** @description Id of the comment that was removed, pinned, reviewed or reported. */
            comment_id?: components["schemas"]["Id"];
            /** @description Category that the report named as wrong with the comment. */
            why?: components["schemas"]["ReportReason"];
            /** @description Id of the restricted user; for the kind `token`, the id (`jti`) of the revoked token. */
            userid?: components["schemas"]["Id"];
            /**
             * @description Kind of the restriction: as in `BanKind`; `tokens`, if none of the user's tokens is accepted; `token`, if one token is not.
             * @enum {string}
             */
            kind?: "ban" | "mute" | "shadow" | "tokens" | "token";
            /** @description Scope of the action: `everywhere`, or an object with `owner` or `video`. */
            scope?: string | Record<string, never>;
            /**
             * Format: date-time
             * @description Time until which the restriction is in force; null means for good.
             */
            until?: string | null;
            /**
             * @description Decision on a comment that waited for a moderator, or what closed the reports of a comment.
             * @enum {string}
             */
            outcome?: "release" | "reject" | "dismissed" | "deleted" | "banned";
            /** @description Digest of the id of the user who was erased. */
            user?: string;
            /** @description Rules that were set; absent if they were removed. */
            rules?: components["schemas"]["CommentRules"];
        };
        /** @description One page of the audit log. */
        ModerationPage: {
            /** @description Actions of the page, newest first. */
            actions: components["schemas"]["ModerationAction"][];
            /** @description The `before` of the next page, with older actions; null if this is the last page. */
            next: string | null;
            /** @description Actions of the page that a later release wrote and this release does not know; absent if there are none. */
            unknown?: components["schemas"]["UnknownAction"][];
        };
        /** @description A name of at most 512 bytes; a number is accepted, too, for scripts that are named by numbers. */
        Name: string | number | null;
        /** @description Names of at most 512 bytes each. */
        Names: (string | number)[] | null;
        /** @description A comment with its number among the comments of its video. */
        NumberedComment: components["schemas"]["Comment"] & {
            /** @description Number of the comment among the comments of its video, from 1. */
            seq: number;
        };
        /** @description An optional identifier of 1 to 256 bytes of UTF-8 without control characters; null is the same as absent. */
        OptionalId: string | null;
        /** @description One line of an owner's list: a video with its score. */
        OwnRanked: {
            /** @description Id of the video. */
            video_id: components["schemas"]["Id"];
            /** @description Score of the video in points. */
            score: number;
        };
        /** @description Confirmation that the pin, or its end, is stored in the log. */
        PinAnswer: {
            /** @description Id of the action in the audit log (`/moderation/log`). */
            action_id: components["schemas"]["Id"];
            /** @description Id of the video whose pinned comment changed. */
            videoid: components["schemas"]["Id"];
            /** @description Id of the pinned comment; null if no comment is pinned any more. */
            id: string | null;
        };
        /** @description Event: a comment is pinned from now on, or no comment is. Only viewers who asked for `events=pinned` get it. */
        Pinned: {
            /**
             * @description Kind of the event, always `pinned`.
             * @constant
             */
            type: "pinned";
            /** @description Id of the pinned comment; null if no comment is pinned any more. */
            id: string | null;
            /** @description Id of the video whose pinned comment changed. */
            videoid: components["schemas"]["Id"];
            /** @description Number (`seq`) of the pinned comment; null if no comment is pinned any more. */
            seq: number | null;
            /**
             * Format: date-time
             * @description Time at which the comment was pinned or unpinned.
             */
            timestamp: string;
        };
        /** @description Position of a video on one board. */
        Place: {
            /** @description Rank of the video, 1 for the best; null if the video is not on the board. */
            rank: number | null;
            /** @description Number of videos ranked on the board. */
            total: number;
        };
        /** @description Description of an error (RFC 9457). */
        Problem: {
            /** @description URI of the kind of problem; `about:blank` means that the `status` says it. */
            type: string;
            /** @description Name of the HTTP status, in words. */
            title: string;
            /** @description HTTP status of the answer. */
            status: number;
            /** @description What went wrong, in words. */
            detail: string;
            /** @description The same text as `detail`, for clients of the comments seed. */
            error: string;
            /** @description Name of the field that is invalid, as the client spells it; `body` for the whole body. */
            field?: string;
            /** @description Id by which the request is found in the logs: the request's `X-Request-Id` or `traceparent`, if given, else a generated one. The answer's `X-Request-Id` has it, too. */
            request_id?: string;
        };
        /** @description One line of a ranked list: a video with its score and owner. */
        Ranked: {
            /** @description Id of the video. */
            video_id: components["schemas"]["Id"];
            /** @description Score of the video in points. On the board `trending`, and on boards of that order, it is the present value of the points, which halves in every half-life. These scores are updated 64 times a half-life, and whenever the list changes; lists in between are equal. */
            score: number;
            /** @description Id of the video's owner. */
            user_id: components["schemas"]["Id"];
        };
        /** @description One line of a ranked list on a WebSocket, with the members that were asked for by `fields`. */
        RankedVideo: components["schemas"]["Ranked"] & {
            /** @description What the app stored about the video, if asked for by `fields`; null if the app stored nothing, and while the store of metadata is away. */
            metadata?: components["schemas"]["Metadata"] | null;
        };
        /** @description Changes of a ranked list since version `base`. To apply them, remove the videos in `remove`, add or replace the lines in `set`, then sort by score descending and, for equal scores, by the bytes of the video id descending. A line without `metadata` keeps the metadata that it had. */
        RankingDelta: {
            /**
             * @description Kind of the message, always `delta`.
             * @constant
             */
            type: "delta";
            /** @description Version of the list to which the delta applies; it applies to no other version. */
            base: number;
            /** @description Version of the list after the delta. */
            version: number;
            /** @description Number of videos ranked on the board when the delta is sent. */
            total?: number;
            /** @description Ids of the videos that left the list. */
            remove: components["schemas"]["Id"][];
            /** @description Lines that are new in the list, or changed. */
            set: components["schemas"]["RankedVideo"][];
        };
        /** @description A message of `/ws/videos?around=`: the part of a board that has one video in its middle. */
        RankingPart: {
            /** @description Rank of the first video in `videos`; null if `videos` is empty. */
            first_rank: number | null;
            /** @description Number of videos ranked on the board when `videos` last changed. */
            total: number;
            /** @description Lines of this part of the board, best video first. */
            videos: components["schemas"]["RankedVideo"][];
        };
        /** @description The whole ranked list at one version, to which deltas apply. */
        RankingSnapshot: {
            /**
             * @description Kind of the message, always `snapshot`.
             * @constant
             */
            type: "snapshot";
            /** @description Version of the list; deltas lead from it to later versions. */
            version: number;
            /** @description Number of videos ranked on the board. */
            total?: number;
            /** @description Lines of the list, best video first. */
            videos: components["schemas"]["RankedVideo"][];
        };
        /** @description Positions of a video on all boards. */
        Ranks: {
            /** @description Position on the board `global`, by score. */
            global: components["schemas"]["Place"];
            /** @description Position on the board `trending`, by the score that decays. */
            trending: components["schemas"]["Place"];
        } & {
            [key: string]: components["schemas"]["Place"];
        };
        /** @description One user's report of a comment. */
        Report: {
            /** @description Id of the user who reported; `liverank:nobody` if that user was erased. */
            userid: components["schemas"]["Id"];
            /** @description Category of what is wrong with the comment. */
            reason: components["schemas"]["ReportReason"];
            /** @description What is wrong with the comment, in the words of the user who reported; null if there are none. */
            text: string | null;
            /**
             * Format: date-time
             * @description Time of the report.
             */
            timestamp: string;
        };
        /** @description Decision on a reported comment. */
        ReportDecision: {
            /** @description What closed the reports of the comment. */
            outcome: components["schemas"]["ReportOutcome"];
            /** @description Id of the moderator or service that decided; null if the author removed the comment. */
            by: string | null;
            /** @description Reason for the decision, in words; null if none was given. */
            reason: string | null;
            /**
             * Format: date-time
             * @description Time of the decision.
             */
            timestamp: string;
        };
        /**
         * @description What closed the reports of a comment: `dismissed`, the comment was left as it is; `deleted`, the comment was removed, by whomever; `banned`, its author was banned.
         * @enum {string}
         */
        ReportOutcome: "dismissed" | "deleted" | "banned";
        /** @description One page of reported comments. */
        ReportPage: {
            /** @description Reported comments of the page. */
            comments: components["schemas"]["ReportedComment"][];
            /** @description The `after` of the next page; null if this is the last page. */
            next: string | null;
        };
        /**
         * @description Category of what is wrong with a comment.
         * @enum {string}
         */
        ReportReason: "spam" | "harassment" | "hate" | "violence" | "sexual" | "self_harm" | "other";
        /** @description A comment that was reported, with its reports and the decision. */
        ReportedComment: {
            /** @description Id of the video of the reported comment. */
            videoid: components["schemas"]["Id"];
            /** @description Id of the reported comment. */
            id: components["schemas"]["Id"];
            /** @description Id of the user who wrote the comment; null if the comment was removed. */
            userid: string | null;
            /** @description Text of the comment; null if the comment was removed. */
            comment: string | null;
            /** @description Number of users who reported the comment. */
            count: number;
            /** @description Reports of the comment, first report first. */
            reports: components["schemas"]["Report"][];
            /** @description Decision on the comment; null while it waits for one. */
            decision: components["schemas"]["ReportDecision"] | null;
        };
        /** @description A number of things, 0 or more; null is the same as absent. */
        ReportedCount: number | null;
        /** @description Numbers of things, by name. */
        ReportedCounts: {
            [key: string]: number;
        } | null;
        /** @description A name of at most 512 bytes. */
        RequiredName: string | number;
        /** @description One reader, as it last reported itself. */
        ShownReader: {
            /** @description Id of the reader. */
            instanceId: string;
            /** @description Number of viewers connected to the reader. */
            activeConnections: components["schemas"]["Count"];
            /** @description Maximum number of viewers that the reader can hold; absent if the reader does not report it. */
            capacity?: components["schemas"]["Count"];
            /** @description Channels that the reader is subscribed to; a channel is the comments of one video. */
            subscribedTopics: string[];
            /** @description Number of comments that the reader wrote to viewers since its start. */
            messagesSent: components["schemas"]["Count"];
        };
        /** @description The last reports of all services and clients. */
        Statistics: {
            /** @description Reports of all comment services, added up. */
            commentApi: components["schemas"]["CommentReport"];
            /** @description Reports of the readers. */
            readerApis: {
                /** @description Number of readers that report. */
                totalReaders: components["schemas"]["Count"];
                /** @description Number of viewers connected to all readers together. */
                totalActiveConnections: components["schemas"]["Count"];
                /** @description Number of comments that the readers wrote to viewers since their start. */
                totalMessagesSent: components["schemas"]["Count"];
                /** @description Channels that the readers are subscribed to; a channel is the comments of one video. */
                allSubscribedTopics: string[];
                /** @description The report of each reader; at most the first hundred, unless `full`. */
                readers: components["schemas"]["ShownReader"][];
            };
            /** @description Reports of all managers, merged. */
            readerApiManager: components["schemas"]["ManagerReport"];
            /** @description Reports of clients about themselves, as the comments seed's clients send them. */
            clients: {
                /** @description Number of clients that report. */
                totalClients: components["schemas"]["Count"];
                /** @description Number of comments that the clients posted. */
                totalCommentsGenerated: components["schemas"]["Count"];
                /** @description Number of comments that the clients received. */
                totalCommentsConsumed: components["schemas"]["Count"];
                /** @description The report of each client; at most the first hundred, unless `full`. */
                clients: components["schemas"]["ClientReport"][];
            };
            /** @description Size of the archive. */
            storedComments: {
                /** @description Number of comments in the archive; null before the archive was first asked. */
                totalComments: number | null;
            };
            /**
             * Format: date-time
             * @description Time at which this answer was made.
             */
            timestamp: string;
        };
        /** @description An action in the audit log whose record this release does not know. */
        UnknownAction: {
            /**
             * Format: date-time
             * @description Time of the action, by the log's clock.
             */
            timestamp: string;
            /** @description Version number that the record states; null if it states none. */
            version: number | null;
        };
        /** @description One video with its counters, viewers and ranks. */
        Video: {
            /** @description Id of the video. */
            video_id: components["schemas"]["Id"];
            /** @description Id of the video's owner. */
            user_id: components["schemas"]["Id"];
            /** @description Score of the video in points. */
            score: number;
            /** @description Number of interactions of the type `view`. */
            views: components["schemas"]["Count"];
            /** @description Number of interactions of the type `like`. */
            likes: components["schemas"]["Count"];
            /** @description Number of interactions of the type `comment`, posted comments included. */
            comments: components["schemas"]["Count"];
            /** @description Number of interactions of the type `share`. */
            shares: components["schemas"]["Count"];
            /** @description Seconds that the video was watched, by all users together. */
            watch_time_total: number;
            /** @description Points that all watching of the video is worth together. */
            watch_time_score: number;
            /** @description Number of watches shorter than the threshold (2 seconds unless configured otherwise). */
            watch_short: components["schemas"]["Count"];
            /** @description Number of watches of the threshold (2 seconds unless configured otherwise) or longer. */
            watch_long: components["schemas"]["Count"];
            /** @description Number of viewers connected to the video now; null while no manager reports it. */
            viewers: number | null;
            /** @description The most viewers of the video at the same time, for five seconds on end; null while no manager knows it. */
            peak_viewers: number | null;
            /** @description Position of the video on each board; null while the store of boards is away. */
            ranks: components["schemas"]["Ranks"] | null;
            /** @description What the app stored about the video; null if it stored nothing. */
            metadata?: components["schemas"]["Metadata"] | null;
            /** @description Whether the video was removed from the boards by `DELETE`. */
            removed?: boolean;
            /** @description Pinned comment of the video; absent if no comment is pinned. */
            pinned?: components["schemas"]["NumberedComment"];
        };
        /** @description One page of a ranked list. */
        VideoPage: {
            /** @description Videos of the page, best first. */
            videos: components["schemas"]["ListedVideo"][];
            /** @description The `cursor` of the next page; null if this is the last page. */
            next: string | null;
            /** @description Rank of the first video of the page; the best video of the board has rank 1. */
            first_rank: number;
            /** @description Number of videos ranked on the board. */
            total: number;
            /** @description Window that the list is of; absent if the board has no windows. */
            window?: components["schemas"]["BoardWindow"];
            /** @description Half-life that only this board has; absent if it has none of its own. */
            decay?: components["schemas"]["BoardDecay"];
        };
        /** @description Number of viewers that a video has now. */
        ViewerCount: {
            /** @description Number of viewers connected to the video, at all readers together. */
            viewers: components["schemas"]["Count"];
        };
    };
    responses: never;
    parameters: never;
    requestBodies: never;
    headers: never;
    pathItems: never;
}
export type $defs = Record<string, never>;
export type operations = Record<string, never>;
