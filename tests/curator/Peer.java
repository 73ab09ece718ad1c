import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.Collections;
import java.util.Comparator;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.CuratorFrameworkFactory;
import org.apache.curator.framework.state.ConnectionState;
import org.apache.curator.retry.RetryNTimes;
import org.apache.curator.x.discovery.ServiceCache;
import org.apache.curator.x.discovery.ServiceDiscovery;
import org.apache.curator.x.discovery.ServiceDiscoveryBuilder;
import org.apache.curator.x.discovery.ServiceInstance;
import org.apache.curator.x.discovery.ServiceInstanceBuilder;
import org.apache.curator.x.discovery.ServiceProvider;
import org.apache.curator.x.discovery.ServiceType;
import org.apache.curator.x.discovery.UriSpec;
import org.apache.curator.x.discovery.details.JsonInstanceSerializer;
import org.apache.curator.x.discovery.details.ServiceCacheListener;
import org.springframework.cloud.zookeeper.discovery.ZookeeperInstance;

/**
 * Curator's service discovery, driven by lines of JSON.
 *
 * <p>Each line on standard input is a command with a field {@code do}, which names one of the methods of {@link Do}.
 * Each is answered, in order, by one line on standard output: {@code {"ok":…}} or {@code {"error":"…"}}. What a watched
 * service changes to is a line {@code {"event":{"service":…,"instances":[…]}}} in between. The program ends with its
 * input, and closes its session then; killed, it does not.
 *
 * <p>An instance is described by what its getters say, and not by its serialized form, since that is what is tested.
 */
public final class Peer {
  private static final ObjectMapper JSON = new ObjectMapper();
  private static final PrintStream OUT = new PrintStream(System.out, true, StandardCharsets.UTF_8);

  public static void main(String[] arguments) throws Exception {
    BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    Do peer = new Do();
    for (String line = in.readLine(); line != null; line = in.readLine()) {
      say(answer(peer, JSON.readTree(line)));
    }
    peer.close();
    System.exit(0);
  }

  private static ObjectNode answer(Do peer, JsonNode command) {
    ObjectNode answer = JSON.createObjectNode();
    try {
      JsonNode result = peer.run(command.get("do").asText(), command);
      answer.set("ok", result);
    } catch (Exception e) {
      answer.put("error", e.toString());
    }
    return answer;
  }

  private static synchronized void say(ObjectNode line) {
    OUT.println(line);
  }

  /** The commands, and what they have made so far. */
  private static final class Do {
    private CuratorFramework client;
    private ServiceDiscovery<Object> discovery;
    private JsonInstanceSerializer<Object> serializer = new JsonInstanceSerializer<>(Object.class);
    private final Map<String, ServiceProvider<Object>> providers = new HashMap<>();
    private final List<ServiceCache<Object>> caches = new ArrayList<>();

    JsonNode run(String name, JsonNode command) throws Exception {
      switch (name) {
        case "version":
          return JSON.getNodeFactory().textNode(version());
        case "connect":
          return connect(command);
        case "register":
          discovery.registerService(instance(command.get("instance")));
          return null;
        case "register_many":
          for (JsonNode described : command.get("instances")) {
            discovery.registerService(instance(described));
          }
          return null;
        case "update":
          discovery.updateService(instance(command.get("instance")));
          return null;
        case "unregister":
          discovery.unregisterService(instance(command.get("instance")));
          return null;
        case "names":
          return JSON.valueToTree(discovery.queryForNames());
        case "query":
          return described(discovery.queryForInstances(text(command, "service")));
        case "query_one":
          return described(discovery.queryForInstance(text(command, "service"), text(command, "id")));
        case "all_instances":
          return described(provider(text(command, "service")).getAllInstances());
        case "instance":
          return described(provider(text(command, "service")).getInstance());
        case "build_uri_spec":
          return buildUriSpec(command);
        case "parse_uri_spec":
          return JSON.valueToTree(new UriSpec(text(command, "text")).getParts());
        case "watch":
          watch(text(command, "service"));
          return null;
        case "serialize":
          byte[] bytes = serializer.serialize(instance(command.get("instance")));
          return JSON.getNodeFactory().textNode(new String(bytes, StandardCharsets.UTF_8));
        case "read":
          return read(text(command, "hex"));
        case "read_strictly":
          return readStrictly(text(command, "data"));
        case "read_for_spring":
          return readForSpring(text(command, "data"));
        case "write_for_spring":
          return writeForSpring(command);
        case "close":
          close();
          return null;
        default:
          throw new IllegalArgumentException("no such command: " + name);
      }
    }

    private static String version() {
      String jar = ServiceDiscovery.class.getProtectionDomain().getCodeSource().getLocation().getPath();
      String found = java.nio.file.Paths.get(jar).getFileName().toString();
      String implementation = ServiceDiscovery.class.getPackage().getImplementationVersion();
      return implementation == null ? found : implementation;
    }

    /** Connects, and waits for the session. {@code compatible} has the nine fields written that old readers know. */
    private JsonNode connect(JsonNode command) throws Exception {
      client = CuratorFrameworkFactory.newClient(
          text(command, "connection"), command.get("session_millis").asInt(), 10_000, new RetryNTimes(3, 100));
      client.start();
      client.blockUntilConnected();
      serializer = new JsonInstanceSerializer<>(Object.class, command.path("compatible").asBoolean(true));
      discovery = ServiceDiscoveryBuilder.builder(Object.class)
          .client(client.usingNamespace(text(command, "namespace")))
          .basePath("/instances")
          .serializer(serializer)
          .build();
      discovery.start();
      return JSON.getNodeFactory().numberNode(client.getZookeeperClient().getZooKeeper().getSessionId());
    }

    void close() throws Exception {
      for (ServiceCache<Object> cache : caches) {
        cache.close();
      }
      for (ServiceProvider<Object> provider : providers.values()) {
        provider.close();
      }
      if (discovery != null) {
        discovery.close();
        client.close();
      }
      discovery = null;
    }

    private ServiceProvider<Object> provider(String service) throws Exception {
      ServiceProvider<Object> provider = providers.get(service);
      if (provider == null) {
        provider = discovery.serviceProviderBuilder().serviceName(service).build();
        provider.start();
        providers.put(service, provider);
      }
      return provider;
    }

    private void watch(String service) throws Exception {
      ServiceCache<Object> cache = discovery.serviceCacheBuilder().name(service).build();
      cache.addListener(new ServiceCacheListener() {
        @Override
        public void cacheChanged() {
          ObjectNode event = JSON.createObjectNode();
          event.put("service", service);
          event.set("instances", described(cache.getInstances()));
          ObjectNode line = JSON.createObjectNode();
          line.set("event", event);
          say(line);
        }

        @Override
        public void stateChanged(CuratorFramework client, ConnectionState state) {}
      });
      cache.start();
      caches.add(cache);
    }

    private JsonNode buildUriSpec(JsonNode command) throws Exception {
      ServiceInstance<Object> found = discovery.queryForInstance(text(command, "service"), text(command, "id"));
      Map<String, Object> values = new HashMap<>();
      command.get("values").fields().forEachRemaining(entry -> values.put(entry.getKey(), entry.getValue().asText()));
      return JSON.getNodeFactory().textNode(found.buildUriSpec(values));
    }

    /** Reads the data of a node, and builds its uri spec with {@code x} as 1. */
    private JsonNode read(String hex) throws Exception {
      byte[] data = new byte[hex.length() / 2];
      for (int i = 0; i < data.length; i++) {
        data[i] = (byte) Integer.parseInt(hex.substring(2 * i, 2 * i + 2), 16);
      }
      ServiceInstance<Object> found = serializer.deserialize(data);
      ObjectNode read = (ObjectNode) described(found);
      read.put("built", found.buildUriSpec(Collections.singletonMap("x", 1)));
      // Some payloads are no JSON.
      read.remove("payload");
      return read;
    }

    /** Reads as Spring Cloud ZooKeeper does. */
    private static JsonNode readForSpring(String data) throws Exception {
      JsonInstanceSerializer<ZookeeperInstance> serializer = new JsonInstanceSerializer<>(ZookeeperInstance.class);
      // The class is looked at only here, as in whoever asks for the metadata.
      ZookeeperInstance payload = serializer.deserialize(data.getBytes(StandardCharsets.UTF_8)).getPayload();
      return JSON.valueToTree(payload);
    }

    /** Writes as Spring Cloud ZooKeeper does. */
    private static JsonNode writeForSpring(JsonNode command) throws Exception {
      String id = text(command, "id");
      String name = text(command, "name");
      Map<String, String> metadata = new HashMap<>();
      command.get("metadata").fields().forEachRemaining(entry -> metadata.put(entry.getKey(), entry.getValue().asText()));
      ServiceInstance<ZookeeperInstance> instance = ServiceInstance.<ZookeeperInstance>builder()
          .name(name).id(id).address("10.0.0.1").port(command.get("port").asInt())
          .payload(new ZookeeperInstance(id, name, metadata)).build();
      byte[] bytes = new JsonInstanceSerializer<>(ZookeeperInstance.class).serialize(instance);
      return JSON.getNodeFactory().textNode(new String(bytes, StandardCharsets.UTF_8));
    }

    /** Reads as Curator did when instances had nine fields: what it does not know is an error. */
    private static JsonNode readStrictly(String data) throws Exception {
      Class<?> nineFields = Class.forName("org.apache.curator.x.discovery.details.OldServiceInstance");
      JSON.readValue(data, JSON.getTypeFactory().constructParametricType(nineFields, Object.class));
      return null;
    }
  }

  private static String text(JsonNode node, String field) {
    JsonNode value = node.get(field);
    if (value == null) {
      throw new IllegalArgumentException("missing: " + field);
    }
    return value.isNull() ? null : value.asText();
  }

  private static ServiceInstance<Object> instance(JsonNode described) throws Exception {
    ServiceInstanceBuilder<Object> builder = ServiceInstance.builder()
        .name(text(described, "name"))
        .id(text(described, "id"))
        .address(text(described, "address"))
        .registrationTimeUTC(described.get("registrationTimeUTC").asLong())
        .serviceType(ServiceType.valueOf(text(described, "serviceType")))
        .enabled(described.get("enabled").asBoolean())
        .payload(payload(described.get("payload"), described.path("payloadType").asText("")));
    if (described.hasNonNull("port")) {
      builder.port(described.get("port").asInt());
    }
    if (described.hasNonNull("sslPort")) {
      builder.sslPort(described.get("sslPort").asInt());
    }
    if (described.hasNonNull("uriSpec")) {
      builder.uriSpec(new UriSpec(text(described, "uriSpec")));
    }
    return builder.build();
  }

  /** A payload as a Java program would give it: as it comes, or as one of the types that JSON does not tell. */
  private static Object payload(JsonNode value, String type) throws Exception {
    switch (type) {
      case "long":
        return value.asLong();
      case "array":
        return JSON.treeToValue(value, Object[].class);
      case "bean":
        return JSON.treeToValue(value, Zone.class);
      default:
        Object natural = JSON.treeToValue(value, Object.class);
        return natural instanceof Map ? new HashMap<>((Map<?, ?>) natural) : natural;
    }
  }

  /** A payload of a class of one's own. */
  public static final class Zone {
    public String zone;
    public int weight;
  }

  private static ArrayNode described(Collection<ServiceInstance<Object>> instances) {
    ArrayNode all = JSON.createArrayNode();
    instances.stream().sorted(Comparator.comparing(ServiceInstance::getId)).forEach(one -> all.add(described(one)));
    return all;
  }

  private static JsonNode described(ServiceInstance<Object> instance) {
    if (instance == null) {
      return JSON.nullNode();
    }
    ObjectNode described = JSON.createObjectNode();
    described.put("name", instance.getName());
    described.put("id", instance.getId());
    described.put("address", instance.getAddress());
    described.put("port", instance.getPort());
    described.put("sslPort", instance.getSslPort());
    described.set("payload", JSON.valueToTree(instance.getPayload()));
    described.put("registrationTimeUTC", instance.getRegistrationTimeUTC());
    described.put("serviceType", instance.getServiceType() == null ? null : instance.getServiceType().name());
    described.put("enabled", instance.isEnabled());
    described.put("uriSpec", instance.getUriSpec() == null ? null : template(instance.getUriSpec()));
    return described;
  }

  private static String template(UriSpec spec) {
    StringBuilder template = new StringBuilder();
    for (UriSpec.Part part : spec.getParts()) {
      template.append(part.isVariable() ? "{" + part.getValue() + "}" : part.getValue());
    }
    return template.toString();
  }
}
