import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.net.HttpURLConnection;
import java.net.URL;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.CuratorFrameworkFactory;
import org.apache.curator.retry.RetryOneTime;
import org.apache.curator.x.discovery.ServiceDiscovery;
import org.apache.curator.x.discovery.ServiceDiscoveryBuilder;
import org.apache.curator.x.discovery.ServiceInstance;
import org.apache.curator.x.discovery.ServiceProvider;
import org.apache.curator.x.discovery.strategies.RandomStrategy;

/** Calls a service from four threads, through Curator's provider with its default DownInstancePolicy. */
public class Calls {
    private static final int TIMEOUT = 1000;
    private static List<Long> took = new ArrayList<>();
    private static List<Long> failed = new ArrayList<>();
    private static long slow;
    private static long since = System.nanoTime();

    public static void main(String[] args) throws Exception {
        System.setProperty("http.keepAlive", "false");
        CuratorFramework client = CuratorFrameworkFactory.newClient(args[0], new RetryOneTime(1000));
        client.start();
        ServiceDiscovery<Void> discovery =
            ServiceDiscoveryBuilder.builder(Void.class).client(client).basePath("/party/instances").build();
        discovery.start();
        ServiceProvider<Void> provider = discovery.serviceProviderBuilder()
            .serviceName(args[1]).providerStrategy(new RandomStrategy<>()).build();
        provider.start();
        for (int n = 0; n < 4; n++) {
            Thread thread = new Thread(() -> call(provider, Long.parseLong(args[2])));
            thread.setDaemon(true);
            thread.start();
        }
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in));
        while (in.readLine() != null) {
            System.out.println(seen());
        }
    }

    private static void call(ServiceProvider<Void> provider, long pause) {
        while (true) {
            long began = System.nanoTime();
            boolean ok = false;
            try {
                ServiceInstance<Void> instance = provider.getInstance();
                if (instance != null) {
                    ok = get(instance);
                    if (!ok) {
                        provider.noteError(instance);
                    }
                }
                note(System.nanoTime() - began, ok);
                Thread.sleep(pause);
            } catch (Exception e) {
                note(System.nanoTime() - began, false);
            }
        }
    }

    private static boolean get(ServiceInstance<Void> instance) {
        try {
            URL url = new URL("http://" + instance.getAddress() + ":" + instance.getPort() + "/");
            HttpURLConnection connection = (HttpURLConnection) url.openConnection();
            connection.setConnectTimeout(TIMEOUT);
            connection.setReadTimeout(TIMEOUT);
            return connection.getResponseCode() == 200;
        } catch (Exception e) {
            return false;
        }
    }

    private static synchronized void note(long nanos, boolean ok) {
        took.add(nanos);
        if (!ok) {
            failed.add((System.nanoTime() - since) / 1_000_000);
        }
        if (nanos >= TIMEOUT * 900_000L) {
            slow++;
        }
    }

    /** Returns the number of calls, of slow ones, the p99 in microseconds, and the milliseconds at which calls failed. */
    private static synchronized String seen() {
        Collections.sort(took);
        long p99 = took.isEmpty() ? 0 : took.get(took.size() * 99 / 100) / 1000;
        StringBuilder seen = new StringBuilder().append(took.size()).append(' ').append(slow).append(' ').append(p99);
        for (long at : failed) {
            seen.append(' ').append(at);
        }
        took = new ArrayList<>();
        failed = new ArrayList<>();
        slow = 0;
        since = System.nanoTime();
        return seen.toString();
    }
}
