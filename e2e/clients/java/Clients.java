import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.net.http.WebSocket;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.regex.Pattern;
import java.util.stream.Stream;

/** Java's own HttpClient: a stream of comments that is cut and resumed, a keep-alive connection, a WebSocket. */
public class Clients {
  static final String FRONT = System.getenv("LIVERANK_FRONT");
  static final HttpClient HTTP =
      HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).connectTimeout(Duration.ofSeconds(20)).build();
  static final String RUN = Long.toHexString(System.nanoTime());
  static final Pattern COMMENT = Pattern.compile("\"comment\":\"([^\"]*)\"");

  static void post(String path, String body, int status) throws Exception {
    post(HTTP, path, body, status);
  }

  static void post(HttpClient http, String path, String body, int status) throws Exception {
    HttpRequest request =
        HttpRequest.newBuilder(URI.create(FRONT + path))
            .header("content-type", "application/json")
            .POST(HttpRequest.BodyPublishers.ofString(body))
            .build();
    HttpResponse<String> response = http.send(request, BodyHandlers.ofString());
    // What a part that is away for a moment answers is posted again.
    for (int turn = 0; turn < 40 && response.statusCode() == 503; turn++) {
      Thread.sleep(500);
      response = http.send(request, BodyHandlers.ofString());
    }
    if (response.statusCode() != status) throw new IOException(path + " was answered " + response.statusCode());
  }

  static List<String> say(String video, int count) throws Exception {
    List<String> texts = new ArrayList<>();
    for (int n = 0; n < count; n++) {
      String text = "comment " + System.nanoTime() + " \u00fc";
      String key = ",\"idempotency_key\":\"" + System.nanoTime() + "\"";
      post("/comment", "{\"userid\":\"poster\",\"videoid\":\"" + video + "\",\"comment\":\"" + text + "\"" + key + "}", 201);
      texts.add(text);
    }
    return texts;
  }

  static void streamResumes() throws Exception {
    String video = "java-" + RUN;
    List<String> said = new ArrayList<>();
    List<String> heard = new ArrayList<>();
    String last = null;
    for (int turn = 0; turn < 3; turn++) {
      HttpRequest.Builder request =
          HttpRequest.newBuilder(URI.create(FRONT + "/connect?userid=viewer&videoid=" + video))
              .timeout(Duration.ofSeconds(30));
      if (last != null) request.header("last-event-id", last);
      if (turn > 0) said.addAll(say(video, 4));
      HttpResponse<Stream<String>> response = HTTP.send(request.build(), BodyHandlers.ofLines());
      for (int again = 0; again < 40 && response.statusCode() == 503; again++) {
        Thread.sleep(500);
        response = HTTP.send(request.build(), BodyHandlers.ofLines());
      }
      if (response.statusCode() != 200) throw new IOException("status " + response.statusCode());
      try (Stream<String> lines = response.body()) {
        for (String line : (Iterable<String>) lines::iterator) {
          if (line.startsWith("id: ")) last = line.substring(4);
          if (line.contains("\"type\":\"connected\"")) said.addAll(say(video, 3));
          var found = COMMENT.matcher(line);
          if (found.find()) heard.add(found.group(1));
          if (!said.isEmpty() && heard.size() >= said.size()) break;
        }
      }
    }
    if (!heard.equals(said)) throw new IOException("said " + said + ", heard " + heard);
  }

  static void websocketClosesInOrder() throws Exception {
    CompletableFuture<String> list = new CompletableFuture<>();
    CompletableFuture<Integer> closed = new CompletableFuture<>();
    WebSocket socket =
        HTTP.newWebSocketBuilder()
            .buildAsync(
                URI.create(FRONT.replace("http", "ws") + "/ws/videos?limit=33"),
                new WebSocket.Listener() {
                  @Override
                  public CompletionStage<?> onText(WebSocket socket, CharSequence text, boolean end) {
                    if (end) list.complete(text.toString());
                    socket.request(1);
                    return null;
                  }

                  @Override
                  public CompletionStage<?> onClose(WebSocket socket, int status, String reason) {
                    closed.complete(status);
                    return null;
                  }
                })
            .get(20, TimeUnit.SECONDS);
    list.get(20, TimeUnit.SECONDS);
    socket.sendClose(WebSocket.NORMAL_CLOSURE, "").get(20, TimeUnit.SECONDS);
    int status = closed.get(20, TimeUnit.SECONDS);
    if (status != 1000) throw new IOException("closed with " + status);
  }

  static void aConnectionIsKept() throws Exception {
    // Longer than servers once kept one here: the pool's next request must not meet a connection that is being closed. It has a
    // pool of its own, and goes on beside the other tests.
    HttpClient own = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).connectTimeout(Duration.ofSeconds(20)).build();
    for (int turn = 0; turn < 2; turn++) {
      post(own, "/interact", "{\"video_id\":\"java\",\"user_id\":\"u\",\"type\":\"view\"}", 202);
      if (turn == 0) Thread.sleep(12_000);
    }
  }

  interface Test {
    void run() throws Exception;
  }

  static final AtomicInteger passed = new AtomicInteger();
  static final AtomicInteger failed = new AtomicInteger();

  static void test(String name, Test test) {
    try {
      test.run();
      passed.incrementAndGet();
      System.out.println("ok - " + name);
    } catch (Throwable error) {
      failed.incrementAndGet();
      System.out.println("not ok - " + name);
      error.printStackTrace(System.out);
    }
  }

  public static void main(String[] args) {
    var kept = CompletableFuture.runAsync(() -> test("a connection is kept for longer than ten seconds", Clients::aConnectionIsKept));
    test("a stream resumes after cuts and misses nothing", Clients::streamResumes);
    test("a WebSocket gets a list and closes in order", Clients::websocketClosesInOrder);
    kept.join();
    System.out.println(passed + " passed, " + failed + " failed");
    System.exit(failed.get() == 0 ? 0 : 1);
  }
}
