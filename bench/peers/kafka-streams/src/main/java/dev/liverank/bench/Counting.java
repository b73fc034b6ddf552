package dev.liverank.bench;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.state.KeyValueStore;

/**
 * Counts what liverank's consumer counts (views, likes, comments, shares, watched milliseconds, short and long watches
 * of each video), exactly once, in a store with a changelog. Arguments: brokers, topic, application id, commit interval
 * in milliseconds, folder of the state.
 */
public final class Counting {
  private static final JsonFactory JSON = new JsonFactory();
  private static final int COUNTERS = 7;

  private Counting() {}

  public static void main(String[] arguments) throws InterruptedException {
    Properties settings = new Properties();
    settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, arguments[0]);
    settings.put(StreamsConfig.APPLICATION_ID_CONFIG, arguments[2]);
    settings.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, arguments[3]);
    settings.put(StreamsConfig.STATE_DIR_CONFIG, arguments[4]);
    settings.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
    settings.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, 1);
    settings.put(StreamsConfig.REPLICATION_FACTOR_CONFIG, 1);
    settings.put(StreamsConfig.consumerPrefix("auto.offset.reset"), "earliest");
    settings.put(StreamsConfig.consumerPrefix("max.poll.records"), 5000);

    StreamsBuilder builder = new StreamsBuilder();
    builder.stream(arguments[1], Consumed.with(Serdes.String(), Serdes.ByteArray()))
        .groupByKey(Grouped.with(Serdes.String(), Serdes.ByteArray()))
        .aggregate(
            () -> new byte[COUNTERS * Long.BYTES],
            (video, event, counts) -> count(event, counts),
            Materialized.<String, byte[], KeyValueStore<Bytes, byte[]>>as("counts")
                .withKeySerde(Serdes.String())
                .withValueSerde(Serdes.ByteArray()));

    KafkaStreams streams = new KafkaStreams(builder.build(), settings);
    CountDownLatch ended = new CountDownLatch(1);
    Runtime.getRuntime().addShutdownHook(new Thread(() -> {
      streams.close();
      ended.countDown();
    }));
    streams.start();
    ended.await();
  }

  private static byte[] count(byte[] event, byte[] before) {
    String type = null;
    double watched = 0;
    try (JsonParser parser = JSON.createParser(event)) {
      parser.nextToken();
      while (parser.nextToken() == JsonToken.FIELD_NAME) {
        String name = parser.currentName();
        parser.nextToken();
        switch (name) {
          case "type" -> type = parser.getText();
          case "watch_time" -> watched = parser.getDoubleValue();
          case "video_id", "user_id", "event_id", "timestamp" -> parser.getText();
          default -> parser.skipChildren();
        }
      }
    } catch (IOException unreadable) {
      return before;
    }
    ByteBuffer counts = ByteBuffer.wrap(before.clone());
    switch (type == null ? "" : type) {
      case "view" -> add(counts, 0, 1);
      case "like" -> add(counts, 1, 1);
      case "comment" -> add(counts, 2, 1);
      case "share" -> add(counts, 3, 1);
      case "watch_time" -> {
        add(counts, 4, Math.round(watched * 1000));
        add(counts, watched < 2 ? 5 : 6, 1);
      }
      default -> { }
    }
    return counts.array();
  }

  private static void add(ByteBuffer counts, int counter, long more) {
    int at = counter * Long.BYTES;
    counts.putLong(at, counts.getLong(at) + more);
  }
}
