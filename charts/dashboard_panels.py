"""What the dashboards show. `OURS` in an expression becomes the selector of the namespaces that are looked at."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Panel:
    title: str
    unit: str
    # Pairs of an expression and what its lines are called.
    queries: tuple
    words: str = ""
    # The alert on the same value: its bound is drawn.
    alert: str = ""
    width: int = 8
    height: int = 0
    kind: str = "timeseries"
    stacked: bool = False


@dataclass(frozen=True)
class Annotation:
    name: str
    colour: str
    expression: str
    title: str
    text: str
    tags: str


@dataclass(frozen=True)
class Dashboard:
    name: str
    title: str
    words: str
    # Pairs of a heading and its panels.
    sections: tuple
    annotations: tuple = ()


PER_SECOND, SECONDS, COUNT, SHARE, BYTES, RATE_OF_BYTES = "ops", "s", "short", "percentunit", "bytes", "Bps"
PROCESS = "{{pod}} {{reader}} {{instance}}"


def rate(metric, *by, more=""):
    """How often a second, by these labels."""
    names = ", ".join(("namespace", *by))
    return f"sum by ({names}) (rate({metric}{{OURS{more}}}[$__rate_interval]))"


def quantile(share, metric, *by):
    names = ", ".join(("namespace", *by, "le"))
    return f"histogram_quantile({share}, sum by ({names}) (rate({metric}_bucket{{OURS}}[$__rate_interval])))"


def quantiles(metric, *by):
    label = " ".join(f"{{{{{name}}}}}" for name in by)
    return tuple((quantile(share, metric, *by), f"{said} {label}".strip()) for share, said in ((0.5, "half"), (0.99, "99 of 100")))


def highest(metric, *by):
    return f"max by ({', '.join(('namespace', *by))}) ({metric}{{OURS}})"


def total(metric, *by):
    return f"sum by ({', '.join(('namespace', *by))}) ({metric}{{OURS}})"


def stat(title, unit, expression, words="", alert="", width=4):
    return Panel(title, unit, ((expression, "{{namespace}}"),), words, alert, width, 4, "stat")


# --- annotations

MOVE_REASONS = (
    ("order", "blue", "ordered from outside of the managers"), ("autopilot", "purple", "wanted by the planner in the managers"),
    ("drain", "orange", "off a reader that is to be emptied"), ("replaced", "red", "off a reader that is gone or leaves"),
)
MOVES = tuple(
    Annotation(
        f"Moves: {reason}", colour,
        f'sum by (namespace, reason, kind, outcome) (increase(liverank_manager_moves_total{{OURS,reason="{reason}"}}[1m])) > 0',
        f"{{{{kind}}}} ({{{{outcome}}}}) {words}", "{{namespace}}", "reason,kind,outcome",
    )
    for reason, colour, words in MOVE_REASONS
)
SCALING = (
    Annotation("Readers: more", "green", "sum by (namespace) (delta(liverank_manager_readers_open{OURS}[1m])) > 0", "Readers came", "{{namespace}}", "namespace"),
    Annotation("Readers: fewer", "orange", "sum by (namespace) (delta(liverank_manager_readers_open{OURS}[1m])) < 0", "Readers went, or take no viewers", "{{namespace}}", "namespace"),
)
OPERATOR = (
    Annotation("Operator: orders", "green", "sum(increase(liverank_operator_orders_total[1m])) > 0",
               "Managers took an order of the operator", "", "operator"),
    Annotation("Operator: workloads", "yellow",
               'sum by (kind, verb) (increase(liverank_operator_writes_total{kind=~"Deployment|HorizontalPodAutoscaler"}[1m])) > 0',
               "The operator: {{verb}} {{kind}}", "", "kind,verb"),
    Annotation("Operator: another leader", "red", "sum(changes(liverank_operator_leader[2m])) > 0", "Another replica of the operator leads",
               "", "operator"),
)

# --- panels that several dashboards show

CANARY = Panel("End to end, by the canary", SECONDS, ((quantile(0.9, "liverank_gateway_canary_seconds", "way"), "{{way}}"),),
               "From posting to arriving, on a video of the system's own: nine of ten arrive sooner.", "LiverankCanaryLate")
FRESHNESS = Panel("From a request to the boards", SECONDS, quantiles("liverank_gateway_board_freshness_seconds"),
                  "Sampled from real interactions: one each 2 s at most.")
REFUSALS = Panel("Refusals a second", PER_SECOND, ((rate("liverank_http_refusals_total", "service", "route", "reason"), "{{service}} {{route}} {{reason}}"),),
                 "Requests that were refused, by route and reason.", width=12, stacked=True)
LAG_SECONDS = Panel("Lag of counting, in seconds", SECONDS, ((highest("liverank_consumer_lag_seconds"), "{{namespace}}"),),
                    "How long the oldest record that is not counted yet has waited.", "LiverankCountingBehind")
VIEWERS = Panel("Viewers by reader", COUNT, (("sum by (pod, instance, reader) (liverank_reader_viewers{OURS})", PROCESS),), width=12, stacked=True)
MOVES_PANEL = Panel("Moves a second, by reason", PER_SECOND, ((rate("liverank_manager_moves_total", "reason", "outcome"), "{{reason}} {{outcome}}"),),
                    "Failed moves were given up; their videos stay where they were.", stacked=True)
HARM = Panel("Viewers without a stream, while moved", SECONDS, quantiles("liverank_gateway_stream_interruption_seconds"),
             "From one reader's end to the next one's beginning.", "LiverankViewersInterrupted")
EXPORT_LAG = Panel("Counted and not exported yet", COUNT, ((total("liverank_consumer_export_lag_records"), "records"),),
                   "Records for topics of other systems.", "LiverankExportBehind")
FULL = f"{total('liverank_reader_viewers')} / {total('liverank_reader_capacity')}"
REQUESTS, STATUS_5XX = "liverank_http_requests_total", ',status="5xx"'
# Where nothing has failed yet there is no such line: it is 0 then.
FAILED = f"({rate(REQUESTS, 'service', more=STATUS_5XX)} or 0 * {rate(REQUESTS, 'service')}) / {rate(REQUESTS, 'service')}"

# --- the dashboards

OVERVIEW = Dashboard(
    "overview", "overview", "Whether viewers get what they should, and what is near its bound.",
    (
        ("Now", (
            stat("Viewers", COUNT, total("liverank_reader_viewers")),
            stat("Readers full", SHARE, FULL, "Viewers over capacity.", "LiverankReadersFull"),
            stat("Lag of counting", SECONDS, highest("liverank_consumer_lag_seconds"), "", "LiverankCountingBehind"),
            stat("End to end", SECONDS, quantile(0.9, "liverank_gateway_canary_seconds"), "Nine of ten arrive sooner.", "LiverankCanaryLate"),
            stat("Interactions a second", PER_SECOND, rate("liverank_gateway_interactions_total", more=',reason="acknowledged"')),
            stat("Comments a second", PER_SECOND, rate("liverank_comment_acknowledged_total")),
        )),
        ("What viewers notice", (
            CANARY, FRESHNESS,
            Panel("From a comment's post to its reader", SECONDS, quantiles("liverank_reader_comment_delay_seconds"), "", "LiverankCommentsLate"),
            Panel("Interactions a second, by what became of them", PER_SECOND,
                  ((rate("liverank_gateway_interactions_total", "reason"), "{{reason}}"),), "", stacked=True),
            Panel("Turned away, and told of gaps, a second", PER_SECOND, (
                (rate("liverank_gateway_turned_away_total"), "turned away"), (rate("liverank_reader_gaps_total"), "gaps")),
                "Viewers without a reader, and viewers who missed comments.", "LiverankViewersTurnedAway"),
            HARM,
        )),
        ("Requests", (
            Panel("Requests a second, by route and status", PER_SECOND,
                  ((rate(REQUESTS, "service", "method", "route", "status"), "{{service}} {{method}} {{route}} {{status}}"),),
                  width=12, stacked=True),
            Panel("Latency by route, 99 of 100", SECONDS,
                  ((quantile(0.99, "liverank_http_request_seconds", "service", "route"), "{{service}} {{route}}"),),
                  "Time until the answer began.", "LiverankHttpSlow", 12),
            Panel("Answers 5xx, by service", SHARE, ((FAILED, "{{service}}"),), "", "LiverankHttpErrors", 12),
            REFUSALS,
            Panel("In flight, by service and route", COUNT, (
                (total("liverank_http_in_flight", "service"), "{{service}}"),
                (f"{total('liverank_http_in_flight', 'service', 'route')} > 0", "{{service}} {{route}}")),
                "Requests that wait for their answer to begin. Routes with none are left out."),
            Panel("Refused before they were looked at, a second", PER_SECOND, (
                (rate("liverank_gateway_limited_total"), "too many of one caller"),
                (rate("liverank_gateway_new_videos_refused_total"), "too many new videos"),
                (rate("liverank_gateway_auth_failures_total"), "no valid token"),
                (rate("liverank_http_connections_ended_for_others_total"), "connections that made room"))),
            Panel("Panics and settings nobody knows", COUNT, (
                ("sum by (namespace) (increase(liverank_process_confined_panics_total{OURS}[1h]))", "panics in an hour"),
                (total("liverank_process_ignored_settings"), "unknown settings")), "", "LiverankPanics"),
        )),
    ),
    MOVES + SCALING + OPERATOR,
)

COUNTING = Dashboard(
    "counting", "counting", "From the log to the archive, and on to other systems.",
    (
        ("Behind", (
            LAG_SECONDS,
            Panel("Lag in records, by partition", COUNT, ((highest("liverank_consumer_lag_records", "partition"), "{{partition}}"),),
                  "Records of the log that are not counted yet."),
            Panel("Lag in seconds, by partition", SECONDS, ((highest("liverank_consumer_lag_seconds", "partition"), "{{partition}}"),), "",
                  "LiverankCountingBehind"),
            Panel("Projection lag, by partition", COUNT, ((highest("liverank_consumer_projection_lag_records", "partition"), "{{partition}}"),),
                  "Records that are counted and not on the boards yet."),
            Panel("Batches waiting for Redis", COUNT, ((highest("liverank_consumer_batches_waiting"), "{{namespace}}"),), "",
                  "LiverankProjectionBehind"),
            Panel("Since lag was last measured", SECONDS, (("time() - max by (namespace) (liverank_consumer_lag_measured_timestamp_seconds{OURS})", "{{namespace}}"),),
                  "", "LiverankLagUnknown"),
        )),
        ("Work", (
            Panel("Events a second", PER_SECOND, (
                (rate("liverank_consumer_events_counted_total"), "counted"), (rate("liverank_consumer_events_repeated_total"), "repeats"),
                (rate("liverank_consumer_events_poison_total"), "unreadable")), "", stacked=True),
            Panel("Commit", SECONDS, quantiles("liverank_consumer_commit_seconds"), "Time of a commit in the archive."),
            Panel("Projection", SECONDS, quantiles("liverank_consumer_project_seconds"), "From the commit to the boards."),
            Panel("Events in a batch", COUNT, quantiles("liverank_consumer_batch_events")),
            Panel("Partitions", COUNT, ((total("liverank_consumer_partitions"), "owned"),
                  (total("liverank_consumer_partitions_waiting"), "waiting for a later release"))),
            Panel("Fenced batches and repairs, in an hour", COUNT, (
                ("sum by (namespace) (increase(liverank_consumer_batches_fenced_total{OURS}[1h]))", "fenced"),
                ("sum by (namespace) (increase(liverank_consumer_repairs_total{OURS}[1h]))", "repairs")),
                "A fenced batch was refused because another consumer was further; a repair brings boards back to the archive."),
        )),
        ("Other systems", (
            EXPORT_LAG,
            Panel("Exported a second", PER_SECOND, ((rate("liverank_consumer_export_records_total"), "records"),)),
            Panel("Exports that failed, a second", PER_SECOND, ((rate("liverank_consumer_export_failures_total"), "failures"),), "",
                  "LiverankExportStandsStill"),
        )),
    ),
    OPERATOR,
)

READERS = Dashboard(
    "readers-and-moves", "readers and moves", "Where viewers are, how full readers are, and each move with its reason.",
    (
        ("Now", (
            stat("Viewers", COUNT, total("liverank_reader_viewers"), width=6),
            stat("Capacity", COUNT, total("liverank_reader_capacity"), width=6),
            stat("Full", SHARE, FULL, "Viewers over capacity.", "LiverankReadersFull", 6),
            stat("Since the oldest heartbeat", SECONDS, highest("liverank_manager_heartbeat_age_seconds"), width=6),
        )),
        ("Readers", (
            VIEWERS,
            Panel("Viewers and capacity", COUNT, ((total("liverank_reader_viewers"), "viewers"), (total("liverank_reader_capacity"), "capacity")), width=12),
            Panel("Fullest readers", SHARE, (("topk(10, sum by (pod, instance, reader) (liverank_reader_viewers{OURS}) "
                  "/ sum by (pod, instance, reader) (liverank_reader_capacity{OURS}))", PROCESS),), "Viewers over capacity."),
            Panel("Viewers by their gateway's zone", COUNT, ((total("liverank_reader_viewers_by_zone", "zone"), "{{zone}}"),),
                  "Same: as the reader's. What viewers of another zone are sent crosses zones.", stacked=True),
            Panel("Comments to other zones, a second", PER_SECOND, ((rate("liverank_reader_messages_to_other_zones_total"), "comments"),),
                  "Each comment times the viewers by gateways in other zones than the reader's."),
            Panel("Readers", COUNT, ((highest("liverank_manager_readers_open"), "take viewers"), (highest("liverank_manager_readers_silent"), "silent"),
                  (highest("liverank_manager_readers_unreachable"), "unreachable"), (highest("liverank_manager_drains_overdue"), "drains overdue")),
                  "Silent readers are suspect or gone.", "LiverankReadersSilent"),
            Panel("Age of heartbeats", SECONDS, ((highest("liverank_manager_heartbeat_age_seconds"), "oldest"),), "Time since the heartbeat that is the longest ago."),
        )),
        ("Moves", (
            MOVES_PANEL,
            Panel("Moves a second, by kind", PER_SECOND, ((rate("liverank_manager_moves_total", "kind"), "{{kind}}"),), stacked=True),
            Panel("Viewers to be handed over", COUNT, ((highest("liverank_manager_viewers_in_flight"), "in flight"),
                  (rate("liverank_reader_handed_over_total"), "handed over a second"))),
            HARM,
            Panel("Taken to a reader again, a second", PER_SECOND, ((rate("liverank_gateway_reroutes_total", "reason"), "{{reason}}"),)),
            Panel("Planners, and whether moves are suspended", COUNT, ((highest("liverank_manager_moves_suspended"), "suspended"), (total("liverank_manager_leading"), "planners in office")),
                  "Suspended is 1 while no video is moved.", "LiverankMovesSuspended"),
            Panel("Videos", COUNT, ((highest("liverank_manager_videos"), "assigned"),)),
            Panel("Videos placed, moved and let go, a second", PER_SECOND, (
                (rate("liverank_manager_videos_placed_total"), "placed"), (rate("liverank_manager_videos_moved_total"), "moved"),
                (rate("liverank_manager_videos_removed_total"), "let go"))),
            Panel("Plans, and orders refused, a second", PER_SECOND, ((rate("liverank_manager_plans_total"), "plans"),
                  (rate("liverank_manager_orders_refused_total"), "orders refused"), (rate("liverank_manager_warm_failures_total"), "not made ready"))),
        )),
        ("Comments", (
            Panel("From a comment's post to its reader", SECONDS, quantiles("liverank_reader_comment_delay_seconds"), "", "LiverankCommentsLate"),
            Panel("Comments to sockets a second", PER_SECOND, ((rate("liverank_reader_messages_total"), "comments"),
                  (rate("liverank_reader_socket_writes_total"), "writes"))),
            Panel("Bytes to sockets a second", RATE_OF_BYTES, ((rate("liverank_reader_sent_bytes_total"), "sent"),)),
            Panel("Connects a second", PER_SECOND, ((rate("liverank_reader_connects_total", "reason"), "{{reason}}"),), stacked=True),
            Panel("Viewers that came back, a second", PER_SECOND, ((rate("liverank_reader_resumes_total", "source"), "{{source}}"),),
                  "By where what they had missed was found.", stacked=True),
            Panel("Comments that nobody had in time, a second", PER_SECOND, ((rate("liverank_reader_lost_total"), "lost"),
                  (rate("liverank_reader_backfilled_total"), "fetched")), "", "LiverankCommentsMissed"),
            Panel("Memory of rings", BYTES, ((total("liverank_reader_ring_bytes"), "rings"),), "Last comments of all channels."),
            Panel("Channels", COUNT, ((total("liverank_reader_active_channels"), "active"),)),
            Panel("Comments posted, a second", PER_SECOND, ((rate("liverank_comment_acknowledged_total"), "taken"),
                  (rate("liverank_comment_ruled_total", "rule"), "refused: {{rule}}"), (rate("liverank_comment_unavailable_total"), "log away")),
                  "", "LiverankCommentsUnavailable"),
        )),
    ),
    MOVES + SCALING + OPERATOR,
)

RANKINGS = Dashboard(
    "rankings", "rankings", "How fresh boards are, and who watches them.",
    (
        ("Freshness", (
            Panel("From the log to the boards", SECONDS, quantiles("liverank_consumer_board_freshness_seconds"),
                  "For the last record of a batch.", "LiverankBoardsLate"),
            FRESHNESS,
            Panel("From the log to clients' lists", SECONDS, quantiles("liverank_websocket_list_freshness_seconds"),
                  "Until a client is sent a list with the record; sampled from real interactions: one each 2 s at most."),
            CANARY,
            Panel("Declared boards: lag", COUNT, ((highest("liverank_consumer_declared_board_lag_records", "board"), "{{board}}"),),
                  "Records that are counted and not on the board yet."),
            Panel("Projection lag", COUNT, ((total("liverank_consumer_projection_lag_records"), "{{namespace}}"),), "Records that are counted and not on the boards yet."),
            Panel("Repairs, in an hour", COUNT, (("sum by (namespace) (increase(liverank_consumer_repairs_total{OURS}[1h]))", "repairs"),),
                  "Repairs of the boards from the archive."),
        )),
        ("Lists to clients", (
            Panel("Connections", COUNT, ((total("liverank_websocket_connections"), "clients"), (total("liverank_gateway_streams"), "through gateways"))),
            Panel("Lists watched", COUNT, ((total("liverank_websocket_lists"), "different lists"), (total("liverank_websocket_described_videos"), "videos described"))),
            Panel("Messages a second", PER_SECOND, ((rate("liverank_websocket_messages_total"), "sent"), (rate("liverank_websocket_encodes_total"), "encoded")),
                  "One encoding serves all who watch the same list."),
            Panel("Connections that ended, a second", PER_SECOND, ((rate("liverank_websocket_disconnects_total", "reason"), "{{reason}}"),), stacked=True),
            Panel("Snapshots in an hour", COUNT, (("sum by (namespace) (increase(liverank_websocket_snapshots_total{OURS}[1h]))", "snapshots"),),
                  "One at the start, and one after a lost change."),
            EXPORT_LAG,
        )),
    ),
    OPERATOR,
)

# Of all namespaces: the operator has one of its own.
OPERATOR_BOARD = Dashboard(
    "operator", "operator", "What the operator does, and whether it can.",
    (
        ("Now", (
            stat("RankingClusters", COUNT, "sum(liverank_operator_clusters)", width=6),
            stat("Unreadable", COUNT, "max(liverank_operator_clusters_unreadable)", width=6),
            stat("Shards without a leader", COUNT, "max(liverank_operator_shards) - sum(liverank_operator_leader)", width=6),
            stat("Renewals that failed, in an hour", COUNT, "sum(increase(liverank_operator_lease_renewals_failed_total[1h]))", width=6),
        )),
        ("Work", (
            Panel("Reconciles", SECONDS, (
                ("histogram_quantile(0.5, sum by (le) (rate(liverank_operator_reconcile_seconds_bucket[$__rate_interval])))", "half"),
                ("histogram_quantile(0.99, sum by (le) (rate(liverank_operator_reconcile_seconds_bucket[$__rate_interval])))", "99 of 100"))),
            Panel("Writes to the API server a second", PER_SECOND,
                  (("sum by (kind, verb) (rate(liverank_operator_writes_total[$__rate_interval]))", "{{verb}} {{kind}}"),), stacked=True),
            Panel("Errors a second", PER_SECOND, (("sum by (reason) (rate(liverank_operator_errors_total[$__rate_interval]))", "{{reason}}"),), "",
                  "LiverankOperatorErrors", stacked=True),
            Panel("Requests to the API server", COUNT, (("sum(liverank_operator_requests_running)", "under way"), ("sum(liverank_operator_requests_queued)", "waiting")),
                  "", "LiverankOperatorBehind"),
            Panel("Orders that managers took, a second", PER_SECOND, (("sum(rate(liverank_operator_orders_total[$__rate_interval]))", "orders"),)),
            Panel("Who leads", COUNT, (("sum by (shard, pod, instance) (liverank_operator_shard_leader)", "{{shard}} {{pod}} {{instance}}"),), stacked=True),
        )),
        ("Watches", (
            Panel("Since a watch made progress", SECONDS,
                  (("time() - max by (kind) (liverank_operator_watch_progress_timestamp_seconds)", "{{kind}}"),), "", "LiverankOperatorWatchStalled"),
            Panel("Objects held", COUNT, (("max by (kind) (liverank_operator_watch_objects)", "{{kind}}"),)),
            Panel("Whole lists, and watches that broke, in an hour", COUNT, (
                ("sum by (kind) (increase(liverank_operator_watch_lists_total[1h]))", "lists of {{kind}}"),
                ("sum by (kind) (increase(liverank_operator_watch_errors_total[1h]))", "broken: {{kind}}"))),
        )),
    ),
    OPERATOR,
)

DASHBOARDS = (OVERVIEW, COUNTING, READERS, RANKINGS, OPERATOR_BOARD)
