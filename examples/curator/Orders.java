import java.util.Locale;
import java.util.Map;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.CuratorFrameworkFactory;
import org.apache.curator.retry.ExponentialBackoffRetry;
import org.apache.curator.x.discovery.ServiceDiscovery;
import org.apache.curator.x.discovery.ServiceDiscoveryBuilder;
import org.apache.curator.x.discovery.ServiceInstance;
import org.apache.curator.x.discovery.ServiceProvider;
import org.apache.curator.x.discovery.UriSpec;

/** Registers the service "orders", and looks up the service "users". */
public final class Orders {
  public static void main(String[] arguments) throws Exception {
    String servers = System.getenv("ZOOKEEPER_CONNECTIONSTRING");
    // Party writes the environment in lower case.
    String environment = System.getenv("ENVIRONMENT_NAME").toLowerCase(Locale.ROOT);
    ServiceInstance<Object> orders = ServiceInstance.builder()
        .name("orders").address("10.0.0.2").port(8081).uriSpec(new UriSpec("/orders/{orderid}")).build();

    try (CuratorFramework client =
        CuratorFrameworkFactory.newClient(servers, new ExponentialBackoffRetry(1000, 3))) {
      client.start();
      try (ServiceDiscovery<Object> discovery = ServiceDiscoveryBuilder.builder(Object.class)
              .client(client).basePath("/" + environment + "/instances").thisInstance(orders).build();
          ServiceProvider<Object> users = discovery.serviceProviderBuilder().serviceName("users").build()) {
        discovery.start(); // registers orders
        users.start();
        ServiceInstance<Object> user = users.getInstance();
        while (user == null) { // the Rust program is not registered yet
          Thread.sleep(100);
          user = users.getInstance();
        }
        String path = user.buildUriSpec(Map.of("userid", 42));
        System.out.println("users: http://" + user.getAddress() + ":" + user.getPort() + path);

        System.in.read(); // stays registered until you press Enter
      }
    }
  }
}
