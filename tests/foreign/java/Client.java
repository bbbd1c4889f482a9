import io.grpc.CallOptions;
import io.grpc.ClientCall;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import io.grpc.Status;
import io.grpc.netty.shaded.io.grpc.netty.NettyChannelBuilder;
import java.io.BufferedReader;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Base64;
import java.util.List;
import java.util.concurrent.Semaphore;
import java.util.concurrent.TimeUnit;

/**
 * Makes the calls that stdin lists over one connection, and prints their outcomes in order.
 * Those above an empty line are made before more is read.
 *
 * <p>Usage: Client ADDRESS CONCURRENCY. The README of the folder above has the format of the lines.
 */
public final class Client {
  private static final String[] SHOWN = {
    "bandit-reason", "grpc-retry-pushback-ms", "grpc-status-details-bin"
  };
  private static final Metadata.Key<String> AUTHORIZATION = text("authorization");

  private static final MethodDescriptor.Marshaller<byte[]> RAW =
      new MethodDescriptor.Marshaller<>() {
        @Override
        public InputStream stream(byte[] message) {
          return new ByteArrayInputStream(message);
        }

        @Override
        public byte[] parse(InputStream message) {
          try {
            return message.readAllBytes();
          } catch (IOException error) {
            throw new UncheckedIOException(error);
          }
        }
      };

  private static Metadata.Key<String> text(String name) {
    return Metadata.Key.of(name, Metadata.ASCII_STRING_MARSHALLER);
  }

  private static String encode(byte[] value) {
    return Base64.getEncoder().encodeToString(value);
  }

  private static String encode(String value) {
    return encode(value.getBytes(StandardCharsets.UTF_8));
  }

  private static String outcome(Status status, Metadata trailers, List<String> responses) {
    List<String> shown = new ArrayList<>();
    for (String name : SHOWN) {
      if (name.endsWith("-bin")) {
        byte[] value = trailers.get(Metadata.Key.of(name, Metadata.BINARY_BYTE_MARSHALLER));
        if (value != null) {
          shown.add(name + "=" + encode(value));
        }
      } else if (trailers.get(text(name)) != null) {
        shown.add(name + "=" + encode(trailers.get(text(name))));
      }
    }
    String message = status.getDescription() == null ? "" : status.getDescription();
    return String.join(
        "\t",
        String.valueOf(status.getCode().value()),
        encode(message),
        String.join(",", shown),
        String.join("", responses));
  }

  private static void make(ManagedChannel channel, String line, int index, String[] outcomes, Semaphore free) {
    String[] fields = line.split("\t", -1);
    boolean isStream = fields[0].equals("stream");
    MethodDescriptor<byte[], byte[]> method =
        MethodDescriptor.<byte[], byte[]>newBuilder(RAW, RAW)
            .setType(isStream ? MethodDescriptor.MethodType.BIDI_STREAMING : MethodDescriptor.MethodType.UNARY)
            .setFullMethodName(fields[1].substring(1))
            .build();
    CallOptions options =
        CallOptions.DEFAULT.withDeadlineAfter(Long.parseLong(fields[4]), TimeUnit.MICROSECONDS);
    if (fields[3].equals("gzip")) {
      options = options.withCompression("gzip");
    }
    Metadata headers = new Metadata();
    if (!fields[2].isEmpty()) {
      headers.put(AUTHORIZATION, fields[2]);
    }
    ClientCall<byte[], byte[]> call = channel.newCall(method, options);
    List<String> responses = new ArrayList<>();
    call.start(
        new ClientCall.Listener<>() {
          @Override
          public void onMessage(byte[] message) {
            responses.add(encode(message) + ",");
            call.request(1);
          }

          @Override
          public void onClose(Status status, Metadata trailers) {
            outcomes[index] = outcome(status, trailers, responses);
            free.release();
          }
        },
        headers);
    call.setMessageCompression(fields[3].equals("gzip"));
    call.request(2); // of a unary call, gRPC wants to see that there is no second message
    String[] requests = fields[5].split(",", -1); // the last is empty: a comma ends each
    for (int number = 0; number < requests.length - 1; number++) {
      call.sendMessage(Base64.getDecoder().decode(requests[number]));
    }
    call.halfClose();
  }

  private static String[] makeAll(ManagedChannel channel, List<String> lines, int concurrency)
      throws InterruptedException {
    String[] outcomes = new String[lines.size()];
    Semaphore free = new Semaphore(concurrency);
    for (int index = 0; index < outcomes.length; index++) {
      free.acquire();
      make(channel, lines.get(index), index, outcomes, free);
    }
    free.acquire(concurrency);
    return outcomes;
  }

  public static void main(String[] arguments) throws Exception {
    int concurrency = Integer.parseInt(arguments[1]);
    ManagedChannel channel = NettyChannelBuilder.forTarget(arguments[0]).usePlaintext().build();
    BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    List<String> lines = new ArrayList<>();
    for (String line = in.readLine(); line != null; line = in.readLine()) {
      if (!line.isEmpty()) {
        lines.add(line);
        continue;
      }
      StringBuilder printed = new StringBuilder();
      for (String outcome : makeAll(channel, lines, concurrency)) {
        printed.append(outcome).append('\n');
      }
      System.out.print(printed); // base64 and digits
      System.out.flush();
      lines.clear();
    }
    channel.shutdownNow().awaitTermination(10, TimeUnit.SECONDS);
  }
}
