/** Made by `npm run schema` from services/gateway/openapi/openapi.yaml. Do not edit. */

export type paths = Record<string, never>;
export type webhooks = Record<string, never>;
export interface components {
    schemas: {
        /** @description The log has the interaction durably. */
        Acknowledged: {
            /** @description The sender's, or one that was made up, by which nothing can be sent again. */
            event_id: components["schemas"]["Id"];
        };
        /** @description A ban or a mute. */
        Ban: {
            /** @description The user. */
            userid: components["schemas"]["Id"];
            /** @description What it is. */
            kind: components["schemas"]["BanKind"];
            /** @description On this video. */
            videoid?: components["schemas"]["Id"];
            /** @description On this owner's videos. */
            owner_id?: components["schemas"]["Id"];
            /**
             * Format: date-time
             * @description Until when; null is for good.
             */
            until: string | null;
            /** @description Who did it. */
            by: components["schemas"]["Id"];
            /** @description Why. */
            reason: string | null;
            /**
             * Format: date-time
             * @description When.
             */
            since: string;
        };
        /** @description What was written into the log. */
        BanAnswer: {
            /** @description The action in the audit log. */
            action_id: components["schemas"]["Id"];
            /** @description The user. */
            userid: components["schemas"]["Id"];
            /** @description What it is. */
            kind: components["schemas"]["BanKind"];
            /** @description On this video. */
            videoid?: components["schemas"]["Id"];
            /** @description On this owner's videos. */
            owner_id?: components["schemas"]["Id"];
            /**
             * Format: date-time
             * @description Until when; null is for good.
             */
            until?: string | null;
        };
        /**
         * @description `ban` and `mute` refuse the user's comments; they are two, so that one may end while the other goes on: `ban` for one who misbehaved, `mute` for one who is to be quiet for a while. `shadow` takes the comments, and shows them to the user alone.
         * @default ban
         * @enum {string}
         */
        BanKind: "ban" | "mute" | "shadow";
        /** @description One page of bans and mutes. */
        BanPage: {
            /** @description The page. */
            bans: components["schemas"]["Ban"][];
            /** @description The `after` of the page after this one; null at the end. */
            next: number | null;
        };
        /** @description Whom to refuse, where, for how long, and why. */
        BanRequest: {
            /** @description The user. */
            userid: components["schemas"]["Id"];
            /** @description What it is. */
            kind?: components["schemas"]["BanKind"];
            /** @description On this video. */
            videoid?: components["schemas"]["OptionalId"];
            /** @description On this owner's videos. Not together with `videoid`. */
            owner_id?: components["schemas"]["OptionalId"];
            /** @description For how long; for good where it is absent. */
            seconds?: number | null;
            /** @description Why, for the audit log. */
            reason?: string | null;
        };
        /** @description The half-life that a board has of its own. */
        BoardDecay: {
            /** @description After how many minutes an interaction counts half. */
            half_life_minutes: number;
            /** @description Whether all that happened is in its points, and not only what came after the half-life was declared; null while the archive is away, or does not count by it yet. */
            whole: boolean | null;
            /** @description Where not all is in its points: what came later than this is, in milliseconds since the Unix epoch. */
            whole_after?: number;
        };
        /** @description A board, and what is on it. */
        BoardDescription: {
            /** @description What it is called in `board=`. */
            name: string;
            /**
             * @description By what it is ordered: points, or points that decay.
             * @enum {string}
             */
            order: "points" | "trending";
            /** @description Whether it was declared; else it is one of those that there always are. */
            declared: boolean;
            /** @description How long points that decay take to halve; null where none decay, and while the store of boards is away or empty. */
            half_life_seconds: number | null;
            /** @description Of the videos on it; null where it has those of all. */
            category: string | null;
            /** @description From how many points on a video is on it. */
            minimum: number;
            /** @description Its windows; null where it has none. */
            windows: components["schemas"]["BoardWindows"] | null;
        };
        /** @description A window of a board. */
        BoardWindow: {
            /** @description What it is called in `window=`. */
            name: string;
            /** @description When it begins, in milliseconds since the Unix epoch. */
            start: number;
            /** @description When it ends: what happens then is in the next one. */
            end: number;
            /**
             * @description `running`; `ended`, where what happened in it may still be on its way to the list, or a store that knows is away; `final`, where the list has all of it.
             * @enum {string}
             */
            state: "running" | "ended" | "final";
            /** @description Whether all that happened in it is counted in it, and not only what came after windows were declared; null while the archive is away. */
            whole: boolean | null;
        };
        /** @description The windows of a board. */
        BoardWindows: {
            /**
             * @description How long one is.
             * @enum {string}
             */
            unit: "hour" | "day" | "week";
            /** @description By which hours, days and weeks begin; a name of the IANA's database. */
            time_zone: string;
            /** @description The one that runs now. */
            running: components["schemas"]["BoardWindow"];
            /** @description Those that have ended and are kept, the last one first. */
            ended: components["schemas"]["BoardWindow"][];
            /** @description The half-life of the board; absent where it has none of its own. */
            decay?: components["schemas"]["BoardDecay"];
        };
        /** @description The boards. */
        Boards: {
            /** @description Those that there always are first, then the declared ones in the order of their declaration. */
            boards: components["schemas"]["BoardDescription"][];
        };
        /** @description What a client reports. */
        ClientReport: {
            /** @description Its name. */
            clientId: components["schemas"]["RequiredName"];
            /** @description As whom it watches. */
            userId?: components["schemas"]["Name"];
            /** @description What it watches. */
            videoId?: components["schemas"]["Name"];
            /** @description Comments that it posted. */
            commentsGenerated?: components["schemas"]["ReportedCount"];
            /** @description Comments that it received. */
            commentsConsumed?: components["schemas"]["ReportedCount"];
            /** @description The channels that it follows. */
            subscribedTopics?: components["schemas"]["Names"];
            /** @description The reader that it is connected to. */
            connectedReader?: components["schemas"]["Name"];
        };
        /** @description A comment. */
        Comment: {
            /** @description Its identity. */
            id: components["schemas"]["Id"];
            /** @description Who wrote it. */
            userid: components["schemas"]["Id"];
            /** @description Under which video. */
            videoid: components["schemas"]["Id"];
            /** @description What it says. */
            comment: string;
            /**
             * Format: date-time
             * @description When it was posted.
             */
            timestamp: string;
            /** @description The comment that it replies to; absent where it replies to none. */
            reply_to?: components["schemas"]["Id"];
        };
        /** @description One page of a video's comments. */
        CommentPage: {
            /** @description The page, newest first. */
            comments: components["schemas"]["NumberedComment"][];
            /** @description The `before` of the page of older comments; null at the first. */
            next: number | null;
            /** @description The `after` of the page of newer comments; absent where there were none when this was asked. */
            newer?: number;
            /** @description The pinned comment, with the newest page; absent where none is. */
            pinned?: components["schemas"]["NumberedComment"];
        };
        /** @description What a comment service reports. */
        CommentReport: {
            /** @description Its name; the seed's service has none. */
            instanceId?: components["schemas"]["Name"];
            /** @description Comments taken since its start. */
            totalComments?: components["schemas"]["ReportedCount"];
            /** @description The same by video. */
            commentsByVideo?: components["schemas"]["ReportedCounts"];
            /** @description Videos commented on. */
            activeTopics?: components["schemas"]["Names"];
            /** @description Readers that listen to each channel. */
            topicSubscribers?: components["schemas"]["ReportedCounts"];
        };
        /** @description What comments must be like. What is absent is no rule; all of it is at most 8 KiB as JSON. */
        CommentRules: {
            /** @description A user may comment once in so many seconds. */
            slow_seconds?: number;
            /** @description Only users whose token has the role `member` may comment. */
            members_only?: boolean;
            /** @description The longest comment, in characters. */
            max_chars?: number;
            /** @description For so long a user may not say the same again. */
            own_repeat_seconds?: number;
            /** @description For so long nobody may say the same again. */
            any_repeat_seconds?: number;
            /** @description Every comment waits for a moderator. */
            hold_all?: boolean;
            /** @description Links. */
            links?: {
                /** @description What happens to a comment with a link. */
                action: components["schemas"]["Measure"];
                /** @description Hosts that may be linked to, with all below them. */
                allow?: string[];
            };
            /** @description Words and phrases; at most 1,000 in all lists. */
            words?: {
                /** @description What happens to a comment with one of them. */
                action: components["schemas"]["Measure"];
                /** @description Whole words, in any disguise; `*` at an end stands for more of a word. */
                words: string[];
            }[];
            /** @description Patterns. */
            patterns?: {
                /** @description What happens to a comment in which it is found. */
                action: components["schemas"]["Measure"];
                /** @description A regular expression in the syntax of the Rust crate `regex`, whatever the case. */
                pattern: string;
            }[];
        };
        /** @description What was written into the log. */
        CommentRulesAnswer: {
            /** @description The action in the audit log. */
            action_id: components["schemas"]["Id"];
            /** @description Of this video. */
            videoid?: components["schemas"]["Id"];
            /** @description Of this owner's videos. */
            owner_id?: components["schemas"]["Id"];
            /** @description The rules; null where there are none any more. */
            rules: components["schemas"]["CommentRules"] | null;
        };
        /** @description The rules of a place. */
        CommentRulesLine: {
            /** @description Of this video. */
            videoid?: components["schemas"]["Id"];
            /** @description Of this owner's videos. */
            owner_id?: components["schemas"]["Id"];
            /** @description The rules. */
            rules: components["schemas"]["CommentRules"];
            /** @description Who set them. */
            by: components["schemas"]["Id"];
            /** @description Why. */
            reason: string | null;
            /**
             * Format: date-time
             * @description When.
             */
            since: string;
        };
        /** @description One page of rules of comments. */
        CommentRulesPage: {
            /** @description The page. */
            rules: components["schemas"]["CommentRulesLine"][];
            /** @description The `after` of the page after this one; null at the end. */
            next: number | null;
        };
        /** @description The rules of a place, and why. */
        CommentRulesRequest: {
            /** @description Of this video. */
            videoid?: components["schemas"]["OptionalId"];
            /** @description Of this owner's videos. Not together with `videoid`. */
            owner_id?: components["schemas"]["OptionalId"];
            /** @description The rules. */
            rules: components["schemas"]["CommentRules"];
            /** @description Why, for the audit log. */
            reason?: string | null;
        };
        /** @description The first event of a comment stream. */
        Connected: {
            /**
             * @description Which kind of event this is.
             * @constant
             */
            type: "connected";
            /** @description Who watches. */
            userid: components["schemas"]["Id"];
            /** @description What is watched. */
            videoid: components["schemas"]["Id"];
            /** @description The reader that holds the stream. */
            instance: components["schemas"]["Id"];
        };
        /** @description How many. */
        Count: number;
        /** @description A comment was removed. Only viewers who asked for it are told. */
        Deleted: {
            /**
             * @description Which kind of event this is.
             * @constant
             */
            type: "deleted";
            /** @description The comment. */
            id: components["schemas"]["Id"];
            /** @description The video. */
            videoid: components["schemas"]["Id"];
            /** @description The comment's number; null where none is known. */
            seq: number | null;
            /**
             * @description Who removed it.
             * @enum {string}
             */
            by: "author" | "moderator";
            /**
             * Format: date-time
             * @description When.
             */
            timestamp: string;
        };
        /** @description Comments that can no longer be had on this stream; the history may have them. */
        Gap: {
            /** @description The number of the first; 0 where nobody knows what was seen. */
            from: number;
            /** @description The number of the last. */
            to: number;
        };
        /** @description A comment that waits for a moderator. */
        Held: {
            /** @description The comment. */
            id: components["schemas"]["Id"];
            /** @description Its video. */
            videoid: components["schemas"]["Id"];
            /** @description Who wrote it. */
            userid: components["schemas"]["Id"];
            /** @description What it says. */
            comment: string;
            /** @description The comment that it replies to. */
            reply_to?: components["schemas"]["Id"];
            /** @description By which rule it waits: `words`, `links`, `patterns`, `hold_all`, `hook`. */
            rule: string;
            /**
             * Format: date-time
             * @description When it was posted.
             */
            timestamp: string;
        };
        /** @description One page of comments that wait. */
        HeldPage: {
            /** @description The page, oldest first. */
            comments: components["schemas"]["Held"][];
            /** @description The `after` of the page after this one; null at the end. */
            next: string | null;
        };
        /** @description 1 to 256 bytes of UTF-8 without control characters. */
        Id: string;
        /** @description What a viewer did. */
        Interaction: {
            /** @description The video that it was done to. */
            video_id: components["schemas"]["Id"];
            /** @description Who did it. */
            user_id: components["schemas"]["Id"];
            /**
             * @description What was done. `unlike` and `unshare` take back what the user did before; they are taken where likes or shares count once per user (setting `unique`), and where this user has not done it they count for nothing.
             * @enum {string}
             */
            type: "view" | "like" | "comment" | "share" | "watch_time" | "unlike" | "unshare";
            /** @description Seconds watched; required with the type `watch_time`, passed over with the others. */
            watch_time?: number | null;
            /** @description When, as Unix seconds or in RFC 3339, from 1970 to 9999; now where absent. */
            timestamp?: number | string | null;
            /** @description What the sender calls this event; sent twice by one user for one video within 24 hours it counts once. */
            event_id?: components["schemas"]["OptionalId"];
            /** @description The video's owner; where none is ever given, the user of its first interaction. Where tokens are asked for, it counts from a `service` only, and is left out otherwise. */
            owner_id?: components["schemas"]["OptionalId"];
        };
        /** @description A line of a page, with what was asked for by `fields`. */
        ListedVideo: components["schemas"]["Ranked"] & {
            /** @description Connected now, where it was asked for; null while no manager says so. */
            viewers?: number | null;
            /** @description What the app says of it, where it was asked for; null where it says nothing, and while the archive is away. */
            metadata?: components["schemas"]["Metadata"] | null;
        };
        /** @description What a manager reports. */
        ManagerReport: {
            /** @description Its name; the seed's manager has none. */
            instanceId?: components["schemas"]["Name"];
            /** @description What it calls itself. */
            service?: components["schemas"]["Name"];
            /** @description Videos that have a reader. */
            registeredVideos?: components["schemas"]["ReportedCount"];
            /** @description Addresses of the readers that take viewers. */
            availableReaderApis?: components["schemas"]["Names"];
            /** @description Registrations answered since its start. */
            registrationCount?: components["schemas"]["ReportedCount"];
            /** @description The address of each video's reader. */
            videoMappings?: {
                [key: string]: string | number;
            } | null;
        };
        /**
         * @description What happens to a comment in which something is found. `mask` puts stars in its place; with `hold` the comment waits for a moderator.
         * @enum {string}
         */
        Measure: "reject" | "mask" | "hold";
        /** @description What an app says of a video; at most 4096 bytes of JSON without blanks. Other members are the app's own. */
        Metadata: {
            /** @description Its title, which is not only blanks. */
            title?: string | null;
            /** @description The address of an image. */
            thumbnail?: string | null;
            /** @description What it belongs to. */
            category?: string | null;
        };
        /** @description Something that was done. Clients pass over members and actions that they do not know. */
        ModerationAction: {
            /**
             * @description What was done.
             * @enum {string}
             */
            action: "delete" | "put_video" | "remove_video" | "restrict" | "lift" | "set_rules" | "pin" | "review" | "report" | "close_reports" | "erase_user";
            /** @description Its identity. */
            action_id: components["schemas"]["Id"];
            /** @description Who did it; of a `report`, `liverank:nobody`: who reported is in `/moderation/reports`. */
            by: components["schemas"]["Id"];
            /**
             * @description As what.
             * @enum {string}
             */
            role: "author" | "owner" | "moderator" | "service" | "viewer";
            /** @description Why, in that one's words. */
            reason?: string;
            /**
             * Format: date-time
             * @description When, by the log's clock.
             */
            timestamp: string;
            /** @description The video that was put or removed, or of the comment that it is about. */
            videoid?: components["schemas"]["Id"];
            /** @description What was said of the video. */
            metadata?: components["schemas"]["Metadata"];
            /** @description Who was said to be its owner. */
            owner_id?: components["schemas"]["Id"];
            /** @description The comment that it is about: removed, pinned, reviewed, reported. */
            comment_id?: components["schemas"]["Id"];
            /** @description What was reported. */
            why?: components["schemas"]["ReportReason"];
            /** @description Who was restricted; of a `token`, its identity (`jti`). */
            userid?: components["schemas"]["Id"];
            /**
             * @description In what: as in `BanKind`; `tokens`: none of the user's tokens is taken; `token`: one token is not.
             * @enum {string}
             */
            kind?: "ban" | "mute" | "shadow" | "tokens" | "token";
            /** @description `everywhere`, or an object with `owner` or `video`. */
            scope?: string | Record<string, never>;
            /**
             * Format: date-time
             * @description Until when.
             */
            until?: string | null;
            /**
             * @description What became of a comment that waited, or of the reports of one.
             * @enum {string}
             */
            outcome?: "release" | "reject" | "dismissed" | "deleted" | "banned";
            /** @description Who was erased, as a digest of the name. */
            user?: string;
            /** @description The rules that were set; absent where they were taken away. */
            rules?: components["schemas"]["CommentRules"];
        };
        /** @description One page of the audit log. */
        ModerationPage: {
            /** @description The page, newest first. */
            actions: components["schemas"]["ModerationAction"][];
            /** @description The `before` of the page after this one; null at the end. */
            next: string | null;
            /** @description Actions of this page that a later release wrote and this one does not know; absent where there are none. */
            unknown?: components["schemas"]["UnknownAction"][];
        };
        /** @description Up to 512 bytes; scripts may call themselves by numbers. */
        Name: string | number | null;
        /** @description Names, up to 512 bytes each. */
        Names: (string | number)[] | null;
        /** @description A comment with its number. */
        NumberedComment: components["schemas"]["Comment"] & {
            /** @description Its number among the video's comments. */
            seq: number;
        };
        /** @description 1 to 256 bytes of UTF-8 without control characters; null is the same as none. */
        OptionalId: string | null;
        /** @description One line of an owner's list. */
        OwnRanked: {
            /** @description The video. */
            video_id: components["schemas"]["Id"];
            /** @description In points. */
            score: number;
        };
        /** @description What was written into the log. */
        PinAnswer: {
            /** @description The action in the audit log. */
            action_id: components["schemas"]["Id"];
            /** @description The video. */
            videoid: components["schemas"]["Id"];
            /** @description The comment; null where none is pinned any more. */
            id: string | null;
        };
        /** @description A comment is pinned from now on, or none. Only viewers who asked for it are told. */
        Pinned: {
            /**
             * @description Which kind of event this is.
             * @constant
             */
            type: "pinned";
            /** @description The comment; null where none is pinned any more. */
            id: string | null;
            /** @description The video. */
            videoid: components["schemas"]["Id"];
            /** @description The comment's number. */
            seq: number | null;
            /**
             * Format: date-time
             * @description When.
             */
            timestamp: string;
        };
        /** @description Where a video stands on a board. */
        Place: {
            /** @description 1 for the best; null where it is not on the board. */
            rank: number | null;
            /** @description How many videos are ranked on the board. */
            total: number;
        };
        /** @description What went wrong (RFC 9457). */
        Problem: {
            /** @description The kind of problem; `about:blank` means that the status says it. */
            type: string;
            /** @description The status in words. */
            title: string;
            /** @description The status of the answer. */
            status: number;
            /** @description What went wrong. */
            detail: string;
            /** @description The same as `detail`, for clients of the comments seed. */
            error: string;
            /** @description Which field is wrong, as the client spells it; `body` for the whole. */
            field?: string;
            /** @description Finds the request in the logs. It is that of the request's `X-Request-Id` or `traceparent`, where these are given, and stands in the answer's `X-Request-Id`. */
            request_id?: string;
        };
        /** @description One line of a ranked list. */
        Ranked: {
            /** @description The video. */
            video_id: components["schemas"]["Id"];
            /** @description In points. On the trending board, and on those of its order, what the points are worth now: they halve in every half-life. They are brought up to date 64 times a half-life, and whenever the list changes; lists in between are equal. */
            score: number;
            /** @description The video's owner. */
            user_id: components["schemas"]["Id"];
        };
        /** @description A line of a list that is pushed, with what was asked for by `fields`. */
        RankedVideo: components["schemas"]["Ranked"] & {
            /** @description What the app says of the video, where it was asked for; null where it says nothing, and while the store that has it is away. */
            metadata?: components["schemas"]["Metadata"] | null;
        };
        /** @description What changed since version `base`: remove, then set, then sort by score descending and, where it is equal, by the bytes of the id descending. A line without `metadata` has those that it had. */
        RankingDelta: {
            /**
             * @description Which kind of message this is.
             * @constant
             */
            type: "delta";
            /** @description The version that it applies to; to another it does not. */
            base: number;
            /** @description The version that it leads to. */
            version: number;
            /** @description How many videos are ranked on the board when this is sent. */
            total?: number;
            /** @description Videos that left the list. */
            remove: components["schemas"]["Id"][];
            /** @description Lines that are new, or changed. */
            set: components["schemas"]["RankedVideo"][];
        };
        /** @description A message of `/ws/videos?around=`. The lines of a board that have a video in their middle. */
        RankingPart: {
            /** @description The rank of the first of them; null where there are none. */
            first_rank: number | null;
            /** @description How many videos were ranked on the board when these lines last changed. */
            total: number;
            /** @description They, best first. */
            videos: components["schemas"]["RankedVideo"][];
        };
        /** @description The whole list, at a version. */
        RankingSnapshot: {
            /**
             * @description Which kind of message this is.
             * @constant
             */
            type: "snapshot";
            /** @description Changes of later versions apply to it. */
            version: number;
            /** @description How many videos are ranked on the board. */
            total?: number;
            /** @description The list, best first. */
            videos: components["schemas"]["RankedVideo"][];
        };
        /** @description Where a video stands on each board. */
        Ranks: {
            /** @description By score. */
            global: components["schemas"]["Place"];
            /** @description By the score that decays. */
            trending: components["schemas"]["Place"];
        } & {
            [key: string]: components["schemas"]["Place"];
        };
        /** @description A user's report. */
        Report: {
            /** @description Who reported; `liverank:nobody` where that user was erased. */
            userid: components["schemas"]["Id"];
            /** @description What is wrong. */
            reason: components["schemas"]["ReportReason"];
            /** @description The same in the user's words. */
            text: string | null;
            /**
             * Format: date-time
             * @description When.
             */
            timestamp: string;
        };
        /** @description What was decided. */
        ReportDecision: {
            /** @description What. */
            outcome: components["schemas"]["ReportOutcome"];
            /** @description Which moderator or service; null where the author removed the comment. */
            by: string | null;
            /** @description Why. */
            reason: string | null;
            /**
             * Format: date-time
             * @description When.
             */
            timestamp: string;
        };
        /**
         * @description What ended the reports of a comment. `deleted`: the comment was removed, by whomever.
         * @enum {string}
         */
        ReportOutcome: "dismissed" | "deleted" | "banned";
        /** @description One page of reported comments. */
        ReportPage: {
            /** @description The page. */
            comments: components["schemas"]["ReportedComment"][];
            /** @description The `after` of the page after this one; null at the end. */
            next: string | null;
        };
        /**
         * @description What is wrong with a comment.
         * @enum {string}
         */
        ReportReason: "spam" | "harassment" | "hate" | "violence" | "sexual" | "self_harm" | "other";
        /** @description A comment that was reported. */
        ReportedComment: {
            /** @description Its video. */
            videoid: components["schemas"]["Id"];
            /** @description The comment. */
            id: components["schemas"]["Id"];
            /** @description Who wrote it; null where it was removed. */
            userid: string | null;
            /** @description What it says; null where it was removed. */
            comment: string | null;
            /** @description How many users reported it. */
            count: number;
            /** @description Their reports, the first one first. */
            reports: components["schemas"]["Report"][];
            /** @description What was decided; null while it waits for that. */
            decision: components["schemas"]["ReportDecision"] | null;
        };
        /** @description How many. */
        ReportedCount: number | null;
        /** @description How many, by name. */
        ReportedCounts: {
            [key: string]: number;
        } | null;
        /** @description Up to 512 bytes. */
        RequiredName: string | number;
        /** @description One reader as it reported itself. */
        ShownReader: {
            /** @description Its name. */
            instanceId: string;
            /** @description Viewers connected to it. */
            activeConnections: components["schemas"]["Count"];
            /** @description Viewers that it may hold; absent where it does not say. */
            capacity?: components["schemas"]["Count"];
            /** @description The channels that it listens to. */
            subscribedTopics: string[];
            /** @description Comments written to viewers since its start. */
            messagesSent: components["schemas"]["Count"];
        };
        /** @description What every service reported last. */
        Statistics: {
            /** @description What the comment services report, added up. */
            commentApi: components["schemas"]["CommentReport"];
            /** @description The readers. */
            readerApis: {
                /** @description Readers that report. */
                totalReaders: components["schemas"]["Count"];
                /** @description Their viewers in all. */
                totalActiveConnections: components["schemas"]["Count"];
                /** @description Comments that they wrote to viewers since their start. */
                totalMessagesSent: components["schemas"]["Count"];
                /** @description The channels that they listen to. */
                allSubscribedTopics: string[];
                /** @description Each, the first hundred unless `full`. */
                readers: components["schemas"]["ShownReader"][];
            };
            /** @description What the managers report, merged. */
            readerApiManager: components["schemas"]["ManagerReport"];
            /** @description Clients that report themselves, as the comments seed's do. */
            clients: {
                /** @description Clients that report. */
                totalClients: components["schemas"]["Count"];
                /** @description Comments that they posted. */
                totalCommentsGenerated: components["schemas"]["Count"];
                /** @description Comments that they received. */
                totalCommentsConsumed: components["schemas"]["Count"];
                /** @description Each, the first hundred unless `full`. */
                clients: components["schemas"]["ClientReport"][];
            };
            /** @description What the archive holds. */
            storedComments: {
                /** @description Comments in it; null before it was asked. */
                totalComments: number | null;
            };
            /**
             * Format: date-time
             * @description When this was put together.
             */
            timestamp: string;
        };
        /** @description Something that was done, in a record that this release does not know. */
        UnknownAction: {
            /**
             * Format: date-time
             * @description When, by the log's clock.
             */
            timestamp: string;
            /** @description The version that the record says it has. */
            version: number | null;
        };
        /** @description One video with its counts. */
        Video: {
            /** @description The video. */
            video_id: components["schemas"]["Id"];
            /** @description Its owner. */
            user_id: components["schemas"]["Id"];
            /** @description In points. */
            score: number;
            /** @description Interactions of the type `view`. */
            views: components["schemas"]["Count"];
            /** @description Interactions of the type `like`. */
            likes: components["schemas"]["Count"];
            /** @description Interactions of the type `comment`, posted ones included. */
            comments: components["schemas"]["Count"];
            /** @description Interactions of the type `share`. */
            shares: components["schemas"]["Count"];
            /** @description Seconds watched in all. */
            watch_time_total: number;
            /** @description What watching is worth in all, in points. */
            watch_time_score: number;
            /** @description Times that it was watched for less than the threshold. */
            watch_short: components["schemas"]["Count"];
            /** @description Times that it was watched for the threshold or longer. */
            watch_long: components["schemas"]["Count"];
            /** @description Connected now; null while no manager says so. */
            viewers: number | null;
            /** @description Where it stands on each board; null while the boards are away. */
            ranks: components["schemas"]["Ranks"] | null;
            /** @description What the app says of it; null where it says nothing. */
            metadata?: components["schemas"]["Metadata"] | null;
            /** @description Whether it was taken off the boards, by `DELETE`. */
            removed?: boolean;
            /** @description Its pinned comment; absent where none is. */
            pinned?: components["schemas"]["NumberedComment"];
        };
        /** @description One page of a ranked list. */
        VideoPage: {
            /** @description The page, best first. */
            videos: components["schemas"]["ListedVideo"][];
            /** @description The `cursor` of the page after this one; null at the end. */
            next: string | null;
            /** @description The rank of the first video of the page; the best of the board has rank 1. */
            first_rank: number;
            /** @description How many videos are ranked on the board. */
            total: number;
            /** @description The window that the list is of; absent where the board has none. */
            window?: components["schemas"]["BoardWindow"];
        };
        /** @description How many viewers the video has now. */
        ViewerCount: {
            /** @description Connected to any reader. */
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
