import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Scanner;
import java.util.UUID;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.Semaphore;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.locks.LockSupport;
import java.util.function.BooleanSupplier;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.CuratorFrameworkFactory;
import org.apache.curator.retry.RetryOneTime;
import org.apache.curator.x.discovery.ServiceCache;
import org.apache.curator.x.discovery.ServiceDiscovery;
import org.apache.curator.x.discovery.ServiceDiscoveryBuilder;
import org.apache.curator.x.discovery.ServiceInstance;
import org.apache.curator.x.discovery.ServiceProvider;
import org.apache.curator.x.discovery.UriSpec;
import org.apache.curator.x.discovery.details.JsonInstanceSerializer;
import org.apache.curator.x.discovery.strategies.RandomStrategy;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.ZooDefs;
import org.apache.zookeeper.ZooKeeper;

/**
 * Does with Curator the work that is measured of the library: {@code Bench CONNECTION}.
 *
 * <p>Each figure is a line of its name and its value, a time in nanoseconds or a size in bytes. With {@code register} as a
 * second argument it registers as many times as each line of its input says, and answers with the times.
 */
public final class Bench {
  private static final String NAMESPACE = "curator";
  private static final Map<String, Object> VALUES = Map.of("territory", "GB", "userid", 42);
  private static final long ROUND = 5_000_000;
  private static String connection;
  private static volatile long sink;

  private interface Work {
    long run() throws Exception;
  }

  public static void main(String[] arguments) throws Exception {
    connection = arguments[0];
    if (arguments.length > 1) {
      register();
      return;
    }
    try (CuratorFramework loader = client()) {
      for (int instances : new int[] {1, 100, 10_000}) {
        load(loader, "hot" + instances, instances);
        lookups(instances);
      }
      firstAnswer("hot10000", 10_000);
      memory("hot10000");
    }
    visible(500);
    registerMany(10_000);
    close(500);
    System.exit(0);
  }

  private static void say(String figure, double value) {
    System.out.println(figure + " " + value);
  }

  private static CuratorFramework client() throws Exception {
    CuratorFramework client = CuratorFrameworkFactory.newClient(connection, 60_000, 15_000, new RetryOneTime(1));
    client.start();
    client.blockUntilConnected();
    return client;
  }

  private static ServiceDiscovery<Void> discovery(CuratorFramework client) throws Exception {
    ServiceDiscovery<Void> discovery = ServiceDiscoveryBuilder.builder(Void.class)
        .client(client.usingNamespace(NAMESPACE))
        .basePath("/instances")
        .build();
    discovery.start();
    return discovery;
  }

  private static ServiceProvider<Void> provider(CuratorFramework client, String service) throws Exception {
    ServiceProvider<Void> provider = discovery(client)
        .serviceProviderBuilder()
        .serviceName(service)
        .providerStrategy(new RandomStrategy<>())
        .build();
    provider.start();
    return provider;
  }

  private static ServiceInstance<Void> instance(String service, int n) throws Exception {
    return ServiceInstance.<Void>builder()
        .name(service)
        .id(UUID.randomUUID().toString())
        .address("10." + (n >> 16 & 255) + "." + (n >> 8 & 255) + "." + (n & 255))
        .port(8080)
        .uriSpec(new UriSpec("/1.x/{territory}/users/{userid}"))
        .build();
  }

  /** Creates instances with many requests in flight, which Curator's own API cannot do. */
  private static void load(CuratorFramework client, String service, int instances) throws Exception {
    discovery(client).registerService(instance(service, 0));
    JsonInstanceSerializer<Void> serializer = new JsonInstanceSerializer<>(Void.class);
    ZooKeeper zookeeper = client.getZookeeperClient().getZooKeeper();
    CountDownLatch created = new CountDownLatch(instances - 1);
    Semaphore inFlight = new Semaphore(500);
    for (int n = 1; n < instances; n++) {
      ServiceInstance<Void> instance = instance(service, n);
      inFlight.acquire();
      String path = "/" + NAMESPACE + "/instances/" + service + "/" + instance.getId();
      zookeeper.create(path, serializer.serialize(instance), ZooDefs.Ids.OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL,
          (code, p, context, name) -> {
            inFlight.release();
            created.countDown();
          }, null);
    }
    created.await();
  }

  private static void lookups(int instances) throws Exception {
    try (CuratorFramework client = client(); ServiceProvider<Void> provider = provider(client, "hot" + instances)) {
      Work instance = () -> provider.getInstance().getPort();
      Work base = () -> base(provider.getInstance()).length();
      Work url = () -> {
        ServiceInstance<Void> found = provider.getInstance();
        return base(found).append(found.buildUriSpec(VALUES)).toString().length();
      };
      for (Work work : List.of(instance, base, url)) {
        perCall(work, 1, 400);
      }
      say("instance/" + instances, perCall(instance, 1, 300));
      say("base_url/" + instances, perCall(base, 1, 300));
      double one = perCall(url, 1, 300);
      say("url/" + instances, one);
      say("url_two_threads/" + instances, perCall(url, 2, 300));
    }
  }

  private static StringBuilder base(ServiceInstance<Void> found) {
    return new StringBuilder(64).append("http://").append(found.getAddress()).append(':').append(found.getPort());
  }

  /**
   * Returns the time that one call takes on each of these threads, in the fastest of many short rounds. Each thread has a
   * fastest round of its own.
   */
  private static double perCall(Work work, int threads, int rounds) throws Exception {
    double[] fastest = new double[threads];
    Arrays.fill(fastest, Double.MAX_VALUE);
    for (int round = 0; round < rounds; round++) {
      List<Thread> running = new ArrayList<>();
      for (int n = 0; n < threads; n++) {
        int own = n;
        Thread thread = new Thread(() -> fastest[own] = Math.min(fastest[own], round(work)));
        thread.start();
        running.add(thread);
      }
      for (Thread thread : running) {
        thread.join();
      }
    }
    return Arrays.stream(fastest).average().getAsDouble();
  }

  private static double round(Work work) {
    try {
      long calls = 0;
      long sum = 0;
      long begin = System.nanoTime();
      for (; System.nanoTime() < begin + ROUND; calls += 16) {
        for (int n = 0; n < 16; n++) {
          sum += work.run();
        }
      }
      sink = sum;
      return (double) (System.nanoTime() - begin) / calls;
    } catch (Exception e) {
      throw new IllegalStateException(e);
    }
  }

  private static void firstAnswer(String service, int instances) throws Exception {
    try (CuratorFramework client = client()) {
      double[] times = new double[5];
      for (int n = -1; n < times.length; n++) {
        long begin = System.nanoTime();
        try (ServiceProvider<Void> provider = provider(client, service)) {
          int found = provider.getAllInstances().size();
          double time = System.nanoTime() - begin;
          if (found != instances) {
            throw new IllegalStateException(found + " instances");
          }
          times[Math.max(n, 0)] = time;
        }
      }
      say("first_answer", percentile(times, 0.5));
    }
  }

  private static void memory(String service) throws Exception {
    try (CuratorFramework client = client()) {
      long before = heap();
      try (ServiceProvider<Void> provider = provider(client, service)) {
        sink = provider.getAllInstances().size();
        say("memory", heap() - before);
      }
    }
  }

  private static long heap() throws Exception {
    for (int n = 0; n < 4; n++) {
      System.gc();
      Thread.sleep(200);
    }
    return Runtime.getRuntime().totalMemory() - Runtime.getRuntime().freeMemory();
  }

  /** Registers, and waits until the cache of another session shows it. */
  private static void visible(int times) throws Exception {
    try (CuratorFramework writer = client(); CuratorFramework reader = client()) {
      ServiceDiscovery<Void> registration = discovery(writer);
      ServiceCache<Void> cache = discovery(reader).serviceCacheBuilder().name("visible").build();
      cache.start();
      double[] visible = new double[times];
      for (int n = -100; n < times; n++) {
        ServiceInstance<Void> instance = instance("visible", n & 65_535);
        registration.registerService(instance);
        long returned = System.nanoTime();
        until(() -> !cache.getInstances().isEmpty());
        visible[Math.max(n, 0)] = System.nanoTime() - returned;
        registration.unregisterService(instance);
        until(() -> cache.getInstances().isEmpty());
      }
      say("visible_median", percentile(visible, 0.5));
      say("visible_p99", percentile(visible, 0.99));
    }
  }

  /** Registers instances of a service that no program follows. */
  private static void register() throws Exception {
    try (CuratorFramework client = client()) {
      ServiceDiscovery<Void> discovery = discovery(client);
      Scanner input = new Scanner(System.in);
      while (input.hasNextInt()) {
        StringBuilder answer = new StringBuilder();
        for (int left = input.nextInt(); left > 0; left--) {
          ServiceInstance<Void> instance = instance("alone", left);
          long begin = System.nanoTime();
          discovery.registerService(instance);
          answer.append(System.nanoTime() - begin).append(' ');
          discovery.unregisterService(instance);
        }
        System.out.println(answer);
      }
    }
  }

  private static void registerMany(int instances) throws Exception {
    try (CuratorFramework client = client()) {
      ServiceDiscovery<Void> discovery = discovery(client);
      List<ServiceInstance<Void>> all = new ArrayList<>();
      for (int n = 0; n < instances; n++) {
        all.add(instance("many", n));
      }
      long begin = System.nanoTime();
      for (ServiceInstance<Void> one : all) {
        discovery.registerService(one);
      }
      say("register_many", System.nanoTime() - begin);
    }
  }

  private static void close(int instances) throws Exception {
    double[] calls = new double[5];
    double[] gone = new double[calls.length];
    try (CuratorFramework reader = client()) {
      for (int round = 0; round < calls.length; round++) {
        CuratorFramework client = client();
        ServiceDiscovery<Void> discovery = discovery(client);
        for (int n = 0; n < instances; n++) {
          discovery.registerService(instance("leaving", n));
        }
        ServiceCache<Void> cache = discovery(reader).serviceCacheBuilder().name("leaving").build();
        cache.start();
        until(() -> cache.getInstances().size() == instances);
        long begin = System.nanoTime();
        AtomicLong closed = new AtomicLong();
        Thread closing = new Thread(() -> {
          client.close();
          closed.set(System.nanoTime() - begin);
        });
        closing.start();
        until(() -> cache.getInstances().isEmpty());
        gone[round] = System.nanoTime() - begin;
        closing.join();
        calls[round] = closed.get();
        cache.close();
      }
    }
    say("close_call", percentile(calls, 0.5));
    say("close_gone", percentile(gone, 0.5));
  }

  /** Polls with pauses, because polling without them would take one of two cores from what is measured. */
  private static void until(BooleanSupplier done) {
    while (!done.getAsBoolean()) {
      LockSupport.parkNanos(20_000);
    }
  }

  private static double percentile(double[] values, double part) {
    double[] sorted = values.clone();
    Arrays.sort(sorted);
    return sorted[(int) Math.round(part * (sorted.length - 1))];
  }
}
