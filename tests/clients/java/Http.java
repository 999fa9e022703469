// JDK's HttpClient as it comes: it asks for HTTP/2 and is content with 1.1. `Http URL`, the body on stdin.
// Prints the status on a line of its own, then the answer as it arrives. A failure is told on stderr.
import java.io.InputStream;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;

public class Http {
  public static void main(String[] given) throws Exception {
    byte[] body = System.in.readAllBytes();
    HttpRequest request =
        HttpRequest.newBuilder(URI.create(given[0]))
            .header("Content-Type", "application/json")
            .POST(HttpRequest.BodyPublishers.ofByteArray(body))
            .build();
    try {
      HttpResponse<InputStream> answer =
          HttpClient.newHttpClient().send(request, HttpResponse.BodyHandlers.ofInputStream());
      System.out.println(answer.statusCode());
      answer.body().transferTo(System.out);
      System.out.flush();
    } catch (java.io.IOException error) {
      System.out.flush();
      System.err.println(error.getClass().getSimpleName() + " " + error.getMessage());
      System.exit(1);
    }
    System.exit(0);
  }
}
