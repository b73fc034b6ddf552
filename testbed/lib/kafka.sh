# shellcheck shell=bash
# Apache Kafka, one node that is broker and KRaft controller at once.

KAFKA_FOLDER=$CACHE/kafka-$(content_id "$TESTBED_HOME/kafka/pom.xml")

kafka_instances() { echo kafka; }

kafka_ports() { echo "${SETTING[KAFKA_PORT]} (controller ${SETTING[KAFKA_CONTROLLER_PORT]})"; }

kafka_claim_ports() {
  claim_port kafka "${SETTING[KAFKA_PORT]}" KAFKA_PORT
  claim_port kafka "${SETTING[KAFKA_CONTROLLER_PORT]}" KAFKA_CONTROLLER_PORT
}

kafka_require() {
  [[ -d $KAFKA_FOLDER ]] || die "kafka is not installed; run: testbed/testbed install kafka"
  need java "apt-get install openjdk-17-jre-headless"
}

# kafka_java LOG4J-FILE ARGS…: fills JAVA with a command line.
kafka_java() {
  JAVA=(java -Djava.awt.headless=true "-Dlog4j2.configurationFile=$TESTBED_HOME/kafka/$1" -cp "$KAFKA_FOLDER/*" "${@:2}")
}

kafka_configure() {
  sed -e "s|@HOST@|$HOST|g" -e "s|@PORT@|${SETTING[KAFKA_PORT]}|g" \
    -e "s|@CONTROLLER_PORT@|${SETTING[KAFKA_CONTROLLER_PORT]}|g" \
    -e "s|@ADVERTISED_PORT@|${SETTING[KAFKA_ADVERTISED_PORT]}|g" -e "s|@DATA@|$RUN/kafka/data|g" \
    "$TESTBED_HOME/kafka/server.properties" >"$RUN/kafka/server.properties"
}

# A wiped broker is another cluster, and clients can tell by its id. Kafka's ids are 16 bytes in URL-safe base64, and
# do not begin with a dash (tools would take it for an option).
kafka_format() {
  local id
  [[ ! -e $RUN/kafka/data/meta.properties ]] || return 0
  id=$(head -c 16 /dev/urandom | base64 | tr '+/' '-_' | tr -d '=')
  kafka_java tools.log4j2.properties -Xmx128m -XX:TieredStopAtLevel=1 kafka.tools.StorageTool \
    format --cluster-id "${id/#-/A}" --config "$RUN/kafka/server.properties"
  "${JAVA[@]}" >>"$RUN/kafka/log" 2>&1 || die "kafka: could not format $RUN/kafka/data; see $RUN/kafka/log"
}

kafka_launch() {
  local CLOCK
  kafka_require
  mkdir -p "$RUN/kafka"
  kafka_configure
  kafka_format
  kafka_java server.log4j2.properties -Xms256m -Xmx512m -XX:+UseG1GC -XX:MaxGCPauseMillis=20 -XX:+ExitOnOutOfMemoryError \
    kafka.Kafka "$RUN/kafka/server.properties"
  kafka_clock
  spawn kafka "${CLOCK[@]}" "${JAVA[@]}"
}

# Fills CLOCK with what runs the broker on a clock that the file LIVERANK_TESTBED_KAFKA_CLOCK sets ahead.
kafka_clock() {
  CLOCK=()
  [[ -n ${LIVERANK_TESTBED_KAFKA_CLOCK:-} ]] || return 0
  faketime_installed || die "LIVERANK_TESTBED_KAFKA_CLOCK needs libfaketime; run: testbed/testbed install faketime"
  CLOCK=(env "LD_PRELOAD=$FAKETIME_FOLDER/ahead.so" "LIVERANK_CLOCK_FILE=$LIVERANK_TESTBED_KAFKA_CLOCK")
}

# Asks the broker for metadata, as every client does first, and reads the number of brokers in its answer: none while
# it has not registered itself with the controller.
# Request: length 15, Metadata (3) version 4, correlation 1, no client id, no topics, topics not to be created.
# Answer: length, correlation, throttle time, number of brokers.
kafka_ready() {
  local answer
  is_running kafka || return 1
  # shellcheck disable=SC2016  # expanded by the inner shell, which timeout can end
  answer=$(
    timeout 5 bash -c '
      exec 3<>"/dev/tcp/$1/$2" || exit 1
      printf "\0\0\0\x0f\0\x03\0\x04\0\0\0\x01\xff\xff\0\0\0\0\0" >&3
      head -c 16 <&3 | od -An -v -tx1 | tr -d " \n"
    ' probe "$HOST" "${SETTING[KAFKA_PORT]}" 2>/dev/null
  ) || return 1
  [[ $answer =~ ^.{8}00000001.{8}[0-9a-f]{8}$ && ${answer:24} != 00000000 ]]
}

kafka_env() {
  echo "export LIVERANK_TEST_KAFKA=$HOST:${SETTING[KAFKA_PORT]}"
}

# kafka_tool CLASS ARGS…
kafka_tool() {
  kafka_require
  kafka_java tools.log4j2.properties -Xmx256m -XX:TieredStopAtLevel=1 "org.apache.kafka.tools.$1" \
    --bootstrap-server "$HOST:${SETTING[KAFKA_PORT]}" "${@:2}"
  "${JAVA[@]}"
}

kafka_topic() {
  local usage="usage: testbed kafka-topic create TOPIC [ARGS…] | delete TOPIC | describe TOPIC | list"
  case ${1:-} in
    list) kafka_tool TopicCommand --list ;;
    create | delete | describe)
      (($# >= 2)) || die "$usage"
      kafka_tool TopicCommand "--$1" --topic "$2" "${@:3}"
      ;;
    *) die "$usage" ;;
  esac
}

# The console producer says what it could not send and still exits 0; here that is a failure.
kafka_produce() {
  (($# >= 1)) || die "usage: testbed produce TOPIC [ARGS…] <LINES"
  local complaints status=0
  complaints=$(mktemp)
  kafka_tool ConsoleProducer --topic "$1" --request-required-acks all --max-block-ms 30000 "${@:2}" 2>"$complaints" || status=$?
  ! grep -q '^ERROR' "$complaints" || status=1
  cat "$complaints" >&2
  rm -f "$complaints"
  return "$status"
}

# What a reader of committed messages finds, until nothing comes any more. Saying that nothing comes is its only complaint.
kafka_consume() {
  (($# >= 1)) || die "usage: testbed consume TOPIC [ARGS…]"
  local complaints status=0
  complaints=$(mktemp)
  kafka_tool consumer.ConsoleConsumer --topic "$1" --from-beginning --isolation-level read_committed --timeout-ms 5000 \
    --property print.partition=true --property print.offset=true --property print.key=true "${@:2}" 2>"$complaints" || status=$?
  ! grep -q TimeoutException "$complaints" || status=0
  ((status == 0)) || cat "$complaints" >&2
  rm -f "$complaints"
  return "$status"
}
